"""ESA CCI biomass maps as a static STAC catalogue: one item for each cell, made from file names and headers.

The maps come as plain files without metadata beside them. What a reader has to know (type, shape, position, a value
that means no data) is read from the header of every file, since the releases differ. Files stay where they are, on
disk or on a server. A cell without a file is sea: there the map is missing, while 0 is land without forest biomass.
"""

import logging
import math
import re
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from odc.geo.geobox import GeoBox

from mapper.access.admission import is_remote
from mapper.access.files import Access, gdal_environment
from mapper.access.rules import AccessRule
from mapper.access.tally import AssetName
from mapper.catalog.importers.cci_file_names import ARCHIVE, AnnualMap, Bbox, Cell, Quantity, cells_near
from mapper.catalog.items import ItemDict
from mapper.catalog.provider import load_provider
from mapper.catalog.raster import EXTENSIONS, describe_footprint
from mapper.catalog.references import path_of, to_reference
from mapper.catalog.static import write_catalog
from mapper.errors import CorruptAssetError, InputError

_log = logging.getLogger(__name__)

PROVIDER = COLLECTION = "esa-cci-biomass"
_ASSETS: dict[str, Quantity] = {"agb": "AGB", "agb_sd": "AGB_SD"}
_UNIT = "Mg ha-1"
_SCIENTIFIC = "https://stac-extensions.github.io/scientific/v1.0.0/schema.json"
_TERMS = "https://artefacts.ceda.ac.uk/licences/specific_licences/esacci_biomass_terms_and_conditions_v2.pdf"
_ABSENT = re.compile(r"does not exist \(HTTP (404|410)\)")
_THREADS = 8
"""Headers read at a time."""
_NAMED = 3
"""Number of files that a message lists."""

JsonDict = dict[str, Any]
Report = Callable[[int, int], None]
"""Callback with the number of cells that were looked up so far, and the number of all."""


def make_cci_catalog(
    out_dir: Path | str,
    *,
    version: str,
    year: int,
    root: str = ARCHIVE,
    bbox: Bbox | None = None,
    access: Access | None = None,
    report: Report | None = None,
) -> Path:
    """Describe the files of one annual biomass map as a static STAC catalogue.

    Args:
        out_dir: The catalogue: a directory that is new, empty, or a catalogue made before, which is replaced.
        version: Of the maps, for example ``7.0``.
        year: Of the map.
        root: Directory or address with the files, in ``v{version}/geotiff/{year}/`` below it or directly in it.
        bbox: West, south, east, north in degrees; cells on or near it are looked for, without it all of the globe.
        access: How files are reached, and who counts.
        report: Told of the progress.

    Returns:
        Path of ``catalog.json``. Its items have the assets ``agb`` and, where the file is there, ``agb_sd``.

    Raises:
        InputError: If there is no such map or no file of it, or ``out_dir`` holds something else.
        AssetError: If a file cannot be read. With any error nothing is written.
    """
    annual, cells = AnnualMap(version=version, year=year), cells_near(bbox)
    out_dir = Path(out_dir).absolute()
    _require_ours(out_dir)
    headers = _Headers(access=access or Access(), rule=load_provider(PROVIDER).rule(COLLECTION).access)
    root = root if is_remote(root) else str(Path(path_of(root)).absolute())
    for folder in annual.folders(root):
        items = _read_items(folder, annual, cells, headers, report)
        if items:
            break
    else:
        tried = [f"{folder}/{annual.file_names(cells[0], 'AGB')[0]}" for folder in annual.folders(root)]
        more = [f"{len(cells) * len(tried) - len(tried)} more"] if len(cells) > 1 else []
        raise InputError(f"{root} has no file of {annual}; tried {', '.join(tried + more)}")
    bare = [item["id"] for item in items if "agb_sd" not in item["assets"]]
    if bare:
        named = ", ".join(bare[:_NAMED] + [f"and {len(bare) - _NAMED} more"] * (len(bare) > _NAMED))
        _log.warning("%d of %d cells have no file of the standard deviation: %s", len(bare), len(items), named)
    return _publish(out_dir, annual, items)


@dataclass(frozen=True, kw_only=True)
class _Header:
    """Header of one file: its asset and its grid."""

    asset: JsonDict
    geobox: GeoBox


@dataclass(frozen=True, kw_only=True)
class _Headers:
    """Reader of the headers of files on disk or on a server."""

    access: Access
    rule: AccessRule

    def find(self, folder: str, annual: AnnualMap, cell: Cell, quantity: Quantity) -> _Header | None:
        """Return the header of the file of a cell, None if there is none.

        Raises:
            InputError: If the file lies elsewhere than its name says.
            AssetError: If it cannot be read.
        """
        for file in annual.file_names(cell, quantity):
            found = self._read(AssetName(item=str(cell), asset=quantity, href=f"{folder}/{file}"))
            if found is not None:
                _check_corner(found.geobox, cell, file)
                return found
        return None

    def _read(self, name: AssetName) -> _Header | None:
        local = not is_remote(name.href)
        if local and not Path(name.href).exists():
            return None

        def describe(dataset: rasterio.DatasetReader) -> _Header:
            return _describe_header(dataset, name.href)

        try:
            with gdal_environment():
                return self.access.read(name, self.rule, describe)
        except CorruptAssetError as error:
            if local or not _ABSENT.search(str(error).replace(name.href, "")):
                raise
            return None


