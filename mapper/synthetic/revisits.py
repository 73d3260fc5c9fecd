"""Several dates of Sentinel-2 over no place: granules of one tile on its own lattice, their truth, and maps of them.

What a sensor sees of a drawn scene is simulated by :mod:`mapper.synthetic.bursts`: dates lie beside each other by parts
of a pixel, with noise, gains, haze, clouds and objects that came or went. They are written as level 2A is, the bands of
20 m on their own pixels, digital numbers of two processing baselines, and a scene classification that knows the clouds
but not the haze. The clearest date sees the truth as it is.
"""

import logging
import math
from datetime import UTC, datetime, timedelta
from functools import partial
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
TRUTH_10M = "truth-10m"
"""Collection of the truth of the bands of 20 m."""
SCALES = 2, 4
"""Pixel of the granules / pixel of the drawn scene: maps of several dates at 5 m, and of one at 2.5 m."""
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
    out_dir: Path,
    *,
    seed: int,
    scale: int = 2,
    size_px: int = 192,
    tile_px: int = 512,
    chunk_px: int = 256,
    margin_px: int = 160,
) -> Path:
    """Write dates of one scene as a static catalogue, and beside its directory ``map.yaml`` and ``bands.yaml``.

    The map is one of several dates at 5 m, or with a scale of 4 one of samples at 2.5 m from the clearest date.

    Args:
        out_dir: Directory of the catalogue, made if absent.
        seed: Names the scene.
        scale: Pixel of the granules / pixel of the map and of the truth, one of :data:`SCALES`.
        size_px: Edge of the mapped area in pixels of the map.
        tile_px: Largest tile edge of the maps: a tile is no larger than the area takes, in steps of 64 pixels.
        chunk_px: Largest chunk edge of the maps: a chunk divides a tile.
        margin_px: Least distance from the area to the edges of the granules, in pixels of the map.

    Returns:
        Path of ``catalog.json``.

    Raises:
        ValueError: If the map would be smaller than 16 source pixels.
    """
    if scale not in SCALES:
        raise ValueError(f"a map has pixels of 5 or 2.5 m, a scale of 2 or 4; got {scale}")
    out_dir, tile_px = Path(out_dir), min(tile_px, -(-size_px // _STEP_PX) * _STEP_PX)
    describe = partial(
        describe_map if scale == SCALES[0] else describe_samples_map,
        href=f"{out_dir.name}/catalog.json",
        size_px=size_px,
        tile_px=tile_px,
        chunk_px=math.gcd(tile_px, chunk_px),
    )
    bands = partial(describe_bands_map, **describe.keywords)
    maps = {"map": describe(), "bands": bands()}
    area = parse_spec(maps["map"], base=out_dir.parent).map_grid.area
    ground = _cover_area(area.boundingbox.bbox, margin_px, px_m=10 / scale)
    edge = max(ground.shape)
    image = make_reflectance(seed, size_px=edge)[:, : ground.shape.y, : ground.shape.x]
    options = _DATES.model_copy(update={"scale": scale})
    burst = simulate_burst(image, options, seed=seed)
    items = [_write_granule(out_dir, ground.zoom_out(scale), burst, date) for date in range(options.dates)]
    items += [
        _write_truth(out_dir, ground, burst.truth, burst.anchor, name_truth(scale), FINE),
        _write_truth(out_dir, ground.zoom_out(scale), _see(burst.truth, options), burst.anchor, TRUTH_10M, COARSE),
    ]
    catalog = write_catalog(out_dir, items, _note_collections(scale))
    for name, content in maps.items():
        text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=110)
        (out_dir.parent / f"{name}.yaml").write_text(text)
    _LOGGER.info("wrote %d dates of scene %d to %s", options.dates, seed, out_dir)
    return catalog


def _note_collections(scale: int) -> tuple[CollectionNote, ...]:
    truth = f"Bands of 10 m that the granules were made from, at {10 / scale:g} m"
    return (
        CollectionNote(name=COLLECTION, description="Synthetic Sentinel-2 L2A granules of several dates"),
        CollectionNote(name=name_truth(scale), description=truth),
        CollectionNote(name=TRUTH_10M, description="Bands of 20 m as an instrument would see them at 10 m"),
    )


def name_truth(scale: int) -> str:
    """Return the collection of the truth of the bands of 10 m."""
    return f"truth-{10 / scale:g}m"


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


def describe_samples_map(*, href: str, size_px: int, tile_px: int = 512, chunk_px: int = 256) -> dict[str, Any]:
    """Return the description of a map at 2.5 m of the clearest of those dates, with samples of what may be there."""
    shared = describe_map(href=href, size_px=size_px, tile_px=tile_px, chunk_px=chunk_px)
    return shared | {
        "preset": "sentinel2-generative",
        "area": {"bbox": fit_box(size_px, scale=4, px_m=2.5, crs=CRS, centre=CENTRE)},
        "grid": shared["grid"] | {"resolution": 2.5},
        "target": {"samples": 2, "quality": ["consistency_residual", "detail_gain", "bqa", "risk"]},
        "model": {"name": "flow-s2-x4", "samples": 4, "steps": 4},
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


def _cover_area(box: tuple[float, ...], margin_px: int, *, px_m: float) -> GeoBox:
    """Return fine pixels of a granule that covers a box: edges as in the archive, multiples of 60 m."""
    west, south = (np.floor((edge - margin_px * px_m) / _SNAP_M) * _SNAP_M for edge in box[:2])
    east, north = (np.ceil((edge + margin_px * px_m) / _SNAP_M) * _SNAP_M for edge in box[2:])
    shape = round((north - south) / px_m), round((east - west) / px_m)
    return GeoBox(shape, Affine(px_m, 0, west, 0, -px_m, north), CRS)


def _write_granule(out_dir: Path, ground: GeoBox, burst: Burst, date: int) -> pystac.Item:
    """Write one date on its pixels of 10 m, and return its item."""
    when, baseline = _FIRST + _STEP * date, (OLD_BASELINE, NEW_BASELINE)[date % 2]
    name = f"S2{'AB'[date % 2]}_MSIL2A_{when:%Y%m%dT%H%M%S}_R{(22, 65)[date % 2]:03d}_T{_TILE}_{when:%Y%m%d}T190000"
    boxes = {10: ground, 20: ground.zoom_out(2)}
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


def _see(image: Float32Array, options: BurstOptions) -> Float32Array:
    """Return what an instrument of pixels of 10 m would see without noise, (band, y, x)."""
    return degrade(image, options.scale, psf_sd=options.psf_sd[0])


def _write_truth(
    out_dir: Path, ground: GeoBox, values: Float32Array, date: int, name: str, bands: tuple[str, ...]
) -> pystac.Item:
    """Write some bands of a truth that belongs to a date, and return its item."""
    assets = {}
    for band in bands:
        write_cog(out_dir / name / name / f"{band}.tif", values[BANDS.index(band)], ground, nodata=np.nan)
        assets[band] = describe_asset(f"{band}.tif", ground, title=band, bands=((band, band),))
    when = _FIRST + _STEP * date
    footprint = ground.footprint("EPSG:4326", npoints=40)
    return make_item(name, name, footprint=footprint, when=when, assets=assets, properties={}, crs=CRS)
