"""``/tiles``, ``/tilejson.json`` and ``/wmts``: the map for browsers and desktop programs, one small image at a time.

Tiles are those of WebMercatorQuad. The level of the pyramid depends on the zoom alone, so that neighbours fit. A tile
of a snapshot is kept by clients for ever; that of a branch is asked again, and answered with 304 while nothing changed.
"""

import io
from typing import Annotated, Any, Literal
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from mapper.serve.errors import describe_refusals
from mapper.serve.pixel import Ref
from mapper.serve.schemas import TileJson
from mapper.serve.tiles.cache import ByteCache
from mapper.serve.tiles.colours import Colormap
from mapper.serve.tiles.layers import Layer, Layers
from mapper.serve.tiles.render import Resampling
from mapper.serve.tiles.styles import Range, read_range
from mapper.serve.tiles.web_mercator import MAX_ZOOM, WebTile
from mapper.serve.tiles.wmts import write_capabilities
from mapper.serve.versions import Served

_ANSWERS: dict[int | str, dict[str, Any]] = {304: {"description": "As the client knows it"}}

Zoom = Annotated[int, Path(ge=0, le=MAX_ZOOM)]
Place = Annotated[int, Path(ge=0, lt=1 << MAX_ZOOM)]
Scale = Annotated[Literal["1", "2"], Query(description="2 for pixels of half the size")]
ColormapName = Annotated[Colormap | None, Query(description="Colours; by default those of the variable")]
Rescale = Annotated[Range, Query(description="Values of the first and the last colour: `0,400`")]


def make_tiles_router(served: Served) -> APIRouter:
    """The routes of tiles."""
    router = APIRouter(tags=["tiles"], responses=describe_refusals(404, 422))
    tiles = _Tiles(served)
    _add_tiles(router, tiles)
    _add_descriptions(router, tiles)
    return router


def _add_tiles(router: APIRouter, tiles: "_Tiles") -> None:
    @router.get(
        "/tiles/{ref}/{variable}/{z}/{x}/{y}.png", summary="A tile in colours", response_class=Response,
        responses=_ANSWERS | {200: {"content": {"image/png": {}}}},
    )  # fmt: skip
    def get_png(  # noqa: PLR0913, PLR0917 - what the address of a tile consists of
        request: Request, ref: str, variable: str, z: Zoom, x: Place, y: Place, scale: Scale = "1",
        colormap: ColormapName = None, rescale: Rescale = None,
        resampling: Annotated[Resampling, Query(description="Of measured values; others are never mixed")] = "bilinear",
    ) -> Response:  # fmt: skip
        """256 x 256 pixels; transparent where the map has no value."""
        layer = tiles.layers.find(ref, variable)
        tile = _check_tile(z, x, y, scale)
        drawing = layer.choose(colormap, read_range(rescale, "rescale"))
        known = tiles.recall(layer, request)
        if known:
            return known
        return tiles.reply(layer, request, drawing.draw(tile, resampling), "image/png")

    @router.get(
        "/tiles/{ref}/{variable}/{z}/{x}/{y}.npy", summary="A tile as numbers", response_class=Response,
        responses=_ANSWERS | {200: {"content": {"application/x-npy": {}}}},
    )  # fmt: skip
    def get_npy(  # noqa: PLR0913, PLR0917 - what the address of a tile consists of
        request: Request, ref: str, variable: str, z: Zoom, x: Place, y: Place, scale: Scale = "1",
        resampling: Annotated[Resampling, Query(description="Of measured values; others are never mixed")] = "nearest",
    ) -> Response:  # fmt: skip
        """float32 (y, x), NaN where there is no value; headers say bounds, CRS, units and level."""
        layer = tiles.layers.find(ref, variable)
        tile = _check_tile(z, x, y, scale)
        known = tiles.recall(layer, request)
        if known:
            return known
        values = layer.read(tile, resampling)
        about = {
            "X-Bounds": ",".join(f"{edge:.6f}" for edge in tile.bounds),
            "X-Crs": "EPSG:3857",
            "X-Units": layer.units,
            "X-Level": str(layer.view.level_of(tile)),
        }
        return tiles.reply(layer, request, _write_npy(values), "application/x-npy", about)


