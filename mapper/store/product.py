"""Contents of a store, a map or the guide of a map: its grid, its bands, and the digest that tells it from others.

The store itself treats both alike: tiles of whole shards, a record for each, one transaction for many. What differs is
which bands there are and what the root group says of them, and that is a :class:`Product`.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from mapper.errors import SpecError
from mapper.grid import MapGrid
from mapper.predict.quality import cf_attributes, choose_dtype, list_bands, list_flags
from mapper.spec import Channel, MapSpec, TargetBand
from mapper.store.encoding import Encoding
from mapper.store.geozarr import AXES, GRID_MAPPING, LEVEL_AXES
from mapper.store.reduction import Rule

Kind = Literal["map", "guide"]
Role = Literal["value", "sd", "sample", "quality", "count", "channel", "ancillary"]
"""Content of a band: a target, its standard deviation, a sample of it, flags, observations, a channel of a guide,
anything else."""

_COORDINATES = (*AXES, *LEVEL_AXES, "ledger", "pyramid", GRID_MAPPING)
"""Names of what lies beside the bands in the root group."""
NOT_WRITTEN = 1 << 15
"""Bit of ``qa`` where no tile with data was written; the fill of that array, never set by a task."""
DAYS = "days since 1970-01-01"
"""Units of days, as CF has them."""
NO_GUIDE = 255
"""In ``gaps``, where no tile of the guide was written."""


_GAIN = Encoding(dtype="uint16", scale_factor=0.02)
"""Gain in detail, 0 to 1310: beyond lie pixels of a source without any detail."""
_RISK = Encoding(dtype="uint8", scale_factor=0.005)
"""Probability, 0 to 1."""
_NOT_IN_ATTRIBUTES = {"classes", "sd_classes"}
"""Keys of a target that may hold infinity, which JSON cannot say; the description as a whole has them."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """One array of pixels, (y, x)."""

    name: str
    role: Role
    of: str = ""
    """Name of the value band that an sd, sample or quality band belongs to; empty where it belongs to all."""
    dtype: str
    """Stored numbers."""
    fill: float
    """Stored number where no tile was written."""
    encoding: Encoding | None = None
    """Stored numbers to values; None for flags and counts, which are stored as they are."""
    reduction: Rule
    """Rule by which a pyramid reduces 2 x 2 pixels."""
    attributes: Mapping[str, Any]
    """CF attributes."""
    bounds: tuple[float | None, float | None] = (None, None)
    """Least and greatest value that there can be; None where there is none."""
    value_range: float | None = None
    """Width of the usual range of values, for colours; None where nothing is known of it."""

    @property
    def units(self) -> str:
        """Return the units of the values; ``1`` for numbers that have none."""
        return str(self.attributes.get("units", "1"))

    @property
    def vertical_datum(self) -> str:
        """Return the vertical datum of heights; empty for other values, and where nobody says."""
        return str(self.attributes.get("vertical_datum", ""))

    @property
    def limits(self) -> tuple[float, float]:
        """Return the least and the greatest value that there can be, by its bounds and the numbers it is stored as."""
        least, most = self.encoding.limits if self.encoding else (-math.inf, math.inf)
        low, high = self.bounds
        return least if low is None else max(least, low), most if high is None else min(most, high)

    @property
    def long_name(self) -> str:
        """Return the name for people."""
        return str(self.attributes.get("long_name", self.name))


@dataclass(frozen=True, kw_only=True)
class Banded:
    """Bands in the order of the checksums of tiles, found by name and role."""

    bands: tuple[Band, ...]

    @property
    def band_names(self) -> tuple[str, ...]:
        """Return the names of all bands, in their order."""
        return tuple(band.name for band in self.bands)

    @property
    def values(self) -> tuple[Band, ...]:
        """Return the target bands of a map; a guide has none."""
        return tuple(band for band in self.bands if band.role == "value")

    @property
    def channels(self) -> tuple[Band, ...]:
        """Return the channels of a guide; a map has none."""
        return tuple(band for band in self.bands if band.role == "channel")

    @property
    def ancillary(self) -> tuple[Band, ...]:
        """Return what else a map says of its pixels."""
        return tuple(band for band in self.bands if band.role == "ancillary")

    @property
    def quality(self) -> Band:
        """Return the band of flags; its fill marks pixels of tiles that were never written."""
        return next(band for band in self.bands if band.role == "quality")

    @property
    def count(self) -> Band:
        """Return the band that counts observations."""
        return next(band for band in self.bands if band.role == "count")

    @property
    def pixel_bytes(self) -> int:
        """Return the bytes of one pixel of all bands, before compression."""
        return sum(np.dtype(band.dtype).itemsize for band in self.bands)

    def band(self, name: str) -> Band:
        """Return a band by name.

        Raises:
            KeyError: If there is none of that name.
        """
        for band in self.bands:
            if band.name == name:
                return band
        raise KeyError(name)

    def sd_of(self, name: str) -> Band | None:
        """Return the standard deviation of a value band; None if it has none."""
        return next((band for band in self.bands if band.role == "sd" and band.of == name), None)


@dataclass(frozen=True, kw_only=True)
class Product(Banded):
    """Contents of one store."""

    kind: Kind
    name: str
    title: str
    source: str
    """One line on what it was made from."""
    spec: MapSpec
    digest: str
    """Sha256 of everything that can change a pixel, but for the items and the model."""
    grid: MapGrid
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further attributes of the root group."""


