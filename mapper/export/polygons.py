"""Objects of a band as polygons: GeoParquet 1.1, for GeoPandas, DuckDB, QGIS and GDAL.

An object is a component of the pixels that reach a threshold; see :mod:`mapper.export.tracing`. Polygons are in the CRS
of the map. What made the pixels, and the threshold, are in the metadata of the file, under keys that begin with
``mapper:``. Where a map has no value, no object can be: the file says how many pixels that are.
"""

import json
import math
import os.path
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from affine import Affine
from pyproj import CRS

from mapper.arrays import Float64Array
from mapper.errors import InputError, StoreError
from mapper.export.files import Progress, appear_whole, check_free, ignore_progress
from mapper.export.piece import Piece, choose_piece
from mapper.export.provenance import describe_provenance
from mapper.export.tracing import TracedObject, Tracer
from mapper.redaction import redact_href
from mapper.store.map_store import MapStore
from mapper.store.rasters import Raster, Rasters
from mapper.store.verify import check_contents

_Polygons = npt.NDArray[np.object_]
_PART = 2048
"""Edge of what is read from the store at once, in pixels."""


@dataclass(frozen=True, kw_only=True)
class ObjectRule:
    """Rule by which pixels become polygons."""

    threshold: float = 0.5
    """Least value of a pixel of an object, in units of the band."""
    least_area: float = 0.0
    """Least area of an object in square metres; smaller ones are left out."""
    simplify: float = 0.0
    """Farthest that an outline may move, in units of the CRS (Douglas and Peucker); 0 keeps the edges of pixels."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.threshold) and 0 <= self.least_area < math.inf and 0 <= self.simplify < math.inf):
            raise InputError(
                f"threshold {self.threshold:g}, least area {self.least_area:g}, simplification {self.simplify:g}: "
                "expected finite numbers, the last two not below 0"
            )


@dataclass(frozen=True, kw_only=True)
class PolygonsReport:
    """File that was written."""

    path: str
    band: str
    objects: int
    left_out: int
    """Objects smaller than the least area."""
    area_m2: float
    """Area of all objects in the file, as pixels."""
    pixels: int
    """Pixels that were looked at."""
    missing: int
    """Pixels among them without a value."""
    bytes: int
    snapshot: str

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return asdict(self)

    def summary(self) -> str:
        """Return the report for people, in one line."""
        without = f", no value in {self.missing:,} of {self.pixels:,} px" if self.missing else ""
        smaller = f", {self.left_out:,} smaller ones left out" if self.left_out else ""
        return f"{self.objects:,} polygons of {self.band}, {self.area_m2:,.0f} m2{smaller}{without}"


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Objects of a piece."""

    objects: list[TracedObject]
    pixels: int
    missing: int


def export_polygons(  # noqa: PLR0913
    location: str | Path,
    out: Path,
    *,
    band: str = "",
    rule: ObjectRule | None = None,
    ref: str = "main",
    bbox: Sequence[float] | None = None,
    area: Path | str | None = None,
    progress: Progress = ignore_progress,
) -> PolygonsReport:
    """Write the objects of a band, or of a piece of it, as polygons of a GeoParquet file.

    Columns: ``id`` from 1, in the order of the first pixels row by row; ``area_m2`` and ``pixels`` of the object before
    any simplification; ``mean`` of the values of its pixels; ``geometry``. Objects are cut where the piece ends.

    Args:
        location: Directory, or s3://, gs://, az:// location of the store.
        out: File that appears, whole or not at all.
        band: Name of the band; empty takes the only target band.
        rule: What an object is.
        ref: Branch, tag or snapshot id.
        bbox: Only these pixels: west, south, east, north in degrees.
        area: Only the pixels in the polygons of this GeoJSON file.
        progress: Called for every part that was read.

    Raises:
        InputError: If there is no such band, it holds no values, the file exists already, or box or area make no sense.
        GridError: If nothing of the piece lies on the map.
        StoreError: If the store or the version does not exist, naming a tile that is not what was written, or if the
            file cannot be written.
    """
    check_free(out)
    rule = rule or ObjectRule()
    store = MapStore.open(location, ref)
    piece = choose_piece(store.description.grid, bbox=bbox, area=area)
    raster = _find_raster(store.rasters, band)
    tiles = set(piece.tiles()).intersection(store.description.grid.tiles())
    check_contents(store, tiles)
    found = _find_objects(raster, piece, rule.threshold, progress)
    table, areas = _tabulate(found.objects, piece, rule)
    about = describe_provenance(store, tiles) | _describe(location, out, raster, rule, found)
    with appear_whole(out) as draft:
        try:
            _write(table, draft, crs=piece.grid.crs, about=about)
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{out} cannot be written: {' '.join(str(error).split())}") from error
    return PolygonsReport(
        path=str(out),
        band=raster.name,
        objects=table.num_rows,
        left_out=len(found.objects) - table.num_rows,
        area_m2=areas,
        pixels=found.pixels,
        missing=found.missing,
        bytes=out.stat().st_size,
        snapshot=store.snapshot,
    )


