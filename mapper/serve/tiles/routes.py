"""``/tiles``, ``/tilejson.json`` and ``/wmts``: the map for browsers and desktop programs, one small image at a time.

Tiles are those of WebMercatorQuad. The level of the pyramid depends on the zoom alone, so that neighbours fit. A tile
of a snapshot is cached by clients for ever; that of a branch is asked again, and answered with 304 if it is the same.
"""

import io
from collections.abc import Sequence
from typing import Annotated, Any, Literal
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement, register_namespace, tostring

import numpy as np
from fastapi import APIRouter, HTTPException, Path, Query, Request, Response

from mapper.serve.answers import JsonAnswer, write_header, write_xml
from mapper.serve.conditions import is_known
from mapper.serve.errors import describe_refusals
from mapper.serve.pixel import Ref
from mapper.serve.schemas import TileJson
from mapper.serve.tiles.cache import ByteCache
from mapper.serve.tiles.colours import Colormap
from mapper.serve.tiles.layers import Layer, Layers
from mapper.serve.tiles.render import Resampling
from mapper.serve.tiles.styles import RangeText, parse_range
from mapper.serve.tiles.web_mercator import EDGE_PX, HALF_WORLD_M, MAX_ZOOM, WebTile
from mapper.serve.versions import ServedStore

_ANSWERS: dict[int | str, dict[str, Any]] = {304: {"description": "As the client knows it"}}
_WMTS = "http://www.opengis.net/wmts/1.0"
_OWS = "http://www.opengis.net/ows/1.1"
_MATRICES = "WebMercatorQuad"
_PIXEL_M = 0.28e-3
"""Edge of a pixel of the screen that scale denominators are given for, in metres."""

Zoom = Annotated[int, Path(ge=0, le=MAX_ZOOM)]
Index = Annotated[int, Path(ge=0, lt=1 << MAX_ZOOM)]
Scale = Annotated[Literal["1", "2"], Query(description="2 for pixels of half the size")]
ColormapName = Annotated[Colormap | None, Query(description="Colours; by default those of the variable")]
Rescale = Annotated[RangeText, Query(description="Values of the first and the last colour: `0,400`")]


def make_tiles_router(served: ServedStore) -> APIRouter:
    """Return the routes of tiles."""
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
        request: Request, ref: str, variable: str, z: Zoom, x: Index, y: Index, scale: Scale = "1",
        colormap: ColormapName = None, rescale: Rescale = None,
        resampling: Annotated[Resampling, Query(description="Of measured values; others are never mixed")] = "bilinear",
    ) -> Response:  # fmt: skip
        """Return 256 x 256 pixels; transparent where the map has no value."""
        layer = tiles.layers.find(ref, variable)
        tile = _check_tile(z, x, y, scale)
        drawing = layer.choose_drawing(colormap, parse_range(rescale, "rescale"))
        known = tiles.find_cached(layer, request)
        if known:
            return known
        return tiles.reply(layer, request, drawing.draw(tile, resampling), "image/png")

    @router.get(
        "/tiles/{ref}/{variable}/{z}/{x}/{y}.npy", summary="A tile as numbers", response_class=Response,
        responses=_ANSWERS | {200: {"content": {"application/x-npy": {}}}},
    )  # fmt: skip
    def get_npy(  # noqa: PLR0913, PLR0917 - what the address of a tile consists of
        request: Request, ref: str, variable: str, z: Zoom, x: Index, y: Index, scale: Scale = "1",
        resampling: Annotated[Resampling, Query(description="Of measured values; others are never mixed")] = "nearest",
    ) -> Response:  # fmt: skip
        """Return float32 (y, x), NaN where there is no value; headers give bounds, CRS, units and level."""
        layer = tiles.layers.find(ref, variable)
        tile = _check_tile(z, x, y, scale)
        known = tiles.find_cached(layer, request)
        if known:
            return known
        values = layer.read(tile, resampling)
        units = write_header(layer.units)
        about = {
            "X-Bounds": ",".join(f"{edge:.6f}" for edge in tile.bounds),
            "X-Crs": "EPSG:3857",
            "X-Level": str(layer.view.level_of(tile)),
        } | ({"X-Units": units} if units else {})
        return tiles.reply(layer, request, _write_npy(values), "application/x-npy", about)


def _add_descriptions(router: APIRouter, tiles: "_Tiles") -> None:
    @router.get("/tilejson.json", summary="A variable as TileJSON", response_model=TileJson)
    def get_tilejson(
        request: Request, variable: Annotated[str | None, Query(description="By default the map's target")] = None,
        ref: Ref = "main", colormap: ColormapName = None, rescale: Rescale = None,
    ) -> Response:  # fmt: skip
        """Return the address of its tiles, bounds, zooms, and what its colours mean."""
        layer = tiles.layers.find(ref, variable)
        drawing = layer.choose_drawing(colormap, parse_range(rescale, "rescale"))
        content = layer.describe(drawing, tiles.template(request, layer, {"colormap": colormap, "rescale": rescale}))
        return JsonAnswer(content, headers=tiles.cache_control(layer, names_server=True))

    @router.get(
        "/wmts", summary="All variables as WMTS", response_class=Response,
        responses={200: {"content": {"application/xml": {}}}},
    )  # fmt: skip
    def get_wmts(request: Request, ref: Ref = "main") -> Response:
        """Return the capabilities of WMTS 1.0.0; the tiles themselves are fetched by the templates in it."""
        asked = {name.lower(): value.lower() for name, value in request.query_params.items()}
        if asked.get("request", "getcapabilities") != "getcapabilities":
            raise HTTPException(422, "request: expected GetCapabilities; tiles are fetched by the template in it")
        layers = tiles.layers.list(ref)
        content = _write_capabilities(
            layers, [tiles.template(request, layer, {}, "{TileMatrix}/{TileCol}/{TileRow}") for layer in layers]
        )
        return Response(
            content, headers=tiles.cache_control(layers[0], names_server=True), media_type="application/xml"
        )


