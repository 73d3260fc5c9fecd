"""The ledger of a store as stac-geoparquet: an item for each tile, for DuckDB, GeoPandas, rustac and QGIS.

All items are held in memory while the file is written: 2 to 5 kB a tile.
"""

import os.path
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import rustac
import shapely
from odc.geo.geom import Geometry

from mapper.catalog.freeze import write_geoparquet
from mapper.errors import InputError, StoreError
from mapper.export.files import Progress, appear_whole, check_free, ignore_progress
from mapper.export.piece import choose_piece
from mapper.store.description import Description
from mapper.store.ledger import Ledger
from mapper.store.map_store import MapStore
from mapper.store.record import Record

_POINTS = 8
"""Along the edge of a tile: straight in the map, it is curved in longitude and latitude."""
_COPIED = (
    "task_id", "run_id", "model", "model_digest", "spec_digest", "grid_digest", "items_digest", "code_version",
    "environment", "worker", "device", "attempts", "requests", "bytes_read", "valid_px", "value_min", "value_mean",
    "value_max", "consistency_residual", "content_sha256", "guide_store",
)  # fmt: skip
"""Fields of a record that become properties as they are."""


@dataclass(frozen=True, kw_only=True)
class TilesReport:
    """File that was written."""

    path: str
    tiles: int
    bytes: int
    snapshot: str

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return asdict(self)

    def summary(self) -> str:
        """Return the report for people, in one line."""
        return f"{self.tiles:,} tiles"


def export_tiles(
    location: str | Path,
    out: Path,
    *,
    ref: str = "main",
    bbox: Sequence[float] | None = None,
    area: Path | str | None = None,
    progress: Progress = ignore_progress,
) -> TilesReport:
    """Write the record of every tile that was attempted as a STAC item of a stac-geoparquet file.

    Args:
        location: Of the store.
        out: Where the file appears, whole or not at all.
        ref: Branch, tag or snapshot id.
        bbox: Only tiles that touch this box: west, south, east, north in degrees.
        area: Only tiles that touch the bounds of the polygons in this GeoJSON file.
        progress: Told of every tile.

    Raises:
        InputError: If no tile was attempted, the file exists already, or box or area make no sense.
        GridError: If nothing of the piece lies on the map.
        StoreError: If the store or the version does not exist, or the file cannot be written.
    """
    check_free(out)
    store = MapStore.open(location, ref)
    # what is handed on says where the store lies from the file, not where on this machine
    href = str(location) if "://" in str(location) else os.path.relpath(location, Path(out).parent)
    items = list(_make_items(store.ledger, store.description, href, (bbox, area), progress))
    if not items:
        raise InputError(f"no tile of {location} was attempted there: there is nothing to export")
    with appear_whole(out) as draft:
        try:
            write_geoparquet(items, draft)
        except (rustac.RustacError, OSError) as error:
            raise StoreError(f"{out} cannot be written: {' '.join(str(error).split())}") from error
    return TilesReport(path=str(out), tiles=len(items), bytes=out.stat().st_size, snapshot=store.snapshot)


def _make_items(
    ledger: Ledger,
    description: Description,
    location: str,
    piece: tuple[Sequence[float] | None, Path | str | None],
    progress: Progress,
) -> Iterator[dict[str, Any]]:
    bbox, area = piece
    wanted = frozenset(choose_piece(description.grid, bbox=bbox, area=area).tiles())
    whole, writers, snapshots = len(ledger.entries), ledger.writers, dict[int, str]()
    for number, record in enumerate(ledger.records(), start=1):
        progress(number, whole)
        if record.tile in wanted:
            batch = int(writers[record.tile.row, record.tile.col])
            if batch not in snapshots:
                snapshot = ledger.snapshot_of(batch)
                snapshots[batch] = snapshot.id if snapshot else ""
            yield _make_item(record, description, href=location, batch=batch, snapshot=snapshots[batch])


def _make_item(record: Record, description: Description, *, href: str, batch: int, snapshot: str) -> dict[str, Any]:
    """Return the STAC item of a tile."""
    footprint = _find_footprint(record, description)
    name = f"{description.name}-{record.tile.row}-{record.tile.col}"
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": name,
        "collection": description.name,
        "geometry": shapely.geometry.mapping(footprint),
        "bbox": list(footprint.bounds),
        "properties": _describe(record, description) | {"mapper:batch": batch, "mapper:snapshot": snapshot},
        "links": [],
        "assets": {"map": {"href": href, "title": "Icechunk repository of the map", "roles": ["data"]}},
    }


def _describe(record: Record, description: Description) -> dict[str, Any]:
    used = [item for item in record.items if not item.dropped]
    times = [item.datetime for item in used]
    about = description.extra
    return {
        "datetime": None,
        "start_datetime": _format_time(min(times)) if times else f"{about['time_coverage_start']}T00:00:00Z",
        "end_datetime": _format_time(max(times)) if times else f"{about['time_coverage_end']}T23:59:59Z",
        "mapper:row": record.tile.row,
        "mapper:col": record.tile.col,
        "mapper:status": record.status,
        "mapper:reason": record.reason,
        **{f"mapper:{name}": getattr(record, name) for name in _COPIED},
        "mapper:started_at": _format_time(record.started_at) if record.started_at else None,
        **{f"mapper:seconds_{stage}": record.seconds.get(stage) for stage in ("read", "predict", "wait", "write")},
        "mapper:items": [f"{item.collection}/{item.id}" for item in used],
        "mapper:dropped": [f"{item.collection}/{item.id}: {item.dropped}" for item in record.items if item.dropped],
    }


def _format_time(moment: Any) -> str:
    return str(moment.isoformat()).replace("+00:00", "Z")


def _find_footprint(record: Record, description: Description) -> Any:
    """Return the tile in longitude and latitude."""
    grid = description.grid
    box = shapely.box(*grid.geobox_of(grid.window(record.tile)).boundingbox.bbox)
    dense = shapely.segmentize(box, box.length / 4 / _POINTS)
    return Geometry(dense, grid.crs).to_crs("EPSG:4326").geom
