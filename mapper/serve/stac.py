"""``/stac``: the map as a STAC collection, and a version of it as an item.

The extension for machine learning models asks an item for the model as a file, which a store does not hold: its fields
are given where they are known, and it is declared for the collection, which need not have one.
"""

import json
from datetime import datetime
from typing import Any
from urllib.parse import quote

import shapely
import yaml
from fastapi import APIRouter, Request, Response
from pyproj import CRS
from shapely.geometry.base import BaseGeometry

from mapper import __version__
from mapper.serve.answers import JsonAnswer
from mapper.serve.errors import describe_refusals
from mapper.serve.extent import find_extent
from mapper.serve.pixel import Ref
from mapper.serve.schemas import StacCollection, StacItem
from mapper.serve.versions import ResolvedVersion, ServedStore, Version
from mapper.store.errors import explain_faults
from mapper.store.ledger_arrays import STATUS_CODES

_SCHEMA = "https://stac-extensions.github.io/{}/schema.json"
_ITEM_EXTENSIONS = ("datacube/v2.2.0", "projection/v2.0.0", "processing/v1.2.0", "version/v1.2.0")
_COLLECTION_EXTENSIONS = ("mlm/v1.4.0",)
_ZARR = "application/vnd.zarr; version=3"
_GEOJSON = "application/geo+json"
_FOOTPRINT_DEGREES = 0.01


class _GeoJson(JsonAnswer):
    media_type = _GEOJSON


def make_stac_router(served: ServedStore) -> APIRouter:
    """Return the routes of STAC."""
    router = APIRouter(tags=["stac"])

    @router.get("/stac", summary="The map as a STAC collection", response_model=StacCollection)
    def get_collection(request: Request) -> Response:
        """Extent, sources and model of the map; its versions are items."""
        found = served.versions.find("main")
        names = [name for kind in served.versions.list_names() for name in kind if quote(name, safe="") == name]
        with explain_faults("the store"):
            content = describe_collection(found.version, served.base_url(request), refs=names)
        return JsonAnswer(content, headers={"Cache-Control": served.cache_control(fixed=False, names_server=True)})

    @router.get(
        "/stac/item",
        summary="A version of the map as a STAC item",
        response_class=_GeoJson,
        response_model=StacItem,
        responses=describe_refusals(404, 422),
    )
    def get_item(request: Request, ref: Ref = "main") -> Response:
        """Grid, variables, processing and model; the asset is the version as Zarr on this server."""
        found = served.versions.find(ref)
        with explain_faults("the store"):
            content = describe_item(found, served.base_url(request), ref=ref)
        headers = {"Cache-Control": served.cache_control(fixed=found.fixed, names_server=True)}
        return _GeoJson(content, headers=headers)

    return router


def describe_collection(version: Version, base_url: str, *, refs: list[str]) -> dict[str, Any]:
    """Return the collection of the versions of a map."""
    attributes = _read_attributes(version)
    extent = find_extent(version.description)
    start, end = _find_period(attributes)
    model = _describe_model(version)
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "stac_extensions": [_SCHEMA.format(name) for name in _COLLECTION_EXTENSIONS],
        "id": version.description.name,
        "title": attributes["title"],
        "description": f"{attributes['title']}. Made from {attributes['source']}.",
        "license": "other",
        "extent": {
            "spatial": {"bbox": [list(extent.box)]},
            "temporal": {"interval": [[start, end]]},
        },
        "summaries": {name: [model[name]] for name in ("mlm:name", "mlm:architecture") if name in model}
        | {"mlm:tasks": model["mlm:tasks"], "proj:code": [_describe_projection(version)["proj:code"]]},
        "links": [
            _link("self", f"{base_url}/stac"),
            _link("root", f"{base_url}/stac"),
            *(_link("item", f"{base_url}/stac/item?ref={ref}", _GEOJSON, title=ref) for ref in refs),
        ],
    }