def _add_descriptions(router: APIRouter, tiles: "_Tiles") -> None:
    @router.get("/tilejson.json", summary="A variable as TileJSON", response_model=TileJson)
    def get_tilejson(
        request: Request, variable: Annotated[str | None, Query(description="By default the map's target")] = None,
        ref: Ref = "main", colormap: ColormapName = None, rescale: Rescale = None,
    ) -> Response:  # fmt: skip
        """Address of its tiles, bounds, zooms, and what its colours mean."""
        layer = tiles.layers.find(ref, variable)
        drawing = layer.choose(colormap, read_range(rescale, "rescale"))
        content = layer.describe(drawing, tiles.template(request, layer, {"colormap": colormap, "rescale": rescale}))
        return JSONResponse(content, headers=tiles.say_caching(layer))

    @router.get(
        "/wmts", summary="All variables as WMTS", response_class=Response,
        responses={200: {"content": {"application/xml": {}}}},
    )  # fmt: skip
    def get_wmts(request: Request, ref: Ref = "main") -> Response:
        """Capabilities of WMTS 1.0.0; the tiles themselves are fetched by the templates in it."""
        asked = {name.lower(): value.lower() for name, value in request.query_params.items()}
        if asked.get("request", "getcapabilities") != "getcapabilities":
            raise HTTPException(422, "request: expected GetCapabilities; tiles are fetched by the template in it")
        layers = tiles.layers.list(ref)
        content = write_capabilities(
            layers, [tiles.template(request, layer, {}, "{TileMatrix}/{TileCol}/{TileRow}") for layer in layers]
        )
        return Response(content, headers=tiles.say_caching(layers[0]), media_type="application/xml")


class _Tiles:
    """What the routes share."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.layers = Layers(served.versions, ByteCache(served.settings.chunk_cache_bytes))

    def recall(self, layer: Layer, request: Request) -> Response | None:
        """The answer to a client that has the tile."""
        headers = self._headers(layer, request)
        asked = request.headers.get("if-none-match", "")
        return Response(status_code=304, headers=headers) if headers["ETag"] in asked else None

    def reply(
        self, layer: Layer, request: Request, body: bytes, media: str, about: dict[str, str] | None = None
    ) -> Response:
        """A tile."""
        return Response(body, headers=self._headers(layer, request) | (about or {}), media_type=media)

    def template(self, request: Request, layer: Layer, query: dict[str, str | None], place: str = "{z}/{x}/{y}") -> str:
        """Address of the tiles of a layer."""
        given = "&".join(f"{name}={quote(value, safe=',')}" for name, value in query.items() if value)
        start = f"{self._served.base_url(request)}/tiles/{quote(layer.ref)}/{layer.name}"
        return f"{start}/{place}.png" + f"?{given}" * bool(given)

    def say_caching(self, layer: Layer) -> dict[str, str]:
        """How long an answer may be kept."""
        return {"Cache-Control": self._served.say_caching(fixed=layer.found.fixed)}

    def _headers(self, layer: Layer, request: Request) -> dict[str, str]:
        address = f"{request.url.path}?{request.url.query}".partition("/tiles/")[2]
        return {
            **self.say_caching(layer),
            "ETag": f'"{layer.view.snapshot}/{quote(address, safe="/?&=,.")}"',
        }


def _check_tile(z: int, x: int, y: int, scale: str) -> WebTile:
    if max(x, y) >= 1 << z:
        raise HTTPException(404, f"no such tile: zoom {z} has columns and rows 0 to {(1 << z) - 1}")
    return WebTile(z=z, x=x, y=y, scale=int(scale))


def _write_npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values), allow_pickle=False)
    return buffer.getvalue()