def _find_raster(rasters: Rasters, name: str) -> Raster:
    """Return the band.

    Raises:
        InputError: If it is missing, not the only one, or holds no values.
    """
    values = [each.name for each in rasters.bands.values]
    if not name and len(values) != 1:
        raise InputError(f"the store has {len(values)} target bands ({', '.join(values)}): name one, --band NAME")
    name = name or values[0]
    if name not in rasters.names:
        raise InputError(f"the store has no array {name!r}, it has {', '.join(rasters.names)}")
    raster = rasters.find(name)
    if raster.kind != "values":
        raise InputError(f"{name} holds {raster.kind}, which have no threshold: polygons are made of values")
    return raster


def _find_objects(raster: Raster, piece: Piece, threshold: float, progress: Progress) -> _Found:
    tracer, pixels, missing = Tracer(), 0, 0
    parts = list(piece.parts(_PART))
    for number, part in enumerate(parts, start=1):
        values, inside = raster.decode(raster.read(*part.slices)), piece.inside(part)
        wanted = np.ones(values.shape, bool) if inside is None else inside
        known = np.isfinite(values)
        pixels, missing = pixels + int(wanted.sum()), missing + int((wanted & ~known).sum())
        tracer.add(part, values, wanted & known & (values >= threshold))
        progress(number, len(parts))
    return _Found(objects=tracer.finish(), pixels=pixels, missing=missing)


def _tabulate(objects: list[TracedObject], piece: Piece, rule: ObjectRule) -> tuple[pa.Table, float]:
    """Return the table of the objects that are large enough, and their area in square metres."""
    outlines = np.array([each.outline for each in objects], object)
    placed = _place(outlines, piece.grid.geobox.transform)
    areas = _measure(placed, piece.grid.crs)
    large = areas >= rule.least_area
    kept = shapely.simplify(placed[large], rule.simplify) if rule.simplify else placed[large]
    chosen = [each for each, is_large in zip(objects, large.tolist(), strict=True) if is_large]
    turned = [shapely.geometry.polygon.orient(polygon) for polygon in kept]
    table = pa.table(
        {
            "id": pa.array(range(1, len(chosen) + 1), pa.int64()),
            "area_m2": pa.array(areas[large], pa.float64()),
            "pixels": pa.array([each.pixels for each in chosen], pa.int64()),
            "mean": pa.array([each.mean for each in chosen], pa.float32()),
            "geometry": pa.array([shapely.to_wkb(polygon) for polygon in turned], pa.binary()),
        }
    )
    return table, float(areas[large].sum())


def _place(outlines: _Polygons, transform: Affine) -> _Polygons:
    """Return outlines in pixels as polygons in the CRS of the map."""
    along = np.array([[transform.a, transform.b], [transform.d, transform.e]])
    corner = np.array([transform.c, transform.f])
    placed: _Polygons = shapely.transform(outlines, lambda at: at @ along.T + corner)
    return placed


def _measure(polygons: _Polygons, crs: str) -> Float64Array:
    """Return areas in square metres: in the plane of a projected CRS, on the ellipsoid of a geographic one."""
    system = CRS.from_user_input(crs)
    if not system.is_geographic:
        return np.asarray(shapely.area(polygons) * system.axis_info[0].unit_conversion_factor ** 2, np.float64)
    geod = system.get_geod()
    if geod is None:
        raise InputError(f"{crs} has no ellipsoid, on which areas could be measured")
    return np.array([abs(geod.geometry_area_perimeter(polygon)[0]) for polygon in polygons], np.float64)


def _describe(location: str | Path, out: Path, raster: Raster, rule: ObjectRule, found: _Found) -> dict[str, str]:
    # what is handed on says where the store lies from the file, not where on this machine
    store = redact_href(str(location)) if "://" in str(location) else os.path.relpath(location, Path(out).parent)
    return {
        "store": store,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "band": raster.name,
        "units": raster.units,
        "threshold": f"{rule.threshold:g}",
        "least_area_m2": f"{rule.least_area:g}",
        "simplify": f"{rule.simplify:g}",
        "connectivity": "4",
        "pixels": str(found.pixels),
        "pixels_without_value": str(found.missing),
    }


def _write(table: pa.Table, draft: Path, *, crs: str, about: Mapping[str, str]) -> None:
    """Write a table as GeoParquet 1.1 (OGC 24-013)."""
    polygons = shapely.from_wkb(table["geometry"].to_pylist())
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "crs": CRS.from_user_input(crs).to_json_dict(),
        "orientation": "counterclockwise",
        "edges": "planar",
    }
    if table.num_rows:
        column["bbox"] = shapely.total_bounds(polygons).tolist()
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    metadata = {"geo": json.dumps(geo), **{f"mapper:{name}": text for name, text in about.items() if text}}
    pq.write_table(table.replace_schema_metadata(metadata), draft, compression="zstd", write_page_checksum=True)
