"""Bands of a map, or a piece of them, as a cloud-optimised GeoTIFF.

All bands of a file have one dtype and one nodata value, as GDAL wants: the target bands of a map go together, their
standard deviations go together, flags and counts go alone.

Numbers are those of the store, with its scale, offset and nodata. They are read part by part into a plain GeoTIFF,
which GDAL then arranges: headers first, overviews before pixels. Both steps hold a bounded part of the pixels in
memory, and the first needs room on the disk beside the result.
"""

from collections.abc import Sequence
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
from mapper.export.provenance import describe_provenance
from mapper.predict.quality import read_flags
from mapper.store.map_store import MapStore
from mapper.store.rasters import Raster, Rasters
from mapper.store.verify import check_contents

_BLOCK = 512
"""Edge of the blocks of the file, in pixels."""
_PART = 4 * _BLOCK
"""Edge of what is read from the store at once: whole blocks, so that none is written twice."""
_CACHE_MB = 64
_SEMANTICS = {"values": "AVERAGE", "counts": "AVERAGE", "flags": "NEAREST"}
"""Resampling of overviews: bits have no mean."""


@dataclass(frozen=True, kw_only=True)
class GeotiffReport:
    """File that was written."""

    path: str
    variable: str
    """Names of the bands, with commas between them."""
    rows: int
    cols: int
    overviews: tuple[int, ...]
    """Factors of the overviews."""
    bytes: int
    snapshot: str

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return asdict(self)

    def summary(self) -> str:
        """Return the report for people, in one line."""
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
    """Write bands of a store, or a piece of them, as a cloud-optimised GeoTIFF.

    Args:
        location: Directory, or s3://, gs://, az:// location of the store.
        out: File that appears, whole or not at all.
        variable: Names of the bands, with commas between them; empty takes all target bands of a map, of a guide its
            first channel.
        ref: Branch, tag or snapshot id.
        bbox: Only these pixels: west, south, east, north in degrees.
        area: Only the pixels in the polygons of this GeoJSON file.
        progress: Called for every part that was read.

    Raises:
        InputError: If there is no such band, bands are stored in different ways, the file exists already, or box or
            area make no sense.
        GridError: If nothing of the piece lies on the map.
        StoreError: If the store or the version does not exist, naming a tile that is not what was written, or if the
            file cannot be written.
    """
    check_free(out)
    store = MapStore.open(location, ref)
    description = store.description
    piece = choose_piece(description.grid, bbox=bbox, area=area)
    rasters = _find_rasters(store.rasters, variable)
    tiles = set(piece.tiles()).intersection(description.grid.tiles())
    check_contents(store, tiles)
    tags = describe_provenance(store, tiles)
    with appear_whole(out) as final, rasterio.Env(GDAL_CACHEMAX=_CACHE_MB):
        draft = final.with_name("draft.tif")
        try:
            tags = _describe_file(description.extra, rasters, tags)
            _write_draft(draft, rasters, piece, tags=tags, progress=progress)
            _arrange(draft, final, resampling=_SEMANTICS[rasters[0].kind])
        except (RasterioError, OSError) as error:
            raise StoreError(f"{out} cannot be written: {' '.join(str(error).split())}") from error
    return _report(out, rasters, snapshot=store.snapshot)


def _find_rasters(rasters: Rasters, variable: str) -> list[Raster]:
    """Return the bands of a file.

    Raises:
        InputError: If one is missing, or they cannot go into one file.
    """
    default = [band.name for band in rasters.bands.values or rasters.bands.bands[:1]]
    names = [name.strip() for name in variable.split(",")] if variable else default
    unknown = [name for name in names if name not in rasters.names]
    if unknown:
        raise InputError(f"the store has no array {unknown[0]!r}, it has {', '.join(rasters.names)}")
    found = [rasters.find(name) for name in names]
    if len({(raster.kind, raster.band.dtype, repr(raster.band.fill)) for raster in found}) > 1:
        stored = ", ".join(f"{raster.name} as {raster.band.dtype} {raster.kind}" for raster in found)
        raise InputError(f"bands of one GeoTIFF are stored alike, got {stored}: export them one by one")
    return found


def _write_draft(draft: Path, rasters: list[Raster], piece: Piece, *, tags: dict[str, str], progress: Progress) -> None:
    """Write the pixels of a piece, part by part."""
    rows, cols = piece.window.shape
    geobox, band = piece.grid.geobox_of(piece.window), rasters[0].band
    parts = list(piece.parts(_PART))
    with rasterio.open(
        draft,
        "w",
        driver="GTiff",
        width=cols,
        height=rows,
        count=len(rasters),
        dtype=band.dtype,
        crs=CRS.from_user_input(piece.grid.crs),
        transform=geobox.transform,
        nodata=None if rasters[0].kind == "counts" else band.fill,
        tiled=True,
        blockxsize=_BLOCK,
        blockysize=_BLOCK,
        compress="deflate",
        zlevel=1,
        bigtiff="if_safer",
        sparse_ok=True,
    ) as file:
        file.update_tags(**tags)
        _describe_bands(file, rasters)
        for number, part in enumerate(parts, start=1):
            inside = piece.inside(part)
            top, left = part.top - piece.window.top, part.left - piece.window.left
            for index, raster in enumerate(rasters, start=1):
                pixels = raster.read(*part.slices)
                if inside is not None:
                    pixels = np.where(inside, pixels, pixels.dtype.type(band.fill))
                file.write(pixels, index, window=FileWindow(left, top, *reversed(part.shape)))
            progress(number, len(parts))


def _describe_bands(file: Any, rasters: list[Raster]) -> None:
    encodings = [raster.band.encoding for raster in rasters if raster.band.encoding]
    if encodings:
        file.scales = [encoding.scale_factor for encoding in encodings]
        file.offsets = [encoding.add_offset for encoding in encodings]
    for index, raster in enumerate(rasters, start=1):
        file.set_band_description(index, raster.band.long_name)
        if raster.band.vertical_datum:
            file.update_tags(index, vertical_datum=raster.band.vertical_datum)
        if raster.kind != "flags":
            file.set_band_unit(index, raster.units)
        else:
            meanings = read_flags(raster.attributes).items()
            file.update_tags(index, flags=", ".join(f"{value} {meaning}" for meaning, (_, value) in meanings))


def _describe_file(about: Any, rasters: list[Raster], tags: dict[str, str]) -> dict[str, str]:
    """Return the tags of the file: those that TIFF knows, and ours."""
    rights = "; ".join(tags[name] for name in ("licence", "attribution") if name in tags)
    names = ",".join(raster.name for raster in rasters)
    texts = {
        "TIFFTAG_IMAGEDESCRIPTION": f"{about['title']} ({names})",
        "TIFFTAG_SOFTWARE": f"mapper {__version__}",
        "TIFFTAG_COPYRIGHT": rights,
        "variable": names,
        "units": ",".join(dict.fromkeys(raster.units for raster in rasters)),
        "vertical_datum": ",".join(dict.fromkeys(filter(None, (raster.band.vertical_datum for raster in rasters)))),
        **tags,
    }
    return {name: text for name, text in texts.items() if text}


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


def _report(out: Path, rasters: list[Raster], *, snapshot: str) -> GeotiffReport:
    with rasterio.open(out) as file:
        return GeotiffReport(
            path=str(out),
            variable=",".join(raster.name for raster in rasters),
            rows=file.height,
            cols=file.width,
            overviews=tuple(file.overviews(1)),
            bytes=out.stat().st_size,
            snapshot=snapshot,
        )
