"""The inputs of a map: the source that is sharpened, and the guide that shows where its detail lies."""

import hashlib
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mapper.description import FilePath, Fractional, Location, NameOrFile, Part
from mapper.errors import SpecError


def _check_months(months: tuple[int, ...]) -> tuple[int, ...]:
    if not months or not all(1 <= month <= 12 for month in months):
        raise ValueError(f"months are 1 to 12, got {list(months)}")
    return months


Months = Annotated[tuple[int, ...], AfterValidator(_check_months)]
Orbit = Literal["ascending", "descending"]
DatumShift = Annotated[float, Field(strict=True)] | FilePath
"""Metres to add to heights to reach another vertical datum: a number, or a GeoTIFF grid of metres."""
_YEAR = tuple(range(1, 13))


def hash_grid(path: Path) -> str:
    """Return the sha256 of a grid of metres.

    Raises:
        SpecError: If it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise SpecError(f"datum_shift {path} cannot be read: {error}; give metres, or a GeoTIFF of metres") from error


class CatalogSpec(Part):
    """An archive: a provider by name (or YAML path), and changes to its description."""

    provider: NameOrFile
    """Name from ``mapper catalog list``, or a YAML file that describes an archive."""
    href: Location | None = None
    """STAC API root or static ``catalog.json``, instead of the provider's own endpoint."""
    override: dict[str, Any] = Field(default_factory=dict)
    """Changes to the provider's description, as nested mappings."""


class LayerSpec(Part):
    """Bands of one collection that enter the guide."""

    collection: str
    """Collection of the archive."""
    bands: tuple[str, ...] = Field(min_length=1)
    """Bands by our names, for example B04, vv, elevation."""
    orbit: Orbit | None = None
    """Orbit direction that is used alone (Sentinel-1); None uses both."""
    cloud_limit: float = Field(default=100, ge=0, le=100)
    """Scene cloud cover in percent above which items are not searched."""
    catalog: CatalogSpec | None = None
    """Archive of this layer's items; None takes the map's catalogue."""
    static: bool = False
    """True for a layer that does not change with time (elevation): items of any date, one channel for each band
    instead of seasons."""
    reducer: Literal["median", "mean"] | None = None
    """Reduction of dates to one image; None takes the collection's own (median for reflectance, mean power for
    radar)."""
    items: Literal["own", "source"] = "own"
    """Items that the layer is made from: its ``own`` of each season, or those of the ``source``, a stack of the same
    collection: each pixel is then that of the item which the source shows there, one channel for each band."""
    datum_shift: DatumShift | None = None
    """Metres to add to the heights of this layer to reach the vertical datum of the map: a number, or a GeoTIFF grid of
    metres."""

    @property
    def is_seasonal(self) -> bool:
        """True where the layer has a channel of each band for every season."""
        return not self.static and self.items == "own"

    @model_validator(mode="after")
    def _takes_them_as_they_are(self) -> Self:
        own = self.orbit is not None or self.cloud_limit != 100 or self.static or self.reducer is not None
        if self.items == "source" and own:
            raise ValueError("items of the source are chosen there: leave out orbit, cloud_limit, static and reducer")
        return self


class Channel(Part):
    """One band of the guide in one season."""

    name: str
    """``{season}_{band}`` and, where one orbit was asked for, ``_{orbit}``; of a layer without seasons the band
    alone."""
    collection: str
    band: str
    season: str
    months: tuple[int, ...]
    orbit: str | None = None


class GuideSpec(Part):
    """The fine predictors: layers of bands, reduced to one image a season. Without a layer there is no guide."""

    layers: tuple[LayerSpec, ...] = ()
    """Layers, one for each collection and choice of its items."""
    seasons: dict[str, Months] = Field(default_factory=dict)
    """Months by season name; a channel exists for every season and band."""

    @cached_property
    def composites(self) -> tuple[tuple[str, Months, LayerSpec], ...]:
        """Season, months and layer of each composite: by season, then layer; those without seasons once, at the end."""
        seasonal = [
            (season, months, layer)
            for season, months in self.seasons.items()
            for layer in self.layers
            if layer.is_seasonal
        ]
        return (*seasonal, *(("", _YEAR, layer) for layer in self.layers if not layer.is_seasonal))

    @cached_property
    def channels(self) -> tuple[Channel, ...]:
        """Guide channels in the order of the array: by composite, then band."""
        return tuple(
            Channel(
                name="_".join(filter(None, (season, band, layer.orbit))),
                collection=layer.collection,
                band=band,
                season=season,
                months=months,
                orbit=layer.orbit,
            )
            for season, months, layer in self.composites
            for band in layer.bands
        )

    @model_validator(mode="after")
    def _has_seasons(self) -> Self:
        if not self.seasons and any(layer.is_seasonal for layer in self.layers):
            raise ValueError("seasons are missing: name the months of at least one, or mark all layers as static")
        return self

    @model_validator(mode="after")
    def _unique(self) -> Self:
        names = [channel.name for channel in self.channels]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise ValueError(f"guide channels appear twice: {', '.join(double)}")
        both = {layer.collection for layer in self.layers if layer.static}
        both &= {layer.collection for layer in self.layers if not layer.static}
        if both:
            raise ValueError(f"collection {', '.join(sorted(both))} is both static and not")
        return self


