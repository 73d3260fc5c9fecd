"""Outputs of a model become the bands of a tile: consistency, flags, standard deviation, crop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mapper.arrays import BoolArray, Float32Array, Float64Array, UInt16Array
from mapper.grid import Window, coarsen
from mapper.models.contract import Contract
from mapper.models.risk import Risk
from mapper.predict.appraisal import Appraisal
from mapper.predict.operators import Operator, expand, make_operator
from mapper.predict.predictor import Estimate, Prediction
from mapper.predict.quality import APPRAISED, Flags, choose_dtype, combine, list_bands, mask_of
from mapper.spec import BandConsistency, MapSpec, TargetBand
from mapper.spec.target import name_sample

Bands = dict[str, npt.NDArray[Any]]
"""Arrays (y, x) of a tile by name of the band."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The image that a target is held against, on source pixels; of a stack its anchor."""

    image: Float32Array
    """(band, y, x), a band for each of the target, NaN where missing."""
    sd: Float32Array
    """Like ``image``: its standard deviation, NaN where unknown."""


@dataclass(frozen=True, kw_only=True)
class Postprocessor:
    """Turns what a model gives for a window into the bands of its tile."""

    spec: MapSpec
    contract: Contract
    scale: int
    core: Window
    """The tile."""
    window: Window
    """Window that was read for it."""
    inside: BoolArray
    """(y, x) of the window: True inside the area of the map."""
    limits: tuple[tuple[float, float], ...] = ()
    """Least and greatest value of each band, by its bounds and the numbers it is stored as; for ``bqa``."""
    risk: Risk | None = None
    """Estimate of the risk of hallucination; None where the model's card has none, or the map asks for none."""

    def finish(
        self,
        prediction: Prediction,
        source: Reference,
        *,
        n_valid: UInt16Array,
        flags: Flags,
        ancillary: Mapping[str, npt.NDArray[Any]] = MappingProxyType({}),
    ) -> tuple[Bands, dict[str, float | None]]:
        """Hold each band against the source on the whole window, flag, and crop to the tile.

        Args:
            prediction: Outputs of the model for the window.
            source: What the target is held against.
            n_valid: (y, x) valid observations of each target pixel.
            flags: What reading has to say of target pixels.
            ancillary: (y, x) of target pixels by name of an ancillary band: those that reading knows of.

        Returns:
            Arrays (y, x) of the tile: each value float32 in target units, its standard deviation, samples, ``qa`` and
            ``n_valid`` uint16, ancillary bands; and for each value the largest difference to the source that is left,
            None where there is no source.
        """
        targets = self.spec.targets
        outputs = self.contract.name_means([band.name for band in targets])
        drawn: list[_Drawn] = []
        bands: Bands = {}
        residuals: dict[str, float | None] = {}
        known_somewhere = np.zeros(self.window.shape, bool)
        left = np.full(source.image.shape, np.nan)
        judged: list[Flags] = [flags, {"outside_area": ~self.inside}]
        parts = zip(targets, outputs, source.image, source.sd, left, strict=True)
        for target, output, image, sd, rest in parts:
            band = _Band(target=target, tie=self.spec.consistency.of(target.name), scale=self.scale)
            estimate = Estimate.of(prediction, self.contract, output)
            known = expand(np.isfinite(image), self.scale) & self.inside
            known_somewhere |= known
            value = band.enforce(estimate.mean, image, sd)
            bands[target.name] = self._hide(value, known)
            deviation = self._find_sd(estimate, sd) if target.sd or self._appraises else None
            if target.sd and deviation is not None:
                bands[f"{target.name}_sd"] = self._hide(deviation, known)
            if deviation is not None and self._appraises:
                drawn.append(_Drawn(estimate.mean, value, deviation, band.measure(estimate.mean, image)))
            for number, name in enumerate(target.sample_names):
                sample = prediction.outputs[name_sample(output, number)]
                bands[name] = self._hide(band.enforce(sample, image, sd), known)
            rest[:] = band.measure(value, image)
            residuals[target.name] = self._residual(rest)
            judged.append(band.flag(estimate.mean, image, sd))
        told = {**ancillary, "consistency_residual": expand(np.fmax.reduce(left).astype(np.float32), self.scale)}
        if self._appraises:
            more, flags_more = self._appraise(drawn, source.image, ancillary.get("n_dates", 1))
            told |= more
            judged.append(flags_more)
        bands["qa"] = self._crop(self._combine(judged, known_somewhere))
        bands["n_valid"] = self._crop(np.where(known_somewhere, n_valid, np.uint16(0)))
        for name in list_bands(self.spec.target.quality):
            bands[name] = self._crop(np.where(known_somewhere, told[name], _blank(name)))
        return bands, residuals

    def _combine(self, judged: Sequence[Flags], known: BoolArray) -> npt.NDArray[Any]:
        """Return the bits of all pixels, (y, x); of one without a value only why it has none."""
        dtype = choose_dtype(self.spec.target.quality)
        bits = combine(judged, self.window.shape, dtype=dtype)
        return np.where(known, bits, _bare_flags(self.inside).astype(dtype))

    @property
    def _appraises(self) -> bool:
        """True for a map that asks for what follows from all of its bands together."""
        return not APPRAISED.isdisjoint(self.spec.target.quality)

    def _appraise(
        self, drawn: Sequence["_Drawn"], image: Float32Array, n_dates: npt.NDArray[Any] | int
    ) -> tuple[dict[str, Float32Array], Flags]:
        """Return bands of quality (y, x) that the map asks for, by name, and further flags."""
        asked = self.spec.target.quality
        mean, value, sd, residual = (np.stack(each) for each in zip(*drawn, strict=True))
        appraisal = Appraisal(mean=mean, value=value, sd=sd, image=image, residual=residual, scale=self.scale)
        features = appraisal.describe(n_dates) if self.risk else None
        bands = {"detail_gain": appraisal.gain} if "detail_gain" in asked else {}
        flags: dict[str, BoolArray | np.bool_ | bool] = {}
        if "bqa" in asked:
            flags |= appraisal.flag(self.limits, has_zero=self.spec.target.heights is None)
        if self.risk and features is not None:
            flags |= {"out_of_domain": self.risk.find_strange(features)} if "bqa" in asked else {}
            bands |= {"risk": self.risk.estimate(features)} if "risk" in asked else {}
        return {name: band.astype(np.float32) for name, band in bands.items()}, flags

    def _find_sd(self, estimate: Estimate, sd: Float32Array) -> Float32Array:
        """Return the standard deviation of the target; that of the source alone where the model gives none."""
        source_sd: Float32Array = expand(sd, self.scale)
        total = estimate.total_sd(source_sd, sees_source_sd=self.contract.sees_source_sd)
        return source_sd if total is None else total

    def _residual(self, rest: Float64Array) -> float | None:
        """Return the largest difference to the source, (y, x) of it, among the source pixels that the tile touches."""
        coarse = coarsen(self.core.grown(0, self.scale).inside(self.window), self.scale)
        left = rest[coarse]
        return float(np.nanmax(left)) if np.isfinite(left).any() else None

    def _hide(self, array: Float32Array, known: BoolArray) -> Float32Array:
        cropped: Float32Array = self._crop(np.where(known, array, np.float32(np.nan)))
        return cropped

    def _crop(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.ascontiguousarray(array[self.core.inside(self.window)])


class _Drawn(NamedTuple):
    """One band of the target, (y, x), and how far the model's mean lies from the source, (y, x) of that."""

    mean: Float32Array
    value: Float32Array
    sd: Float32Array
    residual: Float64Array


@dataclass(frozen=True, kw_only=True)
class _Band:
    """One band of the target and its tie to the source."""

    target: TargetBand
    tie: BandConsistency
    scale: int

    @property
    def operator(self) -> Operator:
        return make_operator(self.tie, self.scale)

    def enforce(self, mean: Float32Array, image: Float32Array, sd: Float32Array) -> Float32Array:
        return self.operator.enforce(
            mean, image, sd, mode=self.tie.mode, bounds=self.target.bounds, tolerance=self.tie.tolerance
        )

    def measure(self, value: Float32Array, image: Float32Array) -> Float64Array:
        """Return the difference of a target to its source, (y, x) of the source; below it none, where it may lie there.

        NaN where either is missing.
        """
        difference = self.operator.apply(value) - image
        return np.maximum(difference, 0) if self.tie.mode == "below" else np.abs(difference)

    def flag(self, mean: Float32Array, image: Float32Array, sd: Float32Array) -> Flags:
        """Return what the source says of what the model gave, before it was enforced."""
        unknown = np.nan if self.tie.tolerance is None else self.tie.tolerance
        limit = np.where(np.isnan(sd), np.float32(unknown), sd)
        if self.tie.mode == "below" and self.tie.tolerance is not None:
            limit = np.full_like(limit, self.tie.tolerance)  # the very one that is enforced
        disagrees = self.measure(mean, image) > limit
        return {
            "source_missing": expand(np.isnan(image), self.scale),
            "source_disagrees": expand(disagrees, self.scale),
        }


def blank_bands(spec: MapSpec, inside: BoolArray, flag: str) -> Bands:
    """Return the bands of a tile without a pixel; inside the area a flag says why."""
    names = (
        name
        for band in spec.targets
        for name in (band.name, *([f"{band.name}_sd"] if band.sd else []), *band.sample_names)
    )
    bits = np.where(inside, np.uint16(mask_of(flag)), np.uint16(mask_of("outside_area")))
    return {
        **{name: np.full(inside.shape, np.nan, np.float32) for name in names},
        "qa": bits.astype(choose_dtype(spec.target.quality)),
        "n_valid": np.zeros(inside.shape, np.uint16),
        **{name: np.full(inside.shape, _blank(name)) for name in list_bands(spec.target.quality)},
    }


def _blank(name: str) -> np.float32 | np.uint16:
    """Return what an ancillary band holds where nothing is known, in the type that it comes in."""
    return np.uint16(0) if name == "n_dates" else np.float32(np.nan)


def _bare_flags(inside: BoolArray) -> UInt16Array:
    return np.where(inside, np.uint16(mask_of("source_missing")), np.uint16(mask_of("outside_area")))
