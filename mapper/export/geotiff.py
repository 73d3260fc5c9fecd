"""One array of a map, or a piece of it, as a cloud-optimised GeoTIFF.

Numbers are those of the store, with its scale, offset and nodata. They are read part by part into a plain GeoTIFF,
which GDAL then arranges: headers first, overviews before pixels. Both steps hold a bounded part of the pixels in
memory, and the first needs room on the disk beside the result.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.windows import Window as FileWindow

from mapper import __version__
from mapper.errors import InputError, StoreError
from mapper.export.files import Progress, appear_whole, check_free, ignore_progress
from mapper.export.piece import Piece, choose_piece
from mapper.export.provenance import describe_provenance, find_makers
from mapper.grid import Window
from mapper.store.description import read_description
from mapper.store.ledger import Ledger, read_ledger
from mapper.store.rasters import Raster, Rasters

_BLOCK = 512
"""Edge of the blocks of the file, in pixels."""
_PART = 4 * _BLOCK
"""Edge of what is read from the store at once: whole blocks, so that none is written twice."""
_CACHE_MB = 64
_SEMANTICS = {"values": "AVERAGE", "counts": "AVERAGE", "flags": "NEAREST"}
"""How overviews are made: bits have no mean."""


@dataclass(frozen=True, kw_only=True)
class GeotiffReport:
    """What was written."""

    path: str
    variable: str
    rows: int
    cols: int
    overviews: tuple[int, ...]
    """Factors."""
    bytes: int
    snapshot: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def summary(self) -> str:
        """For people, in one line."""
        return f"{self.variable}, {self.rows:,} x {self.cols:,} px, overviews {self.overviews or 'none'}"


def export_geotiff(
    location: str | Path,
    out: Path,
    *,
    variable: str = "",
    ref: str = "main",
    bbox: Sequence[float] | None = None,
    area: Path | str | None = None,
    progress: Progress = ignore_progress,
) -> GeotiffReport:
    """Write one array of a store, or a piece of it, as a cloud-optimised GeoTIFF.

    Args:
        location: Of the store.
        out: Where the file appears, whole or not at all.
        variable: Name of the array; empty takes the first, of a map its values.
        ref: Branch, tag or snapshot id.
        bbox: Only these pixels: west, south, east, north in degrees.
        area: Only the pixels in the polygons of this GeoJSON file.
        progress: Told of every part that was read.

    Raises:
        InputError: If there is no such array, the file exists already, or box or area make no sense.
        GridError: If nothing of the piece lies on the map.
        StoreError: If the store or the version does not exist, or the file cannot be written.
    """
    check_free(out)
    ledger = read_ledger(location, ref=ref)
    store = ledger.session.store
    description = read_description(store)
    piece = choose_piece(description.grid, bbox=bbox, area=area)
    raster = _find_raster(Rasters(store, description), variable or description.bands[0].name)
    makers = find_makers(ledger, set(piece.tiles()).intersection(description.grid.tiles()))
    tags = describe_provenance(description, snapshot=ledger.session.snapshot_id, makers=makers)
    with appear_whole(out) as final, rasterio.Env(GDAL_CACHEMAX=_CACHE_MB):
        draft = final.with_name("draft.tif")
        try:
            _write_draft(draft, raster, piece, tags=_describe_file(description.extra, raster, tags), progress=progress)
            _arrange(draft, final, resampling=_SEMANTICS[raster.kind])
        except (RasterioError, OSError) as error:
            raise StoreError(f"{out} cannot be written: {' '.join(str(error).split())}") from error
    return _report(out, raster, ledger)


def _find_raster(rasters: Rasters, variable: str) -> Raster:
    try:
        return rasters.find(variable)
    except KeyError as error:
        raise InputError(f"the store has no array {variable!r}, it has {', '.join(rasters.names)}") from error


def _write_draft(draft: Path, raster: Raster, piece: Piece, *, tags: dict[str, str], progress: Progress) -> None:
    """Write the pixels of a piece, part by part."""
    rows, cols = piece.window.shape
    geobox = piece.grid.geobox_of(piece.window)
    fill = _fill_of(raster)
    parts = list(_parts_of(piece.window))
    with rasterio.open(
        draft,
        "w",
        driver="GTiff",
        width=cols,
        height=rows,
        count=1,
        dtype=raster.array.dtype,
        crs=CRS.from_user_input(piece.grid.crs),
        transform=geobox.transform,
        nodata=None if raster.kind == "counts" else fill,
        tiled=True,
        blockxsize=_BLOCK,
        blockysize=_BLOCK,
        compress="deflate",
        zlevel=1,
        bigtiff="if_safer",
        sparse_ok=True,
    ) as file:
        file.update_tags(**tags)
        _describe_band(file, raster)
        for number, part in enumerate(parts, start=1):
            pixels = raster.read(*part.slices)
            inside = piece.inside(part)
            if inside is not None:
                pixels = np.where(inside, pixels, pixels.dtype.type(fill))
            top, left = part.top - piece.window.top, part.left - piece.window.left
            file.write(pixels, 1, window=FileWindow(left, top, *reversed(part.shape)))
            progress(number, len(parts))


def _parts_of(window: Window) -> Iterator[Window]:
    for top in range(window.top, window.bottom, _PART):
        for left in range(window.left, window.right, _PART):
            bottom, right = min(top + _PART, window.bottom), min(left + _PART, window.right)
            yield Window(top=top, left=left, bottom=bottom, right=right)


def _describe_band(file: Any, raster: Raster) -> None:
    about = raster.attributes
    file.set_band_description(1, str(about.get("long_name", raster.name)))
    if raster.band.encoding:
        file.scales, file.offsets = (raster.band.encoding.scale_factor,), (raster.band.encoding.add_offset,)
    if raster.kind != "flags":
        file.set_band_unit(1, raster.units)
    else:
        masks = [int(mask) for mask in about["flag_masks"]]
        meanings = zip(masks, str(about["flag_meanings"]).split(), strict=True)
        file.update_tags(1, flags=", ".join(f"{mask} {meaning}" for mask, meaning in meanings))


def _describe_file(about: Any, raster: Raster, tags: dict[str, str]) -> dict[str, str]:
    """Tags of the file: those that TIFF knows, and ours."""
    rights = "; ".join(tags[name] for name in ("licence", "attribution") if name in tags)
    said = {
        "TIFFTAG_IMAGEDESCRIPTION": f"{about['title']} ({raster.name})",
        "TIFFTAG_SOFTWARE": f"mapper {__version__}",
        "TIFFTAG_COPYRIGHT": rights,
        "variable": raster.name,
        "units": raster.units,
        **tags,
    }
    return {name: text for name, text in said.items() if text}


def _arrange(draft: Path, final: Path, *, resampling: str) -> None:
    """Copy a GeoTIFF into the order of a cloud-optimised one, with overviews."""
    rasterio.shutil.copy(
        draft,
        final,
        driver="COG",
        COMPRESS="DEFLATE",
        PREDICTOR="YES",
        BLOCKSIZE=str(_BLOCK),
        OVERVIEWS="IGNORE_EXISTING",
        OVERVIEW_RESAMPLING=resampling,
        BIGTIFF="IF_SAFER",
        SPARSE_OK="YES",
    )


def _fill_of(raster: Raster) -> float:
    fill: float = raster.array.fill_value.item()
    return fill


def _report(out: Path, raster: Raster, ledger: Ledger) -> GeotiffReport:
    with rasterio.open(out) as file:
        return GeotiffReport(
            path=str(out),
            variable=raster.name,
            rows=file.height,
            cols=file.width,
            overviews=tuple(file.overviews(1)),
            bytes=out.stat().st_size,
            snapshot=ledger.session.snapshot_id,
        )