def describe_item(found: ResolvedVersion, base_url: str, *, ref: str) -> dict[str, Any]:
    """Return a version of a map as an item."""
    version = found.version
    attributes = _read_attributes(version)
    extent = find_extent(version.description)
    start, end = _find_period(attributes)
    name = version.description.name
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [_SCHEMA.format(extension) for extension in _ITEM_EXTENSIONS],
        "id": f"{name}-{ref}",
        "collection": name,
        "geometry": shapely.geometry.mapping(_simplify(extent.geometry)),
        "bbox": list(extent.box),
        "properties": {
            "title": attributes["title"],
            "datetime": None,
            "start_datetime": start,
            "end_datetime": end,
            "updated": _format_time(_find_written(version)),
            "version": version.snapshot,
            **_describe_projection(version),
            **_describe_cube(version),
            "processing:lineage": f"{attributes['source']}. {attributes['history']}.",
            "processing:level": "L4",
            "processing:software": {"mapper": __version__},
            **_describe_model(version),
            "mapper:spec_digest": version.description.spec_digest,
            "mapper:tiles": _count_tiles(version),
        },
        "links": [
            _link("self", f"{base_url}/stac/item?ref={ref}", _GEOJSON),
            _link("root", f"{base_url}/stac"),
            _link("parent", f"{base_url}/stac"),
            _link("collection", f"{base_url}/stac"),
        ],
        "assets": {
            "zarr": {
                "href": f"{base_url}/zarr/{ref}",
                "type": _ZARR,
                "title": "The map as Zarr, consolidated",
                "roles": ["data"],
            }
        },
    }


def _read_attributes(version: Version) -> dict[str, Any]:
    attributes: dict[str, Any] = json.loads(version.zarr.documents["zarr.json"])["attributes"]
    return attributes


def _simplify(area: BaseGeometry) -> BaseGeometry:
    """Return an area without detail that no search needs."""
    return shapely.simplify(area, _FOOTPRINT_DEGREES) if area.length > 1 else area


def _find_period(attributes: dict[str, Any]) -> tuple[str, str]:
    return f"{attributes['time_coverage_start']}T00:00:00Z", f"{attributes['time_coverage_end']}T23:59:59Z"


def _find_written(version: Version) -> datetime:
    written: datetime = next(iter(version.ledger.repository.ancestry(snapshot_id=version.snapshot))).written_at
    return written


def _format_time(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _describe_projection(version: Version) -> dict[str, Any]:
    geobox = version.description.grid.geobox
    crs = CRS.from_user_input(version.description.grid.crs)
    authority = crs.to_authority()
    return {
        "proj:code": ":".join(authority) if authority else None,
        **({} if authority else {"proj:wkt2": crs.to_wkt("WKT2_2019")}),
        "proj:shape": list(version.description.grid.shape),
        "proj:transform": list(geobox.transform)[:6],
        "proj:bbox": list(geobox.boundingbox.bbox),
    }


def _describe_cube(version: Version) -> dict[str, Any]:
    grid = version.description.grid
    crs = CRS.from_user_input(grid.crs)
    box = grid.geobox.boundingbox
    step = float(grid.resolution)
    system = crs.to_epsg() or crs.to_wkt("WKT2_2019")
    nodes = json.loads(version.zarr.documents["zarr.json"])["consolidated_metadata"]["metadata"]
    return {
        "cube:dimensions": {
            axis: {"type": "spatial", "axis": axis, "extent": extent, "step": step, "reference_system": system}
            for axis, extent in (("x", [box.left, box.right]), ("y", [box.bottom, box.top]))
        },
        "cube:variables": {
            name: {
                "type": "data",
                "dimensions": ["y", "x"],
                "description": node["attributes"].get("long_name", name),
                **({"unit": node["attributes"]["units"]} if "units" in node["attributes"] else {}),
                **_describe_datum(node["attributes"]),
            }
            for name, node in nodes.items()
            if node.get("dimension_names") == ["y", "x"] and "/" not in name
        },
    }


def _describe_datum(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return what a variable of heights says of its vertical datum."""
    return {"mapper:vertical_datum": attributes["vertical_datum"]} if "vertical_datum" in attributes else {}


def _describe_model(version: Version) -> dict[str, Any]:
    """Return what the map's description and its latest records say of the model."""
    asked = yaml.safe_load(version.description.spec_yaml)["model"]["name"]
    records = version.ledger.records_of(version.ledger.batches, items=False) if version.ledger.batches else []
    made = next((record for record in records if record.model), None)
    described: dict[str, Any] = {
        "mlm:name": made.model if made else asked,
        "mlm:architecture": asked,
        "mlm:tasks": ["super-resolution", "regression"],
    }
    return described | ({"mapper:model_digest": made.model_digest} if made else {})


def _count_tiles(version: Version) -> dict[str, int]:
    """Return the number of tiles by status."""
    statuses = [entry.status for entry in version.ledger.entries.values()]
    return {name: statuses.count(name) for name in STATUS_CODES}


def _link(rel: str, href: str, media: str = "application/json", *, title: str = "") -> dict[str, str]:
    return {"rel": rel, "href": href, "type": media} | ({"title": title} if title else {})
