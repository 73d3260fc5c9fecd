"""Scenes as a static STAC catalogue on disk: items, collections, links; nothing in it depends on when it was made."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pystac
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from pystac.extensions.eo import EOExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import RasterExtension
from pystac.extensions.sar import SarExtension
from pystac.extensions.sat import SatExtension
from pystac.link import HREF
from pystac.stac_io import DefaultStacIO

_ROOT = "/catalog/"
"""Folder of the catalogue for pystac; its links are relative."""
_MADE = "2024-01-01T00:00:00Z"
_EXTENSIONS = {
    "eo:": EOExtension.get_schema_uri(),
    "sat:": SatExtension.get_schema_uri(),
    "sar:": SarExtension.get_schema_uri(),
    "raster:": RasterExtension.get_schema_uri(),
    "proj:": ProjectionExtension.get_schema_uri(),
}
"""Schemas of extensions by the prefix of the fields they define."""


@dataclass(frozen=True, kw_only=True)
class CollectionNote:
    """Title, description and licence of a collection."""

    name: str
    description: str


def describe_asset(
    file: str,
    geobox: GeoBox,
    *,
    title: str,
    bands: Sequence[tuple[str, str]] = (),
    nodata: float | None = None,
    data_type: str | None = None,
    unit: str | None = None,
) -> pystac.Asset:
    """Return the asset of one file beside its item.

    Args:
        file: Its name.
        geobox: Its grid.
        title: For people.
        bands: Name and common name of optical bands.
        nodata: Declared only together with ``data_type``; archives of Sentinel-2 declare neither.
        data_type: Of the stored numbers.
        unit: Of the stored numbers.
    """
    fields: dict[str, Any] = {"gsd": abs(float(geobox.resolution.x)), **describe_grid(geobox)}
    if bands:
        fields["eo:bands"] = [{"name": name, "common_name": common} for name, common in bands]
    if data_type is not None:
        band = {"data_type": data_type, "nodata": nodata, "unit": unit}
        fields["raster:bands"] = [{key: value for key, value in band.items() if value is not None}]
    if geobox.crs == "EPSG:4326":
        del fields["gsd"]
    return pystac.Asset(f"./{file}", title=title, media_type=pystac.MediaType.COG, roles=["data"], extra_fields=fields)


def describe_grid(geobox: GeoBox) -> dict[str, Any]:
    """Return shape, transform and box of a grid, as the projection extension names them."""
    return {
        "proj:shape": [int(geobox.shape.y), int(geobox.shape.x)],
        "proj:transform": [float(v) for v in tuple(geobox.transform)[:6]],
        "proj:bbox": [float(v) for v in geobox.boundingbox.bbox],
    }


def make_item(
    name: str,
    collection: str,
    *,
    footprint: Geometry,
    when: datetime | tuple[datetime, datetime],
    assets: dict[str, pystac.Asset],
    properties: dict[str, Any],
    crs: str,
) -> pystac.Item:
    """Make one item.

    Args:
        name: Its id.
        collection: Id of its collection.
        footprint: In longitude and latitude.
        when: Its time, or its first and last moment.
        assets: From :func:`describe_asset`.
        properties: Beyond time and projection.
        crs: Of all its files.
    """
    moment, span = (None, when) if isinstance(when, tuple) else (when, None)
    item = pystac.Item(
        id=name,
        geometry=json.loads(json.dumps(footprint.json)),
        bbox=[round(v, 9) for v in footprint.boundingbox.bbox],
        datetime=moment,
        start_datetime=span[0] if span else None,
        end_datetime=span[1] if span else None,
        collection=collection,
        properties={
            **properties, "proj:code": crs,
            "created": _MADE, "updated": _MADE,
        },
    )  # fmt: skip
    for key, asset in assets.items():
        item.add_asset(key, asset)
    used = {*item.properties, *(field for asset in assets.values() for field in asset.extra_fields)}
    item.stac_extensions = [
        uri for prefix, uri in _EXTENSIONS.items() if any(field.startswith(prefix) for field in used)
    ]
    return item


def write_catalog(out_dir: Path, items: Sequence[pystac.Item], notes: Sequence[CollectionNote]) -> Path:
    """Write catalogue, collections and items beside the files they describe.

    Returns:
        Path of ``catalog.json``.
    """
    catalog = pystac.Catalog(id="demo", title="Synthetic landscape", description="Synthetic scenes made by mapper")
    for note in notes:
        members = sorted((item for item in items if item.collection_id == note.name), key=lambda item: item.id)
        if not members:
            continue
        collection = pystac.Collection(
            id=note.name, description=note.description, extent=pystac.Extent.from_items(members), license="CC0-1.0"
        )
        collection.add_items(members)
        catalog.add_child(collection)
    catalog.normalize_hrefs(_ROOT)
    catalog.save(pystac.CatalogType.SELF_CONTAINED, stac_io=_FolderIO(out_dir))
    return out_dir / "catalog.json"


class _FolderIO(DefaultStacIO):
    """Writer of a catalogue into a folder: pystac takes a path for an address, in which ``#`` and ``?`` end it."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def write_text(self, dest: HREF, txt: str, *_: Any, **__: Any) -> None:
        path = self._folder / str(dest).removeprefix(_ROOT)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(txt, encoding="utf-8")
