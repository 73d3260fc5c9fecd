"""Layers of web tiles: a band of a version, and its drawing."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import HTTPException

from mapper.errors import InputError
from mapper.predict.quality import read_flags
from mapper.serve.extent import Extent, find_extent
from mapper.serve.pixel import FLAG_MEANINGS
from mapper.serve.tiles.cache import ByteCache
from mapper.serve.tiles.colours import (
    UNFLAGGED,
    Colormap,
    encode_png,
    find_palette,
    index_flags,
    index_values,
    list_flag_colours,
    make_flag_palette,
)
from mapper.serve.tiles.render import MOST_PIXELS, MapView, Resampling, render_flags, render_values
from mapper.serve.tiles.styles import Style, choose_style
from mapper.serve.tiles.web_mercator import EDGE_PX, MAX_ZOOM, MOST_LATITUDE, TileLocator, WebTile
from mapper.serve.versions import ResolvedVersion, Versions
from mapper.store.errors import explain_faults
from mapper.store.ledger_arrays import STATUS_CODES
from mapper.store.rasters import Raster, Rasters

_MOST_VIEWS = 8
"""Versions whose layers stay open."""
_ROTATED = 1.5
"""Edge of the map that a tile spans when it lies askew, in its own edges."""


class Layers:
    """Bands of all versions as layers; for use by many threads.

    Args:
        versions: Versions of the store that is served.
        chunks: Cache of chunks, shared by all layers.
    """

    def __init__(self, versions: Versions, chunks: "ByteCache[npt.NDArray[Any]]") -> None:
        self._versions = versions
        self._chunks = chunks
        self._lock = threading.Lock()
        self._views: OrderedDict[str, tuple[MapView, dict[str, Style]]] = OrderedDict()
        self._grids: dict[str, tuple[TileLocator, Extent]] = {}

    def find(self, ref: str, variable: str | None) -> "Layer":
        """Return a band of a version; without a name, the first target band, or channel of a guide.

        Raises:
            UnknownVersionError: If there is no such version.
            HTTPException: 404 if it has no such variable.
        """
        found = self._versions.find(ref)
        view, styles = self._open(found)
        bands, names = view.rasters.bands, view.rasters.names
        if variable is not None and variable not in names:
            raise HTTPException(404, f"no such variable; there are {', '.join(names)}")
        name = variable or (bands.values or bands.channels)[0].name
        return Layer(name=name, ref=ref, found=found, view=view, styles=styles)

    def list(self, ref: str) -> "list[Layer]":
        """Return all bands of a version.

        Raises:
            UnknownVersionError: If there is no such version.
        """
        first = self.find(ref, None)
        return [
            Layer(name=name, ref=ref, found=first.found, view=first.view, styles=first.styles)
            for name in first.view.rasters.names
        ]

    def _open(self, found: ResolvedVersion) -> tuple[MapView, dict[str, Style]]:
        version = found.version
        with self._lock:
            known = self._views.get(version.snapshot)
            if known:
                self._views.move_to_end(version.snapshot)
                return known
        with explain_faults("the store"):
            description = version.description
        rasters = Rasters(version.ledger.session.store, description)
        with self._lock:
            digest = description.grid.digest
            if digest not in self._grids:
                self._grids[digest] = TileLocator(description.grid), find_extent(description)
            locator, extent = self._grids[digest]
            view = MapView(
                snapshot=version.snapshot, rasters=rasters, locator=locator, extent=extent, chunks=self._chunks
            )
            opened = self._views.setdefault(version.snapshot, (view, {}))
            while len(self._views) > _MOST_VIEWS:
                self._views.popitem(last=False)
            return opened


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One band of one version."""

    name: str
    ref: str
    """Name by which the version was asked for."""
    found: ResolvedVersion
    view: MapView
    styles: dict[str, Style]
    """Default styles found so far, by band."""

    @cached_property
    def raster(self) -> Raster:
        """Return the band at full resolution."""
        return self.view.rasters.find(self.name)

    @property
    def units(self) -> str:
        """Return the units of its values."""
        return self.raster.units

    @property
    def title(self) -> str:
        """Return its name for people."""
        return self.raster.band.long_name

    @property
    def zooms(self) -> tuple[int, int]:
        """Return the first zoom at which a tile needs no more of the map than is read for one, and the finest zoom."""
        locator, rasters = self.view.locator, self.view.rasters
        full = min(range(MAX_ZOOM + 1), key=lambda z: (locator.ratio(z) > 1, z))
        finest = 2 ** (rasters.levels - 1)
        rows, cols = (count // finest for count in rasters.grid.shape)
        edges = [_ROTATED * EDGE_PX * locator.ratio(z) / finest + 4 for z in range(full + 1)]
        fits = [z for z, edge in enumerate(edges) if min(edge, rows) * min(edge, cols) <= MOST_PIXELS]
        return min(fits, default=full), full

    def choose_drawing(self, colormap: Colormap | None, span: tuple[float, float] | None) -> "Drawing":
        """Return its drawing; colours or range that are not given are those of its default style.

        Raises:
            InputError: If it has colours of its own.
            StoreError: If the storage fails.
        """
        if self.raster.kind == "flags":
            if colormap or span:
                raise InputError(f"{self.name} has one colour for each flag; leave out colormap and rescale")
            return FlagDrawing(layer=self)
        if colormap and span:
            return ColourDrawing(layer=self, style=Style(colormap=colormap, low=span[0], high=span[1]))
        style = self._find_style()
        low, high = span or (style.low, style.high)
        return ColourDrawing(layer=self, style=Style(colormap=colormap or style.colormap, low=low, high=high))

    def read(self, tile: WebTile, resampling: Resampling) -> npt.NDArray[np.float32]:
        """Return the values of a tile, (y, x), NaN where there are none.

        Raises:
            InputError: If it needs too many pixels of the map.
            StoreError: If the storage fails.
        """
        values = render_values(self.view, self.name, tile, resampling)
        return np.full((tile.size, tile.size), np.nan, np.float32) if values is None else values

    def describe(self, drawing: "Drawing", template: str) -> dict[str, Any]:
        """Return its TileJSON, with what a legend needs."""
        west, south, east, north = self.view.extent.box
        if west > east:  # bounds of TileJSON must not go round the world
            west, east = -180.0, 180.0
        south, north = (min(max(edge, -MOST_LATITUDE), MOST_LATITUDE) for edge in (south, north))
        longitude, latitude = self.view.extent.centre
        first, last = self.zooms
        return {
            "tilejson": "3.0.0",
            "name": f"{self.found.version.description.name}: {self.title}",
            "version": "1.0.0",
            "scheme": "xyz",
            "tiles": [template],
            "minzoom": first,
            "maxzoom": last,
            "bounds": [west, south, east, north],
            "center": [longitude, min(max(latitude, south), north), first],
            "variable": self.name,
            "variables": list(self.view.rasters.names),
            "units": self.units,
            "role": self.raster.band.role,
            "of": self.raster.band.of,
            "levels": self.view.rasters.levels,
            "levels_up_to_date": self.view.rasters.up_to_date,
            "ref": self.ref,
            "snapshot": self.view.snapshot,
            **drawing.legend(),
        }

    def find_span(self) -> tuple[float, float]:
        """Return the range of its values, but for extremes.

        Raises:
            StoreError: If the storage fails.
        """
        style = self._find_style()
        return style.low, style.high

    def _find_style(self) -> Style:
        style = self.styles.get(self.name)
        if style is None:
            with explain_faults("the store"):
                tiles = np.argwhere(self.found.version.ledger.status_codes == STATUS_CODES["ok"])
            style = self.styles[self.name] = choose_style(self.view.rasters, self.name, tiles)
        return style


@dataclass(frozen=True, kw_only=True)
class ColourDrawing:
    """Drawing of values or counts by a colour map."""

    layer: Layer
    style: Style

    def draw(self, tile: WebTile, resampling: Resampling) -> bytes:
        """Return a tile as PNG."""
        values = render_values(self.layer.view, self.layer.name, tile, resampling)
        if values is None:
            return _draw_nothing(tile)
        return encode_png(index_values(values, self.style.low, self.style.high), find_palette(self.style.colormap))

    def legend(self) -> dict[str, Any]:
        """Return the colour map, its colours, and the values of the first and the last."""
        palette = find_palette(self.style.colormap)
        colours = [f"#{palette[3 * index : 3 * index + 3].hex()}" for index in range(1, 256)]
        return {"colormap": self.style.colormap, "rescale": [self.style.low, self.style.high], "colours": colours}


@dataclass(frozen=True, kw_only=True)
class FlagDrawing:
    """Drawing of the gravest flag of each pixel."""

    layer: Layer

    def draw(self, tile: WebTile, resampling: Resampling) -> bytes:  # noqa: ARG002 - flags are never mixed
        """Return a tile as PNG."""
        rendered = render_flags(self.layer.view, self.layer.name, tile)
        if rendered is None:
            return _draw_nothing(tile)
        flags, written = rendered
        colours = list_flag_colours(list(self._flags))
        indices = index_flags(flags, [self._flags[colour.flag] for colour in colours], written)
        return encode_png(indices, make_flag_palette(colours))

    def legend(self) -> dict[str, Any]:
        """Return the flags with their colours, the gravest first."""
        entries = [{"flag": "", "meaning": "nothing to remark", "colour": UNFLAGGED.hex}]
        for colour in list_flag_colours(list(self._flags)):
            meaning = FLAG_MEANINGS.get(colour.flag, colour.flag.replace("_", " "))
            entries.append({"flag": colour.flag, "meaning": meaning, "colour": colour.hex})
        return {"legend": entries}

    @property
    def _flags(self) -> dict[str, tuple[int, int]]:
        """Return mask and value by name, without that of pixels that were never written: these are transparent."""
        named = read_flags(self.layer.raster.attributes)
        return {name: pair for name, pair in named.items() if name != "not_written"}


Drawing = ColourDrawing | FlagDrawing


def _draw_nothing(tile: WebTile) -> bytes:
    """Return a transparent tile as PNG."""
    return encode_png(np.zeros((tile.size, tile.size), np.uint8), bytes(3))