class _Tiles:
    """Layers and headers that the routes of tiles share."""

    def __init__(self, served: ServedStore) -> None:
        self._served = served
        self.layers = Layers(served.versions, ByteCache(served.settings.chunk_cache_bytes))

    def find_cached(self, layer: Layer, request: Request) -> Response | None:
        """Return the answer to a client that has the tile, before it is drawn; None to one that has not."""
        headers = self._headers(layer, request)
        is_listed = is_known(request.headers, headers["ETag"]) and not is_known(request.headers, "")
        return Response(status_code=304, headers=headers) if is_listed else None

    def reply(
        self, layer: Layer, request: Request, body: bytes, media: str, about: dict[str, str] | None = None
    ) -> Response:
        """Return a tile as a response."""
        return Response(body, headers=self._headers(layer, request) | (about or {}), media_type=media)

    def template(self, request: Request, layer: Layer, query: dict[str, str | None], path: str = "{z}/{x}/{y}") -> str:
        """Return the address of the tiles of a layer."""
        given = "&".join(f"{name}={quote(value, safe=',')}" for name, value in query.items() if value)
        start = f"{self._served.base_url(request)}/tiles/{quote(layer.ref)}/{quote(layer.name)}"
        return f"{start}/{path}.png" + f"?{given}" * bool(given)

    def cache_control(self, layer: Layer, *, names_server: bool = False) -> dict[str, str]:
        """Return the header that says how long an answer may be cached."""
        return {"Cache-Control": self._served.cache_control(fixed=layer.found.fixed, names_server=names_server)}

    def _headers(self, layer: Layer, request: Request) -> dict[str, str]:
        address = f"{request.url.path}?{request.url.query}".partition("/tiles/")[2]
        return {
            **self.cache_control(layer),
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


def _write_capabilities(layers: Sequence[Layer], templates: Sequence[str]) -> bytes:
    """Return the capabilities of WMTS 1.0.0 (OGC 07-057r7) as XML.

    Args:
        layers: Layers of one version.
        templates: Addresses of the tiles of each, with ``{TileMatrix}``, ``{TileCol}`` and ``{TileRow}``.
    """
    register_namespace("", _WMTS)
    register_namespace("ows", _OWS)
    root = Element(f"{{{_WMTS}}}Capabilities", {"version": "1.0.0"})
    service = SubElement(root, f"{{{_OWS}}}ServiceIdentification")
    _add(service, _OWS, "Title", layers[0].found.version.description.name)
    _add(service, _OWS, "ServiceType", "OGC WMTS")
    _add(service, _OWS, "ServiceTypeVersion", "1.0.0")
    contents = SubElement(root, f"{{{_WMTS}}}Contents")
    for layer, template in zip(layers, templates, strict=True):
        _add_layer(contents, layer, template)
    _add_matrices(contents, max(layer.zooms[1] for layer in layers))
    body: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return body


def _add_layer(contents: Element, layer: Layer, template: str) -> None:
    element = SubElement(contents, f"{{{_WMTS}}}Layer")
    _add(element, _OWS, "Title", layer.title if layer.units == "1" else f"{layer.title} ({layer.units})")
    for west, south, east, north in layer.view.extent.boxes:
        box = SubElement(element, f"{{{_OWS}}}WGS84BoundingBox")
        _add(box, _OWS, "LowerCorner", f"{west:.9f} {south:.9f}")
        _add(box, _OWS, "UpperCorner", f"{east:.9f} {north:.9f}")
    _add(element, _OWS, "Identifier", layer.name)
    style = SubElement(element, f"{{{_WMTS}}}Style", {"isDefault": "true"})
    _add(style, _OWS, "Identifier", "default")
    _add(element, _WMTS, "Format", "image/png")
    link = SubElement(element, f"{{{_WMTS}}}TileMatrixSetLink")
    _add(link, _WMTS, "TileMatrixSet", _MATRICES)
    address = {"format": "image/png", "resourceType": "tile", "template": template}
    SubElement(element, f"{{{_WMTS}}}ResourceURL", address)


def _add_matrices(contents: Element, last: int) -> None:
    """Add the zooms of the web, up to that of full resolution: a program enlarges what is beyond."""
    matrices = SubElement(contents, f"{{{_WMTS}}}TileMatrixSet")
    _add(matrices, _OWS, "Identifier", _MATRICES)
    _add(matrices, _OWS, "SupportedCRS", "urn:ogc:def:crs:EPSG::3857")
    _add(matrices, _WMTS, "WellKnownScaleSet", "urn:ogc:def:wkss:OGC:1.0:GoogleMapsCompatible")
    for zoom in range(last + 1):
        matrix = SubElement(matrices, f"{{{_WMTS}}}TileMatrix")
        _add(matrix, _OWS, "Identifier", str(zoom))
        _add(matrix, _WMTS, "ScaleDenominator", repr(2 * HALF_WORLD_M / EDGE_PX / 2**zoom / _PIXEL_M))
        _add(matrix, _WMTS, "TopLeftCorner", f"{-HALF_WORLD_M!r} {HALF_WORLD_M!r}")
        for name, value in (("Tile", EDGE_PX), ("Matrix", 2**zoom)):
            _add(matrix, _WMTS, f"{name}Width", str(value))
            _add(matrix, _WMTS, f"{name}Height", str(value))


def _add(parent: Element, namespace: str, name: str, text: str) -> None:
    SubElement(parent, f"{{{namespace}}}{name}").text = write_xml(text)