def map_product(spec: MapSpec, *, vertical_datum: str = "", knows_domain: bool = False) -> Product:
    """Return the product that a map is: its target bands, each with its standard deviation, flags and observations.

    Args:
        spec: The map.
        vertical_datum: Datum of its heights; empty where it has none, or nobody says.
        knows_domain: True for a model that knows what it was judged on, so that a flag can say what is beyond.

    Raises:
        SpecError: If a target band has the name of another array.
    """
    bands = (
        *_make_target_bands(spec.targets, vertical_datum),
        _make_quality_band(spec, knows_domain=knows_domain),
        _make_count_band(),
        *_make_ancillary_bands(spec),
    )
    clash = _find_clash(bands)
    if clash:
        raise SpecError(f"the target gives two arrays of the store the name {clash}; choose another name of its band")
    collections = ", ".join(sorted({layer.collection for layer in spec.guide.layers}))
    sharpened = f"{spec.source.collection} ({', '.join(spec.source.band_names)}) sharpened by {spec.model.name}"
    return Product(
        kind="map",
        name=spec.name,
        title=f"{spec.name}: {_name_targets(spec)}",
        source=f"{sharpened} with {collections}" if collections else sharpened,
        spec=spec,
        digest=spec.digest,
        grid=spec.map_grid,
        bands=bands,
        extra=_describe_single(spec.targets) | ({"vertical_datum": vertical_datum} if vertical_datum else {}),
    )


def guide_product(spec: MapSpec, *, grid: MapGrid, units: Mapping[str, str], halo_px: int) -> Product:
    """Return the product that the guide of a map is: a band for each channel, observations, and missing channels.

    Args:
        spec: The map.
        grid: The map's, with whole tiles around it; its area is what is wanted.
        units: Units of each channel of the guide, by its name.
        halo_px: Context that the guide holds around each tile of the map, in pixels.

    Raises:
        SpecError: If a channel has the name of another array.
    """
    channels = (_make_channel_band(channel, units[channel.name]) for channel in spec.guide.channels)
    bands = (*channels, _make_count_band(), _make_gap_band())
    clash = _find_clash(bands)
    if clash:
        raise SpecError(f"guide channel {clash} has the name of another array of the store; rename the band")
    return Product(
        kind="guide",
        name=spec.name,
        title=f"{spec.name}: guide, {spec.period.start} to {spec.period.end}",
        source=", ".join(sorted({layer.collection for layer in spec.guide.layers})),
        spec=spec,
        digest=spec.guide_digest,
        grid=grid,
        bands=bands,
        extra={"mapper:bands": [band.name for band in bands], "mapper:halo_px": halo_px},
    )


def choose_reduction(role: Role, units: str) -> Rule:
    """Return the rule by which a pyramid reduces a band of a role."""
    if role == "quality":
        return "flags"
    if role == "count":
        return "count"
    if units == DAYS:
        return "first"
    return "decibels" if units == "dB" and role != "sd" else "mean"


def _make_channel_band(channel: Channel, units: str) -> Band:
    encoding, months = Encoding.of_units(units), ", ".join(str(month) for month in channel.months)
    when = f"{channel.season} (months {months})" if channel.season else "any date"
    orbit = f", {channel.orbit} orbit" if channel.orbit else ""
    about = {"long_name": f"{channel.collection} {channel.band}, {when}{orbit}", "units": units, **encoding.attributes}
    return _make_encoded_band(channel.name, "channel", encoding, about)


def _make_encoded_band(name: str, role: Role, encoding: Encoding, attributes: Mapping[str, Any], of: str = "") -> Band:
    return Band(
        name=name,
        role=role,
        of=of,
        dtype=encoding.dtype,
        fill=encoding.fill,
        encoding=encoding,
        reduction=choose_reduction(role, str(attributes["units"])),
        attributes=attributes,
    )


def _make_gap_band() -> Band:
    attributes = {
        "long_name": "whether a channel of the guide is missing",
        "flag_values": [0, 1, NO_GUIDE],
        "flag_meanings": "complete gap not_written",
    }
    return Band(name="gaps", role="quality", dtype="uint8", fill=NO_GUIDE, reduction="flags", attributes=attributes)


def _make_count_band() -> Band:
    """Return the band of observations that entered the guide."""
    attributes = {
        "long_name": "valid observations in the guide",
        "standard_name": "number_of_observations",
        "units": "1",
    }
    return Band(name="n_valid", role="count", dtype="uint16", fill=0, reduction="count", attributes=attributes)


