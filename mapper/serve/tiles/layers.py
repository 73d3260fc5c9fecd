"""What tiles show: a variable of a version, and how it is drawn."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import HTTPException

from mapper.errors import InputError
from mapper.serve.pixel import SAID
from mapper.serve.tiles.cache import ByteCache
from mapper.serve.tiles.colours import (
    UNFLAGGED,
    Colormap,
    encode_png,
    flag_colours,
    flag_palette,
    palette_of,
    place_flags,
    place_values,
)
from mapper.serve.tiles.render import MOST_PIXELS, Resampling, View, render_flags, render_values
from mapper.serve.tiles.styles import Look, find_look
from mapper.serve.tiles.web_mercator import EDGE_PX, MAX_ZOOM, Positions, WebTile
from mapper.serve.versions import Found, Versions
from mapper.store.errors import explain_faults
from mapper.store.ledger_arrays import STATUS_CODES
from mapper.store.rasters import Raster, Rasters

_KEPT = 8
"""Versions that are ready to be looked at."""
_TURNED = 1.5
"""A tile that stands askew on the map spans so much more of it."""


class Layers:
    """The variables of all versions; for use by many threads.

    Args:
        versions: What is served.
        chunks: Chunks that were read lately.
    """

    def __init__(self, versions: Versions, chunks: "ByteCache[npt.NDArray[Any]]") -> None:
        self._versions = versions
        self._chunks = chunks
        self._lock = threading.Lock()
        self._views: OrderedDict[str, tuple[View, dict[str, Look]]] = OrderedDict()
        self._positions: dict[str, Positions] = {}

    def find(self, ref: str, variable: str | None) -> "Layer":
        """A variable of a version; without a name, the first.

        Raises:
            UnknownVersionError: If there is no such version.
            HTTPException: 404 if it has no such variable.
        """
        found = self._versions.find(ref)
        view, looks = self._open(found)
        names = view.rasters.names
        if variable is not None and variable not in names:
            raise HTTPException(404, f"no such variable; there are {', '.join(names)}")
        return Layer(name=variable or names[0], ref=ref, found=found, view=view, looks=looks)

    def list(self, ref: str) -> "list[Layer]":
        """All variables of a version.

        Raises:
            UnknownVersionError: If there is no such version.
        """
        first = self.find(ref, None)
        return [
            Layer(name=name, ref=ref, found=first.found, view=first.view, looks=first.looks)
            for name in first.view.rasters.names
        ]

    def _open(self, found: Found) -> tuple[View, dict[str, Look]]:
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
            positions = self._positions.get(description.grid.digest) or Positions(description.grid)
            self._positions[description.grid.digest] = positions
            view = View(snapshot=version.snapshot, rasters=rasters, positions=positions, chunks=self._chunks)
            opened = self._views.setdefault(version.snapshot, (view, {}))
            while len(self._views) > _KEPT:
                self._views.popitem(last=False)
            return opened


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One variable of one version."""

    name: str
    ref: str
    """How the version was asked for."""
    found: Found
    view: View
    looks: dict[str, Look]
    """Those found so far, by variable."""

    @cached_property
    def raster(self) -> Raster:
        """The variable at full resolution."""
        return self.view.rasters.find(self.name)

    @property
    def units(self) -> str:
        """Of its values."""
        return self.raster.units

    @property
    def title(self) -> str:
        """For people."""
        return str(self.raster.attributes.get("long_name", self.name))

    @property
    def zooms(self) -> tuple[int, int]:
        """The first zoom at which a tile needs no more of the map than is read for one, and that of full resolution."""
        positions, rasters = self.view.positions, self.view.rasters
        full = min(range(MAX_ZOOM + 1), key=lambda z: (positions.ratio(z) > 1, z))
        finest = 2 ** (rasters.levels - 1)
        rows, cols = (count // finest for count in rasters.grid.shape)
        edges = [_TURNED * EDGE_PX * positions.ratio(z) / finest + 4 for z in range(full + 1)]
        fits = [z for z, edge in enumerate(edges) if min(edge, rows) * min(edge, cols) <= MOST_PIXELS]
        return min(fits, default=full), full

    def choose(self, colormap: Colormap | None, span: tuple[float, float] | None) -> "Drawing":
        """How it is drawn; what is not said is found from its values.

        Raises:
            InputError: If it has colours of its own.
            StoreError: If the storage fails.
        """
        if self.raster.kind == "flags":
            if colormap or span:
                raise InputError(f"{self.name} has one colour for each flag; leave out colormap and rescale")
            return Flags(layer=self)
        if colormap and span:
            return Colours(layer=self, look=Look(colormap=colormap, low=span[0], high=span[1]))
        look = self._find_look()
        low, high = span or (look.low, look.high)
        return Colours(layer=self, look=Look(colormap=colormap or look.colormap, low=low, high=high))

    def read(self, tile: WebTile, resampling: Resampling) -> npt.NDArray[np.float32]:
        """Values of a tile, (y, x), NaN where there are none.

        Raises:
            InputError: If it needs too many pixels of the map.
            StoreError: If the storage fails.
        """
        values = render_values(self.view, self.name, tile, resampling)
        return np.full((tile.size, tile.size), np.nan, np.float32) if values is None else values

    def describe(self, drawing: "Drawing", template: str) -> dict[str, Any]:
        """TileJSON, and what is needed for a legend."""
        west, south, east, north = self.view.positions.bounds
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
            "center": [(west + east) / 2, (south + north) / 2, first],
            "variable": self.name,
            "variables": list(self.view.rasters.names),
            "units": self.units,
            "levels": self.view.rasters.levels,
            "levels_up_to_date": self.view.rasters.up_to_date,
            "ref": self.ref,
            "snapshot": self.view.snapshot,
            **drawing.legend(),
        }

    def find_span(self) -> tuple[float, float]:
        """The range of its values, but for extremes.

        Raises:
            StoreError: If the storage fails.
        """
        look = self._find_look()
        return look.low, look.high

    def _find_look(self) -> Look:
        look = self.looks.get(self.name)
        if look is None:
            with explain_faults("the store"):
                tiles = np.argwhere(self.found.version.ledger.state == STATUS_CODES["ok"])
            look = self.looks[self.name] = find_look(self.view.rasters, self.name, tiles)
        return look


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Draws what is measured or counted."""

    layer: Layer
    look: Look

    def draw(self, tile: WebTile, resampling: Resampling) -> bytes:
        """A tile as PNG."""
        values = render_values(self.layer.view, self.layer.name, tile, resampling)
        if values is None:
            return _draw_nothing(tile)
        return encode_png(place_values(values, self.look.low, self.look.high), palette_of(self.look.colormap))

    def legend(self) -> dict[str, Any]:
        """Colour map, its colours, and the values of the first and the last."""
        palette = palette_of(self.look.colormap)
        colours = [f"#{palette[3 * place : 3 * place + 3].hex()}" for place in range(1, 256)]
        return {"colormap": self.look.colormap, "rescale": [self.look.low, self.look.high], "colours": colours}


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Draws flags: the gravest of each pixel."""

    layer: Layer

    def draw(self, tile: WebTile, resampling: Resampling) -> bytes:  # noqa: ARG002 - flags are never mixed
        """A tile as PNG."""
        rendered = render_flags(self.layer.view, self.layer.name, tile)
        if rendered is None:
            return _draw_nothing(tile)
        flags, written = rendered
        colours = flag_colours(list(self._masks))
        places = place_flags(flags, [self._masks[colour.flag] for colour in colours], written)
        return encode_png(places, flag_palette(colours))

    def legend(self) -> dict[str, Any]:
        """Flags with their colours, the gravest first."""
        entries = [{"flag": "", "meaning": "nothing to remark", "colour": UNFLAGGED.hex}]
        for colour in flag_colours(list(self._masks)):
            meaning = SAID.get(colour.flag, colour.flag.replace("_", " "))
            entries.append({"flag": colour.flag, "meaning": meaning, "colour": colour.hex})
        return {"legend": entries}

    @property
    def _masks(self) -> dict[str, int]:
        """Bits by name, without that of what was not written: it is transparent."""
        attributes = self.layer.raster.attributes
        pairs = zip(str(attributes["flag_meanings"]).split(), attributes["flag_masks"], strict=True)
        return {name: int(mask) for name, mask in pairs if name != "not_written"}


Drawing = Colours | Flags


def _draw_nothing(tile: WebTile) -> bytes:
    return encode_png(np.zeros((tile.size, tile.size), np.uint8), bytes(3))
