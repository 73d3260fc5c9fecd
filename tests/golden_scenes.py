"""Scenes for the golden maps: made of whole numbers by a seeded generator, and a static catalogue that lists them."""

import json

import numpy as np
from scenes import box_at, write_item

EAST, NORTH = 4_460_000, 3_147_200
"""Upper left corner of the mapped area, EPSG:3035; on the lattice of source pixels of 100 m and of 80 m."""
BOX = (11.9987, 51.41508, 12.0095, 51.41808)
"""Degrees; its image lies in 800 m x 400 m at that corner, and in every source pixel of them."""
WIDE = (11.99298, 51.41508, 12.01538, 51.42168)
"""Degrees; the same for 1600 m x 800 m, from 400 m west and north of that corner."""
DAYS = ("2020-05-14", "2020-06-11", "2020-07-07", "2020-08-18", "2020-09-09")
FINE = ("B02", "B03", "B04", "B08")
COARSE = ("B05", "B06", "B07", "B8A", "B11", "B12")
_WEST, _TOP = 289_290, 5_702_650
"""Upper left corner of the scenes, EPSG:32633: askew to the map."""
_ROWS, _COLS = 448, 480


def write_scenes(folder, *, days=DAYS, bands=(*FINE, *COARSE), radar=True):
    """Write scenes of some days, and coarse maps of 100 m (2020, of two collections) and 80 m (2019).

    Returns:
        Path of ``catalog.json``.
    """
    items = [_write_optical(folder, day, number, bands) for number, day in enumerate(days)]
    if radar:
        items += [item for number, day in enumerate(days) for item in _write_radar(folder, day, number)]
    items += [_write_source(folder, 100, 2020), _write_source(folder, 80, 2019)]
    items.append(_write_source(folder, 100, 2020, collection="esa-cci-like"))
    return write_catalog(folder, items)


def write_catalog(folder, items):
    """List items in a static catalogue."""
    for item in items:
        (folder / f"{item['id']}.json").write_text(json.dumps(item))
    links = [{"rel": "item", "href": f"{item['id']}.json"} for item in items]
    catalog = {"type": "Catalog", "id": "golden", "stac_version": "1.0.0", "description": "golden", "links": links}
    (folder / "catalog.json").write_text(json.dumps(catalog))
    return folder / "catalog.json"


def _write_optical(folder, day, number, bands):
    """Two baselines in turn, a cloud on every date, said by classes (SCL) and in percent (CLP)."""
    rng = np.random.default_rng([1, number])
    place, coarse = _place(10), _place(20)
    baseline = ("03.01", "05.10")[number % 2]
    offset = 1000 if baseline == "05.10" else 0
    assets = {}
    for band in bands:
        where = place if band in FINE else coarse
        level = 400 + 300 * (*FINE, *COARSE).index(band)
        stands = _stands(where.shape, where.resolution.x) * (level // 4 + 40 * number)
        pixels = offset + level + stands + rng.integers(-12, 13, where.shape)
        assets[band] = pixels.astype(np.uint16), where
    cloud = np.zeros(coarse.shape, bool)
    cloud[20 + 24 * number : 60 + 24 * number, 30 + 20 * number : 110 + 20 * number] = True
    assets["SCL"] = np.where(cloud, 9, 4).astype(np.uint8), coarse
    assets["CLP"] = np.where(cloud, 80, 3).astype(np.uint8), coarse
    facts = {"platform": "sentinel-2a", "eo:cloud_cover": 15.0, "s2:processing_baseline": baseline}
    return write_item(folder, f"S2_{day}", f"{day}T10:10:31Z", assets, **facts)


def _write_radar(folder, day, number):
    """Power of one orbit (sentinel-1-rtc), decibel of both (sentinel-1)."""
    place = _place(10)
    stands = _stands(place.shape, 10)
    for collection, orbit, lowest, step, low in (
        ("sentinel-1-rtc", "ascending", 16, 32, 1024),
        ("sentinel-1", "ascending", -52, 5, 4),
        ("sentinel-1", "descending", -50, 5, 4),
    ):
        rng = np.random.default_rng([2, number, len(orbit), len(collection)])
        assets = {}
        for band, shift in (("vv", 6), ("vh", 0)):
            level = lowest + shift + step * stands + rng.integers(0, 4, place.shape)
            assets[band] = (level / low).astype(np.float32), place  # a power of two: exact
        facts = {"sat:orbit_state": orbit, "platform": "sentinel-1a"}
        name = f"{collection}_{orbit}_{day}"
        yield write_item(folder, name, f"{day}T05:20:00Z", assets, collection=collection, **facts)


def _write_source(folder, step, year, *, collection="esa-cci-biomass"):
    rng = np.random.default_rng([3, step])
    place = box_at("EPSG:3035", EAST - 2400, NORTH + 2400, size=(5200 // step, 5600 // step), step=step)
    agb = _stands(place.shape, step, edge=300) * 60 + rng.integers(0, 40, place.shape)
    sd = agb // 4 + 5
    dtype, nodata = (np.uint16, 65535) if collection == "esa-cci-biomass" else (np.float32, -9999)
    agb[2400 // step + 1, 2400 // step + 5] = nodata
    assets = {"agb": (agb.astype(dtype), place), "agb_sd": (sd.astype(dtype), place)}
    name = f"{collection}-{year}-{step}"
    return write_item(folder, name, f"{year}-01-01T00:00:00Z", assets, collection=collection, nodata=nodata)


def _place(step):
    return box_at("EPSG:32633", _WEST, _TOP, size=(_ROWS * 10 // step, _COLS * 10 // step), step=step)


def _stands(shape, step, *, edge=120):
    """Classes 0 to 4 in squares of a length in metres."""
    classes = np.random.default_rng(5).integers(0, 5, (64, 64))
    rows, cols = ((np.arange(size) * int(step) // edge) % 64 for size in shape)
    return classes[np.ix_(rows, cols)]
