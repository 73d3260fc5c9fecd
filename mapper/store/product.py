"""What a store can hold: a map, or the guide of a map; its grid, its arrays, and the digest that tells it from others.

The store itself treats both alike: tiles of whole shards, a record for each, one transaction for many. What differs is
which arrays there are and what the root group says of them, and that is a :class:`Product`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mapper.errors import SpecError
from mapper.grid import MapGrid
from mapper.predict.quality import cf_attributes
from mapper.spec import Channel, MapSpec, TargetSpec
from mapper.store.encoding import Encoding
from mapper.store.geozarr import GRID_MAPPING
from mapper.store.tiles import NOT_WRITTEN, band_names

Kind = Literal["map", "guide"]

RESERVED = ("x", "y", "qa", "n_valid", "ledger", GRID_MAPPING)
"""Names that a target may not have."""
NO_GUIDE = 255
"""In ``gaps``, where no tile of the guide was written."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """One array of pixels."""

    name: str
    dtype: str
    fill: float
    """What is stored where no tile was written."""
    attributes: Mapping[str, Any]
    """CF attributes."""


@dataclass(frozen=True, kw_only=True)
class Product:
    """What one store holds."""

    kind: Kind
    name: str
    title: str
    source: str
    """What it was made from, in one line."""
    spec: MapSpec
    digest: str
    """Sha256 of everything that can change a pixel, but for the items and the model."""
    grid: MapGrid
    bands: tuple[Band, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further attributes of the root group."""


def product_of(spec: "MapSpec | Product") -> Product:
    """What the store of a map holds; a product is returned as it is."""
    return spec if isinstance(spec, Product) else map_product(spec)


def map_product(spec: MapSpec) -> Product:
    """The product that a map is.

    Raises:
        SpecError: If the target has the name of another array.
    """
    if spec.target.name in RESERVED:
        raise SpecError(f"target.name {spec.target.name!r} is the name of another array of the store; choose another")
    collections = ", ".join(sorted({layer.collection for layer in spec.guide.layers}))
    sharpened = f"{spec.source.collection} ({', '.join(spec.source.band_names)}) sharpened by {spec.model.name}"
    return Product(
        kind="map",
        name=spec.name,
        title=f"{spec.name}: {spec.target.long_name}",
        source=f"{sharpened} with {collections}" if collections else sharpened,
        spec=spec,
        digest=spec.digest,
        grid=spec.map_grid,
        bands=_describe_map(spec.target),
        extra={"mapper:target": spec.target.model_dump(mode="json")},
    )


def guide_product(spec: MapSpec, *, grid: MapGrid, units: Mapping[str, str], halo_px: int) -> Product:
    """The product that the guide of a map is: one array for each channel, observations, and where a channel is missing.

    Args:
        spec: The map.
        grid: The map's, with whole tiles around it; its area is what is wanted.
        units: Of each collection of the guide.
        halo_px: Context that the guide holds around each tile of the map, in pixels.

    Raises:
        SpecError: If a channel has the name of another array.
    """
    names = [channel.name for channel in spec.guide.channels]
    clash = sorted({"gaps", *RESERVED}.intersection(names))
    if clash:
        raise SpecError(f"guide channel {', '.join(clash)} has the name of another array of the store; rename the band")
    bands = (*(_describe_channel(channel, units[channel.collection]) for channel in spec.guide.channels), _count_band())
    bands = (*bands, _gap_band())
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


def _describe_channel(channel: Channel, units: str) -> Band:
    encoding, months = Encoding.of_units(units), ", ".join(str(month) for month in channel.months)
    when = f"{channel.season} (months {months})" if channel.season else "any date"
    orbit = f", {channel.orbit} orbit" if channel.orbit else ""
    about = {"long_name": f"{channel.collection} {channel.band}, {when}{orbit}", "units": units, **encoding.attributes}
    return Band(name=channel.name, dtype=encoding.dtype, fill=encoding.fill, attributes=about)


def _gap_band() -> Band:
    attributes = {
        "long_name": "whether a channel of the guide is missing",
        "flag_values": [0, 1, NO_GUIDE],
        "flag_meanings": "complete gap not_written",
    }
    return Band(name="gaps", dtype="uint8", fill=NO_GUIDE, attributes=attributes)


def _count_band() -> Band:
    """How many observations entered the guide, (y, x)."""
    attributes = {
        "long_name": "valid observations in the guide",
        "standard_name": "number_of_observations",
        "units": "1",
    }
    return Band(name="n_valid", dtype="uint16", fill=0, attributes=attributes)


def _describe_map(target: TargetSpec) -> tuple[Band, ...]:
    value, sd = Encoding.of_value(target.encoding), Encoding.of_sd(target.encoding)
    names = band_names(target)
    flags = cf_attributes()
    flags.pop("valid_range", None)  # the flag of tiles that were never written lies outside it
    about_value = {
        "long_name": target.long_name,
        "units": target.units,
        "ancillary_variables": " ".join(names[1:]),
        **value.attributes,
    }
    about_sd = {
        "long_name": f"standard deviation of {target.long_name}",
        "units": target.units,
        "comment": "of a model that gives one: the model's, calibrated on places it was not trained on, "
        "with that of the source in it; of any other model: that of the source pixel alone",
        **sd.attributes,
    }
    about_flags = {
        **flags,
        "standard_name": "quality_flag",
        "flag_masks": [*flags["flag_masks"], NOT_WRITTEN],
        "flag_meanings": f"{flags['flag_meanings']} not_written",
    }
    return (
        Band(name=names[0], dtype=value.dtype, fill=value.fill, attributes=about_value),
        Band(name=names[1], dtype=sd.dtype, fill=sd.fill, attributes=about_sd),
        Band(name=names[2], dtype="uint16", fill=NOT_WRITTEN, attributes=about_flags),
        _count_band(),
    )