def _make_quality_band(spec: MapSpec, *, knows_domain: bool) -> Band:
    flags = cf_attributes(list_flags(spec, knows_domain=knows_domain))
    flags.pop("valid_range", None)  # the flag of tiles that were never written lies outside it
    attributes = {
        **flags,
        "standard_name": "quality_flag",
        "flag_masks": [*flags["flag_masks"], NOT_WRITTEN],
        **({"flag_values": [*flags["flag_values"], NOT_WRITTEN]} if "flag_values" in flags else {}),
        "flag_meanings": f"{flags['flag_meanings']} not_written",
    }
    dtype = choose_dtype(spec.target.quality)
    return Band(name="qa", role="quality", dtype=dtype, fill=NOT_WRITTEN, reduction="flags", attributes=attributes)


def _make_ancillary_bands(spec: MapSpec) -> Iterator[Band]:
    """Yield the bands of quality that a map asks for, in their order."""
    for name in list_bands(spec.target.quality):
        if name == "n_dates":
            about = {"long_name": "dates that lie on the anchor and show what it shows", "units": "1"}
            yield Band(name=name, role="ancillary", dtype="uint16", fill=0, reduction="count", attributes=about)
            continue
        long_name, units, encoding = _describe_ancillary(name, spec.targets[0])
        about = {"long_name": long_name, "units": units, **encoding.attributes}
        yield _make_encoded_band(name, "ancillary", encoding, about)


def _describe_ancillary(name: str, first: TargetBand) -> tuple[str, str, Encoding]:
    """Return name for people, units and encoding of a band of quality, by the first band of the target."""
    if name == "anchor_days":
        return "day that is shown, UTC", DAYS, Encoding(dtype="uint16")
    if name == "detail_gain":
        return "energy of detail finer than the source over that of its bicubic interpolation", "1", _GAIN
    if name == "risk":
        return "estimated probability of detail that is neither the truth's nor the source's", "1", _RISK
    residual = "largest difference to the source, seen through the operator"
    return residual, first.units, Encoding.of_sd(first.encoding)


def _find_clash(bands: Sequence[Band]) -> str:
    """Return the names that two arrays of a store would have; empty if there is none."""
    names = Counter([*_COORDINATES, *(band.name for band in bands)])
    return ", ".join(sorted(name for name, count in names.items() if count > 1))


def _make_target_bands(targets: Sequence[TargetBand], vertical_datum: str) -> Iterator[Band]:
    shared = Counter(target.long_name for target in targets)
    for target in targets:
        is_shared = shared[target.long_name] > 1
        long_name = ", ".join(filter(None, (target.long_name, target.name))) if is_shared else target.long_name
        yield _make_value_band(target, long_name or target.name, vertical_datum)
        if target.sd:
            yield _make_sd_band(target, long_name or target.name)
        for name in target.sample_names:
            yield _make_sample_band(target, name, long_name or target.name)


def _make_value_band(target: TargetBand, long_name: str, vertical_datum: str) -> Band:
    encoding = Encoding.of_value(target.encoding)
    ancillary = [_name_sd(target)] if target.sd else []
    attributes = {
        "long_name": long_name,
        "units": target.units,
        "ancillary_variables": " ".join([*ancillary, "qa", "n_valid"]),
        # CF names geoids in the grid mapping alone, which all bands share
        **({"vertical_datum": vertical_datum} if vertical_datum else {}),
        **encoding.attributes,
    }
    band = _make_encoded_band(target.name, "value", encoding, attributes)
    return replace(band, bounds=target.bounds, value_range=target.value_range)


def _make_sd_band(target: TargetBand, long_name: str) -> Band:
    encoding = Encoding.of_sd(target.encoding)
    attributes = {
        "long_name": f"standard deviation of {long_name}",
        "units": target.units,
        "comment": "of a model that gives one: the model's, calibrated on places it was not trained on, "
        "with that of the source in it; of any other model: that of the source pixel alone",
        **encoding.attributes,
    }
    return _make_encoded_band(_name_sd(target), "sd", encoding, attributes, of=target.name)


def _make_sample_band(target: TargetBand, name: str, long_name: str) -> Band:
    encoding = Encoding.of_value(target.encoding)
    attributes = {
        "long_name": f"sample {name.rpartition('_s')[2]} of {long_name}",
        "units": target.units,
        "comment": "one of the images that the source may show; the value band is the mean of all that were drawn",
        **encoding.attributes,
    }
    return _make_encoded_band(name, "sample", encoding, attributes, of=target.name)


def _name_sd(target: TargetBand) -> str:
    return f"{target.name}_sd"


def _describe_single(targets: Sequence[TargetBand]) -> dict[str, Any]:
    """Return the attribute by which a mapper that knows no roles finds the only band of a map."""
    if len(targets) > 1 or not targets[0].sd:
        return {}
    about = targets[0].model_dump(mode="json", include={"name", "long_name", "units", "encoding"})
    return {"mapper:target": about | {"non_negative": targets[0].bounds == (0, None)}}


def _name_targets(spec: MapSpec) -> str:
    names = ", ".join(band.long_name or band.name for band in spec.targets)
    return spec.target.long_name or names
