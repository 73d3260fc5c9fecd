"""Several dates of Sentinel-2 over no place: granules of one tile on its own lattice, their truth, and maps of them.

What a sensor sees of a drawn scene is simulated by :mod:`mapper.synthetic.bursts`: dates lie beside each other by parts
of a pixel, with noise, gains, haze, clouds and objects that came or went. They are written as level 2A is, the bands of
20 m on their own pixels, digital numbers of two processing baselines, and a scene classification that knows the clouds
but not the haze. The clearest date sees the truth as it is.
"""

import logging
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import yaml
from affine import Affine
from odc.geo.geobox import GeoBox

from mapper.arrays import BoolArray, Float32Array
from mapper.spec import parse_spec
from mapper.synthetic.bursts import Burst, BurstOptions, degrade, simulate_burst
from mapper.synthetic.frames import write_cog
from mapper.synthetic.reflectance import BANDS, make_reflectance
from mapper.synthetic.scenes import fit_box
from mapper.synthetic.sentinel2 import COLLECTION, NEW_BASELINE, OLD_BASELINE, to_numbers
from mapper.synthetic.stac import CollectionNote, describe_asset, make_item, write_catalog

FINE, COARSE = ("B02", "B03", "B04", "B08"), ("B05", "B06", "B07", "B8A", "B11", "B12")
"""Bands of 10 and of 20 m."""
SHOWN = ("B02", "B03", "B04")
"""Bands of the map of several dates: three of the four, to take no longer than a demo should."""
TRUTH_5M, TRUTH_10M = "truth-5m", "truth-10m"
TRUTHS = {TRUTH_5M: FINE, TRUTH_10M: COARSE}
"""Bands of the truths by collection: those of 10 m at 5 m, those of 20 m at 10 m."""
CRS, CENTRE = "EPSG:32633", (500_000, 5_600_000)
"""Zone of the granules, and the middle of the area, on the meridian of the zone: metres."""
_LOGGER = logging.getLogger(__name__)
_TILE = "33UVR"
_FIRST, _STEP = datetime(2024, 6, 3, 10, 10, 31, tzinfo=UTC), timedelta(days=5)
_SNAP_M = 60
_STEP_PX = 64
_CLEAR, _CLOUD = 4, 9
_DATES = BurstOptions(
    dates=8,
    shift_px=0.7,
    psf_sd=(0.5, 0.5),
    noise=(0.02, 0.02),
    gain=0.06,
    offset=0.1,
    clouds=0.15,
    haze=0.05,
    drift=0.1,
    changed=0.04,
)
"""As of two orbits in a month, in products that were not registered to each other, and with fields that ripen."""


