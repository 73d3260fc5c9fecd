"""BioMassters chips as a STAC catalogue: Sentinel-1 and -2 by month, a coarse biomass map, and the lidar label.

The chips have no georeference. Each gets a location of its own on a local grid (EPSG:32631), far from the others, and
every item states that the location is made up (``mapper:georeference``); dates are nominal too, since the chips name
months without a year. Measurements are unchanged, with these exceptions:

* The upper left 250 x 250 of 256 x 256 pixels are used, so that 25 x 25 source pixels of 100 m fit.
* Sentinel-1 holds exact zeros as fill beside -9999; both become -9999. A month and orbit without any measurement
  gives no item.
* The label below zero becomes zero. Its outliers stay: the truth is what was delivered, a 16 m grid drawn at 10 m.
* The coarse map is the block mean of the label, which is limited to 500 Mg ha-1 first so that outliers do not spread.
  Its standard deviation is assumed: 10 % of the value, at least 5 Mg ha-1.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import shapely
import yaml
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry

from mapper.arrays import Float32Array
from mapper.catalog.importers import biomassters_files as published
from mapper.catalog.importers.biomassters_files import Chip, Seasons
from mapper.catalog.items import ItemDict
from mapper.catalog.raster import EXTENSIONS, describe_footprint, write_asset
from mapper.catalog.static import write_catalog
from mapper.errors import InputError

_EPSG = 32631
CRS = f"EPSG:{_EPSG}"
CROP_PX = 250
SCALE = 10

_PITCH_M = 25_000
"""Distance of neighbouring chips in metres: more than any halo."""
_COLUMNS, _ROWS = 24, 390
_WEST_M = 200_000
_HAIR_M = 1.0

_COLLECTIONS = {
    "sentinel-2-l2a": "Sentinel-2 level 2A, one image a month, with cloud probability",
    "sentinel-1": "Sentinel-1 backscatter in dB, one image a month and orbit direction",
    "esa-cci-like": "Above-ground biomass at 100 m: block mean of the label, with an assumed standard deviation",
    "truth": "Above-ground biomass from airborne lidar, the label",
}


@dataclass(frozen=True, kw_only=True)
class _LocatedChip:
    """A chip and the location it is given."""

    chip: Chip
    geobox: GeoBox

    @property
    def name(self) -> str:
        return self.chip.name


def make_biomassters_catalog(
    source_dir: Path | str,
    out_dir: Path | str,
    *,
    chips: Sequence[str] | None = None,
    seasons: Literal["quarterly", "monthly"] = "quarterly",
) -> Path:
    """Turn BioMassters chips into a static STAC catalogue of COGs, with one map description per chip.

    Args:
        source_dir: Holds ``{chip}_S1_{month}.tif``, ``{chip}_S2_{month}.tif`` and ``{chip}_agbm.tif``, in any folders.
        out_dir: Gets ``catalog.json``, the collections, and ``{chip}.yaml`` beside ``{chip}.geojson``.
        chips: Names of the chips to take; None takes all. The location of a chip does not depend on this choice.
        seasons: How the maps divide the year: a date of the guide for three months, or for each.

    Returns:
        Path of ``catalog.json``.

    Raises:
        InputError: If there is no chip, a chip is not there, or a file is not as expected.
    """
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    items: list[ItemDict] = []
    for located in _locate_chips(Path(source_dir), chips):
        items += _sentinel2_items(located, out_dir)
        items += _sentinel1_items(located, out_dir)
        items += _biomass_items(located, out_dir)
        _write_map(located, out_dir, published.SEASONS[seasons])
    return write_catalog(
        out_dir,
        catalog={"id": "biomassters", "description": "BioMassters chips on a made-up local grid"},
        collections={
            name: {
                "title": title,
                "description": f"{title}. BioMassters (Nascetti et al.); the grid and the dates are made up.",
                "license": "CC-BY-4.0",
            }
            for name, title in _COLLECTIONS.items()
        },
        items=items,
    )


def _locate_chips(source_dir: Path, names: Sequence[str] | None) -> Iterator[_LocatedChip]:
    known = published.find_chips(source_dir, names)
    if len(known) > _COLUMNS * _ROWS:
        raise InputError(f"{source_dir} holds {len(known)} chips, the local grid has room for {_COLUMNS * _ROWS}")
    for index, chip in enumerate(known):
        if names is None or chip.name in names:
            yield _LocatedChip(chip=chip, geobox=_locate(index))


def _locate(index: int) -> GeoBox:
    """Return the pixels of a chip, its corner on a source pixel edge."""
    row, column = divmod(index, _COLUMNS)
    west, north = _WEST_M + column * _PITCH_M, (row + 1) * _PITCH_M
    return GeoBox((CROP_PX, CROP_PX), Affine(10.0, 0.0, west, 0.0, -10.0, north), CRS)


def _sentinel2_items(located: _LocatedChip, out_dir: Path) -> Iterator[ItemDict]:
    for month in range(12):
        bands = located.chip.read("S2", month, CROP_PX)
        if bands is None:
            continue
        item = _new_item(located, "sentinel-2-l2a", f"{located.name}_S2_{month:02d}", month)
        folder = out_dir / item["collection"] / item["id"]
        clp = bands[-1].astype(np.uint8)
        for name, pixels in zip(published.S2_BANDS, bands[:-1], strict=True):
            asset = write_asset(folder / f"{name}.tif", pixels.astype(np.uint16), located.geobox, nodata=0)
            asset["raster:bands"][0] |= {"scale": published.S2_SCALE, "offset": 0.0}
            item["assets"][name] = asset
        item["assets"]["CLP"] = write_asset(folder / "CLP.tif", clp, located.geobox, nodata=published.NO_CLP)
        item["properties"]["eo:cloud_cover"] = round(float((clp > published.CLOUD_LIMIT).mean() * 100), 3)
        yield item


def _sentinel1_items(located: _LocatedChip, out_dir: Path) -> Iterator[ItemDict]:
    for month in range(12):
        bands = located.chip.read("S1", month, CROP_PX)
        if bands is None:
            continue
        for orbit, channels in published.ORBITS.items():
            measured = [published.find_measured(bands[k]) for k in channels]
            if not any(mask.any() for mask in measured):
                continue
            item = _new_item(located, "sentinel-1", f"{located.name}_S1_{orbit}_{month:02d}", month)
            item["properties"]["sat:orbit_state"] = orbit
            folder = out_dir / item["collection"] / item["id"]
            for name, k, mask in zip(("vv", "vh"), channels, measured, strict=True):
                pixels = np.where(mask, bands[k], published.NODATA).astype(np.float32)
                item["assets"][name] = write_asset(
                    folder / f"{name}.tif", pixels, located.geobox, nodata=published.NODATA
                )
            yield item


def _biomass_items(located: _LocatedChip, out_dir: Path) -> Iterator[ItemDict]:
    truth = located.chip.read_label(CROP_PX)
    blocks = np.minimum(truth, published.LABEL_LIMIT_MG_HA).reshape(CROP_PX // SCALE, SCALE, CROP_PX // SCALE, SCALE)
    mean = blocks.mean(axis=(1, 3))
    sd = np.maximum(published.SD_SHARE * mean, published.SD_LEAST_MG_HA)
    coarse = located.geobox.zoom_out(SCALE)
    for collection, kind, geobox, layers in (
        ("esa-cci-like", "100m", coarse, {"agb": mean, "agb_sd": sd}),
        ("truth", "label", located.geobox, {"agb": truth}),
    ):
        item = _new_item(located, collection, f"{located.name}_{kind}", None)
        folder = out_dir / collection / item["id"]
        for name, values in layers.items():
            pixels: Float32Array = np.nan_to_num(values, nan=published.NODATA).astype(np.float32)
            item["assets"][name] = write_asset(folder / f"{name}.tif", pixels, geobox, nodata=published.NODATA)
        yield item


def _new_item(located: _LocatedChip, collection: str, name: str, month: int | None) -> ItemDict:
    """Return an item without assets; without a month it stands for the year."""
    if month is None:
        moment = {"datetime": None, "start_datetime": "2020-01-01T00:00:00Z", "end_datetime": "2020-12-31T23:59:59Z"}
    else:
        number = published.MONTHS[month]
        year = 2019 if number >= published.MONTHS[0] else 2020
        moment = {"datetime": f"{year}-{number:02d}-15T00:00:00Z"}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [*EXTENSIONS],
        "id": name,
        "collection": collection,
        **describe_footprint(located.geobox),
        "properties": {
            **moment,
            "proj:epsg": _EPSG,
            "mapper:georeference": "none: local grid",
            "mapper:date": "nominal: the chip names a month, no year"
            if month is not None
            else "nominal: no year is known",
        },
        "assets": {},
    }


def _write_map(located: _LocatedChip, out_dir: Path, seasons: Seasons) -> None:
    """Write the description of a map of exactly the pixels of one chip."""
    # a hair inside, so that rounding does not add a source pixel; the centres of all pixels stay well inside
    outline = shapely.segmentize(located.geobox.extent.geom.buffer(-_HAIR_M, join_style="mitre"), 100.0)
    area = Geometry(outline, CRS).to_crs("EPSG:4326")
    (out_dir / f"{located.name}.geojson").write_text(json.dumps(area.json))
    radar = [{"collection": "sentinel-1", "bands": ["vv", "vh"], "orbit": orbit} for orbit in published.ORBITS]
    content = {
        "name": located.name,
        "area": {"geojson": f"{located.name}.geojson"},
        "period": {"start": "2019-09-01", "end": "2020-08-31"},
        "grid": {"crs": CRS, "resolution": 10, "tile": 256, "chunk": 256},
        "catalog": {"provider": "biomassters", "href": "catalog.json"},
        "guide": {
            "layers": [{"collection": "sentinel-2-l2a", "bands": list(published.S2_BANDS)}, *radar],
            "seasons": {name: list(months) for name, months in seasons.items()},
        },
        "source": {
            "collection": "esa-cci-like", "variable": "agb", "sd": "agb_sd", "year": 2020, "resolution": 100,
        },
        "model": {"name": "bicubic"},
        "consistency": "hard",  # the source is an exact block mean, its deviation an assumption
        "store": f"{located.name}.icechunk",
    }  # fmt: skip
    (out_dir / f"{located.name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
