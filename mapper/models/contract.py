"""Contracts of models: inputs and outputs, checked against the map before the first task. Imports no torch.

Inputs are arrays (date, band, y, x) by role, outputs arrays (y, x) by name, both in physical units. Constants of
normalisation were fixed at training: statistics of one image or tile would leave seams.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from mapper.errors import ContractError
from mapper.spec.target import Bounds

FILL_STEPS = 2
"""Source pixels over which a missing source value is filled from its neighbours; enters every halo."""

_BEYOND = 1.5
"""Factor by which source pixels may be smaller or larger than any in training."""

ANY = "any"
"""Units of a model that gives what it gets."""


@dataclass(frozen=True, kw_only=True)
class BandNorm:
    """One band that a model expects, and how it was normalised in training."""

    name: str
    """Name as in the map description, for example ``summer_B04``."""
    units: str
    mean: float = 0.0
    sd: float = 1.0
    """Standard deviation in training; 0 for a band that was constant there: it is ignored."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a model: an array (date, band, y, x)."""

    role: str
    """``source``, ``guide``, or any name that the map gives."""
    bands: tuple[BandNorm, ...] = ()
    """Bands in order; empty for any number of bands in any units."""
    dates: int = 1
    """Most dates that are taken: 1 for a single image, 0 for any number. A missing date is NaN, not left out."""
    px: int = 1
    """Target pixels along an edge of one input pixel; 0 for as many as the scale."""
    optional: bool = False
    """True for an input that a map may lack."""
    cells_px: int = 0
    """Edge of the cells, in input pixels, in each of which dates are registered to the anchor; 0 where they are not."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """One output of a model: an array (y, x)."""

    name: str
    units: str
    kind: Literal["mean", "sd", "quality", "sample"] = "mean"
    """``sample`` is one realisation of a stochastic model, of which a map stores mean and standard deviation."""
    of: str = ""
    """Name of the output that a standard deviation or a quality belongs to."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Bands and dates that a map gives under one role."""

    bands: Sequence[tuple[str, str]]
    """Name and CF units of each band, in order."""
    dates: int = 1
    """Most dates that it gives."""
    has_sd: bool = False
    """True where a standard deviation comes with it."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """Inputs and outputs of a model, with the surroundings that it needs."""

    model: str
    """Architecture, for example ``msg``."""
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    """Empty for a model that gives a mean for each band of its source, whatever those are."""
    scale: int | None
    """The only scale the model works at; None for any."""
    halo_px: int
    """Radius of the receptive field in target pixels, at the only scale; see :meth:`halo`."""
    halo_source_px: int = 0
    """Further radius in source pixels, for models of any scale."""
    align_px: int = 1
    """Windows lie on multiples of this as well as on source pixel edges: for networks that pool or unshuffle."""
    sees_source_sd: bool = False
    """True for a model that takes the source's standard deviation; then it is part of the one that comes out."""
    sd_scale: float = 1.0
    """Factor of the standard deviation, as calibrated on sites not trained on."""
    bounds: Bounds = (None, None)
    """Range in target units that means are kept in."""
    noise_bands: int = 0
    """Bands of standard normal noise on target pixels that it takes in each step, of a model of any bands for each of
    them; 0 for a model that draws nothing."""
    samples: int = 1
    """Samples that a map draws of it, where it does not say."""
    steps: int = 1
    """Steps in which a sample is drawn, where the map does not say."""
    tile_exact: bool = True
    """False for a model that looks at a whole patch, whatever its size: tiles would not meet, so no map is made."""
    source_m: tuple[float, float] | None = None
    """Smallest and largest edge of the source pixels that it was trained on, metres; None where nobody says."""
    band_sd: bool = False
    """True for a model of any bands that gives a standard deviation for each. Of a sample, that is how far the truth
    is expected from it."""
    step_px: int = 0
    """Target pixels by which the receptive field grows with each step after the first."""

    @property
    def form(self) -> dict[str, Any]:
        """JSON form. A key younger than the first cards is in it only where it differs: digests stay."""
        form = asdict(self)
        for key, usual in (("tile_exact", True), ("source_m", None), ("band_sd", False), ("step_px", 0)):
            if form[key] == usual:
                del form[key]
        for entry in form["inputs"]:
            if not entry["cells_px"]:
                del entry["cells_px"]
        return form

    @property
    def digest(self) -> str:
        """Sha256 of the contract."""
        return digest_form(self.form)

    @property
    def guide(self) -> tuple[BandNorm, ...]:
        """Bands of the guide in order; empty for a model that looks at the source alone."""
        found = self.find_input("guide")
        return found.bands if found else ()

    @property
    def source(self) -> Input:
        """The input that is sharpened.

        Raises:
            ContractError: If there is none.
        """
        found = self.find_input("source")
        if found is None:
            raise ContractError(f"model {self.model} has no source among its inputs")
        return found

    @property
    def means(self) -> tuple[Output, ...]:
        """Outputs that become bands of the target, in order; of a stochastic model its samples."""
        return tuple(output for output in self.outputs if output.kind in ("mean", "sample"))

    @property
    def gives_sd(self) -> bool:
        """True where a standard deviation comes out."""
        return self.band_sd or any(output.kind == "sd" for output in self.outputs)

    @property
    def target_units(self) -> str:
        """CF units of the target; several, where bands differ, separated by commas."""
        return ", ".join(dict.fromkeys(output.units for output in self.means)) or ANY

    def take_steps(self, steps: int | None) -> "Contract":
        """Return this contract for samples that are drawn in so many steps; None leaves them as they are."""
        return self if steps is None else replace(self, steps=steps)

    def find_input(self, role: str) -> Input | None:
        """Return the input of a role, None where the model has none."""
        return next((entry for entry in self.inputs if entry.role == role), None)

    def sd_of(self, mean: str) -> str | None:
        """Return the name of the standard deviation of an output, None where there is none."""
        if self.band_sd:
            return f"{mean}_sd"
        return next((entry.name for entry in self.outputs if entry.kind == "sd" and entry.of == mean), None)

    def name_means(self, targets: Sequence[str]) -> tuple[str, ...]:
        """Return for each band of the target the name of the output that becomes it.

        Args:
            targets: Names of the target's bands, as :meth:`check` accepted them.
        """
        if not self.means:
            return tuple(name_band(index) for index in range(len(targets)))
        return (self.means[0].name,) if len(self.means) == 1 else tuple(targets)

    def halo(self, scale: int) -> int:
        """Return the radius of the receptive field in target pixels, as whole source pixels."""
        halo_px = self.halo_px + (self.steps - 1) * self.step_px
        return (-(-halo_px // scale) + self.halo_source_px) * scale

    def step(self, scale: int) -> int:
        """Return the step of windows and patches in target pixels: their edges are multiples of it."""
        edges = (entry.px for entry in self.inputs if entry.px)
        return math.lcm(scale, self.align_px, *edges)

    def check(
        self, offers: Mapping[str, Offer], *, targets: Sequence[tuple[str, str]], scale: int
    ) -> dict[str, tuple[int, ...]]:
        """Check that a map offers what the model demands.

        The only band of an input that is not the guide is matched by its units: a map may call it what it likes.

        Args:
            offers: What the map gives, by role.
            targets: Name and CF units of each band of the target.
            scale: Source pixel / target pixel.

        Returns:
            For each role of the model that is offered, the index of each band of the model among the map's bands.

        Raises:
            ContractError: Naming every difference.
        """
        faults: list[str] = []
        chosen: dict[str, tuple[int, ...]] = {}
        for entry in self.inputs:
            offer = offers.get(entry.role)
            if offer is None:
                faults += [] if entry.optional else [f"the map has no {entry.role}"]
                continue
            chosen[entry.role] = _choose_bands(entry, offer, faults)
        if self.scale not in (None, scale):
            faults.append(f"scale is {scale}, expected {self.scale}")
        faults += self._compare_targets(targets, offers)
        if self.sees_source_sd and not ("source" in offers and offers["source"].has_sd):
            faults.append("the standard deviation of the source is missing (source.sd)")
        if faults:
            offered = [name for role, offer in offers.items() if role != "source" for name, _ in offer.bands]
            raise ContractError(
                f"model {self.model} does not fit the map: {'; '.join(faults)} "
                f"(the map offers {', '.join(offered) or 'no guide channels'})"
            )
        return chosen

    def check_pixel(self, edge_m: float) -> None:
        """Check that the pixels of a source are about as large as in training.

        Args:
            edge_m: Metres.

        Raises:
            ContractError: If they are far smaller or larger: what is a house on one is a hill on the other.
        """
        if self.source_m is None:
            return
        least, most = self.source_m
        if not least / _BEYOND <= edge_m <= most * _BEYOND:
            known = f"{least:g} m" if least == most else f"{least:g} to {most:g} m"
            raise ContractError(
                f"model {self.model} was trained on source pixels of {known}, those of the map have {edge_m:.4g} m: "
                "take a source of that size, or train a model on this one"
            )

    def _compare_targets(self, targets: Sequence[tuple[str, str]], offers: Mapping[str, Offer]) -> list[str]:
        """Return the faults of the target: another number of bands, or other units."""
        if not self.means:
            number = len(offers["source"].bands) if "source" in offers else 0
            return [] if len(targets) == number else [f"{len(targets)} target bands from {number} source bands"]
        if len(self.means) != len(targets):
            given = ", ".join(output.name for output in self.means)
            return [f"{len(targets)} target bands are asked for, the model gives {len(self.means)} ({given})"]
        pairs = [(self._match_output(name, index), name, units) for index, (name, units) in enumerate(targets)]
        return [
            f"target is asked for in {units!r}, the model gives {output.units!r}"
            if output
            else f"target band {name} is not among the model's ({', '.join(entry.name for entry in self.means)})"
            for output, name, units in pairs
            if output is None or output.units not in (ANY, units)
        ]

    def _match_output(self, target: str, index: int) -> Output | None:
        """Return the output that becomes a band of the target; the only one whatever it is called."""
        if len(self.means) == 1:
            return self.means[index]
        return next((output for output in self.means if output.name == target), None)


def make_inputs(guide: tuple[BandNorm, ...], source: BandNorm) -> tuple[Input, ...]:
    """Return the inputs of a network that sharpens one coarse band with a guide; the guide may be empty."""
    coarse = Input(role="source", bands=(source,), px=0)
    return (Input(role="guide", bands=guide), coarse) if guide else (coarse,)


def make_outputs(name: str, units: str, *, gives_sd: bool) -> tuple[Output, ...]:
    """Return the outputs of a network with one target: its mean and, where it gives one, its standard deviation."""
    mean = Output(name=name, units=units)
    return (mean, Output(name=f"{name}_sd", units=units, kind="sd", of=name)) if gives_sd else (mean,)


def name_band(index: int) -> str:
    """Return the name of an output of a model that gives a mean for each band of its source."""
    return f"band_{index}"


def digest_form(form: Mapping[str, Any] | Sequence[str]) -> str:
    """Return the sha256 of a JSON form, of a contract or of digests."""
    return hashlib.sha256(json.dumps(form, sort_keys=True).encode()).hexdigest()


def _choose_bands(entry: Input, offer: Offer, faults: list[str]) -> tuple[int, ...]:
    """Return the index of each band of an input among those offered; adds to the faults."""
    if entry.dates and offer.dates > entry.dates:
        faults.append(f"{entry.role} has {offer.dates} dates, the model takes {entry.dates}")
    if not entry.bands:
        return tuple(range(len(offer.bands)))
    if entry.role != "guide" and len(entry.bands) == len(offer.bands) == 1:
        ((_, units),), (band,) = offer.bands, entry.bands
        if band.units not in (ANY, units):
            faults.append(f"{entry.role} is in {units!r}, expected {band.units!r}")
        return (0,)
    what = "guide channel" if entry.role == "guide" else f"{entry.role} band"
    names, units_of = [name for name, _ in offer.bands], dict(offer.bands)
    missing = [band for band in entry.bands if band.name not in units_of]
    faults += [f"{what} {band.name} is missing" for band in missing]
    faults += [
        f"{what} {band.name} is in {units_of[band.name]!r}, expected {band.units!r}"
        for band in entry.bands
        if band.name in units_of and units_of[band.name] != band.units
    ]
    return () if missing else tuple(names.index(band.name) for band in entry.bands)