def _read_items(
    folder: str, annual: AnnualMap, cells: Sequence[Cell], headers: _Headers, report: Report | None
) -> list[ItemDict]:
    def read(cell: Cell) -> ItemDict | None:
        biomass = headers.find(folder, annual, cell, "AGB")
        if biomass is None:
            return None
        found = {"agb": biomass, "agb_sd": headers.find(folder, annual, cell, "AGB_SD")}
        return _make_item(annual, {key: header for key, header in found.items() if header is not None})

    items = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for done, item in enumerate(pool.map(read, cells), start=1):
            items += [item] if item is not None else []
            if report is not None:
                report(done, len(cells))
    return items


def _make_item(annual: AnnualMap, headers: dict[str, _Header]) -> ItemDict:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": list(EXTENSIONS[:2]),
        "id": Path(headers["agb"].asset["href"]).stem,
        "collection": COLLECTION,
        **describe_footprint(headers["agb"].geobox),
        "properties": {
            "datetime": None,
            "start_datetime": f"{annual.year}-01-01T00:00:00Z",
            "end_datetime": f"{annual.year}-12-31T23:59:59Z",
            "version": annual.version,
        },
        "assets": {key: header.asset for key, header in headers.items()},
    }


def _describe_header(dataset: rasterio.DatasetReader, href: str) -> _Header:
    """Return the STAC asset of a file and the grid of its pixels."""
    if dataset.crs is None:
        raise OSError("no georeference")
    code = dataset.crs.to_epsg()
    band: JsonDict = {"data_type": dataset.dtypes[0], "unit": _UNIT}
    nodata, scale, offset = dataset.nodata, dataset.scales[0], dataset.offsets[0]
    if nodata is not None:
        band["nodata"] = "nan" if math.isnan(nodata) else nodata
    if (scale, offset) != (1.0, 0.0):
        band |= {"scale": scale, "offset": offset}
    asset = {
        "href": href if is_remote(href) else to_reference(href),
        "type": "image/tiff; application=geotiff",
        "roles": ["data"],
        **({"proj:epsg": code} if code else {"proj:epsg": None, "proj:wkt2": dataset.crs.to_wkt()}),
        "proj:shape": list(dataset.shape),
        "proj:transform": list(dataset.transform)[:6],
        "raster:bands": [band],
    }
    return _Header(asset=asset, geobox=GeoBox(dataset.shape, dataset.transform, str(dataset.crs)))


def _check_corner(geobox: GeoBox, cell: Cell, file: str) -> None:
    """Refuse a file whose corner is not that of its name: names by another corner would shift the map by a cell."""
    at = geobox.transform
    if abs(at.c - cell.west) > abs(at.a) / 2 or abs(at.f - cell.north) > abs(at.e) / 2:
        raise InputError(
            f"{file} begins at longitude {at.c:.10g}, latitude {at.f:.10g}; its name says {cell.west}, {cell.north}"
        )


def _require_ours(out_dir: Path) -> None:
    if not out_dir.exists():
        return
    foreign = sorted(path.name for path in out_dir.iterdir()) if out_dir.is_dir() else [out_dir.name]
    foreign = [name for name in foreign if name not in ("catalog.json", COLLECTION)]
    if foreign:
        raise InputError(f"{out_dir} holds {', '.join(foreign[:_NAMED])}, no such catalogue: give a new directory")


def _publish(out_dir: Path, annual: AnnualMap, items: Sequence[ItemDict]) -> Path:
    """Write the catalogue beside its final folder, then move it there whole."""
    doi = annual.release.doi
    collection = {
        "title": f"{annual}, 100 m",
        "description": (
            f"Above-ground biomass and its standard deviation, {_UNIT}. {annual}, Santoro, M. and Cartus, O., NERC EDS "
            f"Centre for Environmental Data Analysis, doi:{doi}. Terms: {_TERMS}"
        ),
        "license": "proprietary",
        "stac_extensions": [_SCIENTIFIC],
        "sci:doi": doi,
        "providers": [
            {"name": "ESA Climate Change Initiative, Biomass", "roles": ["producer", "licensor"]},
            {"name": "NERC EDS Centre for Environmental Data Analysis", "roles": ["host"], "url": ARCHIVE},
        ],
    }
    catalog = {"id": COLLECTION, "description": f"{annual}, described by mapper from the headers of its files"}
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out_dir.name}-", dir=out_dir.parent) as scratch:
            fresh = Path(scratch) / "fresh"
            write_catalog(fresh, catalog=catalog, collections={COLLECTION: collection}, items=items)
            if out_dir.exists():
                out_dir.rename(Path(scratch) / "stale")
            fresh.rename(out_dir)
    except OSError as error:
        raise InputError(f"{out_dir} cannot be written: {error}") from error
    return out_dir / "catalog.json"
