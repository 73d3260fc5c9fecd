"""Synthetic Sentinel-2 with bands of 10 and 20 m on one lattice, a map of its 20 m bands, and what the bands show."""

import numpy as np
from kinds_of_maps import AREA, CRS, ORIGIN, write_catalog, write_map
from scenes import box_at, write_item

GUIDE = ("B02", "B03", "B04", "B08")
BANDS = ("B05", "B06", "B07", "B8A", "B11", "B12")
SIZE = 144
"""Pixels of 10 m."""
MTF = {"B05": 0.38, "B06": 0.34, "B07": 0.34, "B8A": 0.33, "B11": 0.22, "B12": 0.23}
GRID = {"kind": "native", "crs": CRS, "resolution": 10, "tile": 64, "chunk": 32}


def paint(seed):
    """Fields with edges: four fine bands (band, y, x), and six that hang on them, at the same pixels, as numbers."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:SIZE, :SIZE]
    kinds = rng.integers(0, 8, (SIZE // 6 + 2, SIZE // 6 + 2))
    field = kinds[(rows + cols // 3) // 6 % len(kinds), (cols + rows // 5) // 6 % len(kinds)]
    fine = np.stack([rng.uniform(1500, 5500, 8)[field] for _ in GUIDE]) + rng.normal(0, 8, (4, SIZE, SIZE))
    weights = rng.uniform(0.1, 0.5, (6, 4))
    return fine, np.tensordot(weights, fine, axes=1) + 900


def write_band_scene(folder, day, cloud, *, clear=None, seed=0):
    """One date, ``clear`` on pixels of 20 m: the item, the numbers of 10 m, and the bands of 20 m as if at 10 m."""
    fine, whole = paint(seed)
    fine, coarse = fine.round().astype(np.uint16), whole.reshape(6, SIZE // 2, 2, SIZE // 2, 2).mean((2, 4)).round()
    mask = np.full((SIZE // 2, SIZE // 2), 4, np.uint8) if clear is None else np.where(clear, 4, 9).astype(np.uint8)
    narrow, wide = box_at(CRS, *ORIGIN, size=SIZE), box_at(CRS, *ORIGIN, size=SIZE // 2, step=20.0)
    assets = {band: (fine[k], narrow) for k, band in enumerate(GUIDE)}
    assets |= {band: (coarse[k].astype(np.uint16), wide) for k, band in enumerate(BANDS)} | {"SCL": (mask, wide)}
    facts = {"eo:cloud_cover": cloud, "s2:processing_baseline": "05.10", "platform": "sentinel-2a"}
    return write_item(folder, f"S2_{day}", f"{day}T10:00:00Z", assets, **facts), fine, whole


def write_band_map(folder, items, **parts):
    """A MAP.yaml of the preset in a catalogue of some items; returns its path."""
    write_catalog(folder, items)
    rule = {"bands": {band: band for band in (*GUIDE, *BANDS)}, "mtf": MTF | dict.fromkeys(GUIDE, 0.26)}
    catalog = {
        "provider": "provider.yaml",
        "href": "catalog.json",
        "override": {"collections": {"sentinel-2-l2a": rule | {"resampled": "cubic-spline"}}},
    }
    content = {"preset": "sentinel2-20m", "grid": GRID, "area": {"bbox": AREA}, "catalog": catalog, **parts}
    return write_map(folder, "bands", **content)