def write_revisits(
    out_dir: Path, *, seed: int, size_px: int = 192, tile_px: int = 512, chunk_px: int = 256, margin_px: int = 160
) -> Path:
    """Write dates of one scene as a static catalogue, and beside its directory ``map.yaml`` and ``bands.yaml``.

    Args:
        out_dir: Directory of the catalogue, made if absent.
        seed: Names the scene.
        size_px: Edge of the mapped area in pixels of 5 m.
        tile_px: Largest tile edge of the maps: a tile is no larger than the area takes, in steps of 64 pixels.
        chunk_px: Largest chunk edge of the maps: a chunk divides a tile.
        margin_px: Least distance from the area to the edges of the granules, in pixels of 5 m.

    Returns:
        Path of ``catalog.json``.

    Raises:
        ValueError: If the map would be smaller than 16 source pixels.
    """
    out_dir, tile_px = Path(out_dir), min(tile_px, -(-size_px // _STEP_PX) * _STEP_PX)
    chunk_px = math.gcd(tile_px, chunk_px)
    href = f"{out_dir.name}/catalog.json"
    maps = {
        name: describe(href=href, size_px=size_px, tile_px=tile_px, chunk_px=chunk_px)
        for name, describe in (("map", describe_map), ("bands", describe_bands_map))
    }
    ground = _cover_area(parse_spec(maps["map"], base=out_dir.parent).map_grid.area.boundingbox.bbox, 5 * margin_px)
    edge = max(ground.shape)
    image = make_reflectance(seed, size_px=edge)[:, : ground.shape.y, : ground.shape.x]
    burst = simulate_burst(image, _DATES, seed=seed)
    items = [_write_granule(out_dir, ground, burst, date) for date in range(_DATES.dates)]
    items += [_write_truth(out_dir, ground, burst, name) for name in TRUTHS]
    notes = (
        CollectionNote(name=COLLECTION, description="Synthetic Sentinel-2 L2A granules of several dates"),
        CollectionNote(name=TRUTH_5M, description="Bands of 10 m that the granules were made from, at 5 m"),
        CollectionNote(name=TRUTH_10M, description="Bands of 20 m as an instrument would see them at 10 m"),
    )
    catalog = write_catalog(out_dir, items, notes)
    for name, content in maps.items():
        text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=110)
        (out_dir.parent / f"{name}.yaml").write_text(text)
    _LOGGER.info("wrote %d dates of scene %d to %s", _DATES.dates, seed, out_dir)
    return catalog


def describe_map(*, href: str, size_px: int, tile_px: int = 512, chunk_px: int = 256) -> dict[str, Any]:
    """Return the description of a map of several dates at 5 m, as YAML holds it; paths refer to its folder.

    Raises:
        ValueError: If the map would be smaller than 16 source pixels.
    """
    if size_px < 32:
        raise ValueError(f"a map needs at least 32 px, got {size_px} px")
    last = _FIRST + _STEP * (_DATES.dates - 1)
    return {
        "preset": "sentinel2-multi",
        "name": "demo",
        "area": {"bbox": fit_box(size_px, scale=4, px_m=5, crs=CRS, centre=CENTRE)},
        "period": {"start": str(_FIRST.date()), "end": str(last.date())},
        "grid": {"crs": CRS, "resolution": 5, "tile": tile_px, "chunk": chunk_px},
        "catalog": {"provider": "demo", "href": href},
        "source": {"bands": list(SHOWN)},
        "target": {"sd": True},
        "model": {"name": "burst-fusion-x2"},
        "store": "map.icechunk",
    }


def describe_bands_map(*, href: str, size_px: int, tile_px: int = 512, chunk_px: int = 256) -> dict[str, Any]:
    """Return the description of a map of the 20 m bands at 10 m of the same area and dates."""
    shared = describe_map(href=href, size_px=size_px, tile_px=tile_px, chunk_px=chunk_px)
    del shared["source"], shared["target"]
    return shared | {
        "preset": "sentinel2-20m",
        "name": "bands",
        "grid": shared["grid"] | {"resolution": 10, "tile": tile_px // 2, "chunk": chunk_px // 2},
        "model": {"name": "band-fusion-20m"},
        "store": "bands.icechunk",
    }


def _cover_area(box: tuple[float, ...], margin_m: float) -> GeoBox:
    """Return the pixels of 5 m of a granule that covers a box: edges as in the archive, multiples of 60 m."""
    west, south = (np.floor((edge - margin_m) / _SNAP_M) * _SNAP_M for edge in box[:2])
    east, north = (np.ceil((edge + margin_m) / _SNAP_M) * _SNAP_M for edge in box[2:])
    return GeoBox((round((north - south) / 5), round((east - west) / 5)), Affine(5, 0, west, 0, -5, north), CRS)


def _write_granule(out_dir: Path, ground: GeoBox, burst: Burst, date: int) -> pystac.Item:
    """Write one date, and return its item."""
    when, baseline = _FIRST + _STEP * date, (OLD_BASELINE, NEW_BASELINE)[date % 2]
    name = f"S2{'AB'[date % 2]}_MSIL2A_{when:%Y%m%dT%H%M%S}_R{(22, 65)[date % 2]:03d}_T{_TILE}_{when:%Y%m%d}T190000"
    boxes = {10: ground.zoom_out(2), 20: ground.zoom_out(4)}
    assets = {}
    for band, pixels in _split_bands(burst.values[date]).items():
        resolution = 20 if band in COARSE else 10
        file = f"T{_TILE}_{when:%Y%m%dT%H%M%S}_{band}_{resolution}m.tif"
        numbers = to_numbers(pixels, offset=1000 * (baseline == NEW_BASELINE))
        write_cog(out_dir / COLLECTION / name / file, numbers, boxes[resolution], nodata=0)
        assets[band] = describe_asset(file, boxes[resolution], title=f"{band} - {resolution}m", bands=((band, band),))
    classes = _classify(burst.clear[date])
    file = f"T{_TILE}_{when:%Y%m%dT%H%M%S}_SCL_20m.tif"
    write_cog(out_dir / COLLECTION / name / file, classes, boxes[20], nodata=0)
    assets["SCL"] = describe_asset(file, boxes[20], title="Scene classification map (SCL)")
    properties = {
        "platform": f"Sentinel-2{'AB'[date % 2]}",
        "eo:cloud_cover": round(100 * float((classes == _CLOUD).mean()), 6),
        "s2:mgrs_tile": _TILE,
        "s2:processing_baseline": baseline,
    }
    footprint = ground.footprint("EPSG:4326", npoints=40)
    return make_item(
        name, COLLECTION, footprint=footprint, when=when, assets=assets, properties=properties, crs=CRS
    )  # fmt: skip


def _split_bands(values: Float32Array) -> dict[str, Float32Array]:
    """Return the bands of one date, (band, y, x) at 10 m, each on its own pixels."""
    coarse = degrade(values, 2)
    return {band: coarse[at] if band in COARSE else values[at] for at, band in enumerate(BANDS)}


def _classify(clear: BoolArray) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return classes at 20 m of a mask at 10 m: cloud where any of its pixels is."""
    rows, cols = clear.shape
    all_clear = clear.reshape(rows // 2, 2, cols // 2, 2).all((1, 3))
    return np.where(all_clear, np.uint8(_CLEAR), np.uint8(_CLOUD))


def _write_truth(out_dir: Path, ground: GeoBox, burst: Burst, name: str) -> pystac.Item:
    """Write the bands of a truth, and return its item: seen without noise by the date that the truth belongs to."""
    fine = name == TRUTH_5M
    box = ground if fine else ground.zoom_out(2)
    values = burst.truth if fine else degrade(burst.truth, 2, psf_sd=_DATES.psf_sd[0])
    assets = {}
    for band in TRUTHS[name]:
        write_cog(out_dir / name / name / f"{band}.tif", values[BANDS.index(band)], box, nodata=np.nan)
        assets[band] = describe_asset(f"{band}.tif", box, title=band, bands=((band, band),))
    when = _FIRST + _STEP * burst.anchor
    footprint = ground.footprint("EPSG:4326", npoints=40)
    return make_item(name, name, footprint=footprint, when=when, assets=assets, properties={}, crs=CRS)