class SourceSpec(Part):
    """The input that is sharpened.

    A ``map`` has one value for each pixel (several items of one band are averaged). A ``stack`` keeps single dates,
    one a day, of one or several bands.
    """

    kind: Literal["map", "stack"] = "map"
    """Kind of input: one value for each pixel, or single dates that are kept apart."""
    collection: str
    """Collection of the archive."""
    variable: str = ""
    """Band of a map that is sharpened; ``bands`` names several."""
    bands: tuple[str, ...] = ()
    """Bands that are sharpened, in order, instead of ``variable``."""
    sd: str | None = None
    """Band with the standard deviation of ``variable``, per pixel, in the same units."""
    year: int | None = None
    """Year of the map; None takes every item in the period."""
    static: bool = False
    """True for a map that does not change with time (elevation): items of any date."""
    resolution: Fractional
    """Source pixel on the output grid; a multiple of the grid's resolution."""
    resampling: Literal["nearest", "bilinear", "cubic"] | None = None
    """Resampling onto a projected grid; a native grid copies. Of a stack: None takes the collection's own. Of a map:
    ``bilinear`` and ``cubic`` interpolate a smooth field such as terrain, across the borders of its files; None and
    ``nearest`` average by area."""
    sd_correlation: float | None = Field(default=None, ge=0)
    """Distance in metres at which the errors of two stored pixels correlate by 1/e, for the standard deviation of an
    area average; None takes them as fully correlated, the cautious choice."""
    dates: int = Field(default=1, ge=1)
    """Dates that a stack keeps for each pixel: the clearest ones, by the scene's cloud cover."""
    anchor: date | Literal["clearest", "median"] = "clearest"
    """Moment that the map of a stack shows: the date nearest to a day, the clearest date, or the median of all."""
    cloud_limit: float = Field(default=100, ge=0, le=100)
    """Scene cloud cover in percent above which items of a stack are not searched."""
    orbit: Orbit | None = None
    """Orbit direction that is used alone; None uses both."""
    datum_shift: DatumShift | None = None
    """Metres to add to its heights to reach the vertical datum of the map: a number, or a GeoTIFF grid of metres."""
    catalog: CatalogSpec | None = None
    """Archive of its items; None takes the map's catalogue."""

    @property
    def band_names(self) -> tuple[str, ...]:
        """Bands that are sharpened, in order."""
        return self.bands or (self.variable,)

    @property
    def is_field(self) -> bool:
        """True for a map that is interpolated between stored pixels."""
        return not self.is_stack and self.resampling in ("bilinear", "cubic")

    @property
    def is_stack(self) -> bool:
        """True where single dates are kept."""
        return self.kind == "stack"

    @model_validator(mode="after")
    def _has_bands(self) -> Self:
        if bool(self.variable) == bool(self.bands):
            raise ValueError("name the band in variable, or several in bands; exactly one of the two")
        if len(set(self.bands)) < len(self.bands):
            raise ValueError(f"bands appear twice: {', '.join(self.bands)}")
        if self.sd and len(self.band_names) > 1:
            raise ValueError(f"sd {self.sd!r} belongs to one band, got {len(self.band_names)} bands")
        return self

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.is_stack and (self.sd or self.year is not None or self.static):
            raise ValueError("a stack has no sd, year or static: its dates lie in the period")
        if not self.is_stack and (self.dates != 1 or self.anchor != "clearest"):
            raise ValueError("dates and anchor belong to a stack: add kind: stack")
        return self
