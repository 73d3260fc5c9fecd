"""WMTS 1.0.0 capabilities (OGC 07-057r7), so that desktop programs add the map as layers."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, register_namespace, tostring

from mapper.serve.tiles.layers import Layer
from mapper.serve.tiles.web_mercator import EDGE_PX, HALF_WORLD_M

_WMTS = "http://www.opengis.net/wmts/1.0"
_OWS = "http://www.opengis.net/ows/1.1"
_MATRICES = "WebMercatorQuad"
_PIXEL_M = 0.28e-3
"""Of the screen that scale denominators are told for."""


def write_capabilities(layers: Sequence[Layer], templates: Sequence[str]) -> bytes:
    """Capabilities as XML.

    Args:
        layers: Variables of one version.
        templates: Address of the tiles of each, with ``{TileMatrix}``, ``{TileCol}`` and ``{TileRow}``.
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
    west, south, east, north = layer.view.positions.bounds
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
    """The zooms of the web, up to that of full resolution: a program enlarges what is beyond."""
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
    SubElement(parent, f"{{{namespace}}}{name}").text = text
