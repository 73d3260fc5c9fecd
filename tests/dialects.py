"""The same Sentinel-2 scenes as three archives describe them: pixels are written once, items in three dialects."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from odc.geo.geobox import GeoBox
from scenes import box_at, write_cog

CRS = "EPSG:32660"
EAST, NORTH = 499980, 6000000
"""Of the first tile: longitude 177, where one pass falls on two days of UTC."""
FINE, COARSE = 10, 20
SIZE = 96
BANDS = {"B02": FINE, "B04": FINE, "B8A": COARSE, "B11": COARSE}

COLLECTIONS = {
    "planetary-computer": "sentinel-2-l2a",
    "earth-search": "sentinel-2-c1-l2a",
    "copernicus-dataspace": "sentinel-2-l2a",
}
_EARTH_SEARCH = {"B02": "blue", "B04": "red", "B8A": "nir08", "B11": "swir16", "SCL": "scl"}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One tile of one pass."""

    tile: str
    when: str
    satellite: str
    orbit: int
    baseline: str
    shift: int = 0
    """How far the tile lies to the east of the first, metres."""

    @property
    def shifted(self):
        return self.baseline >= "04.00"

    @property
    def product(self):
        """Name of the product, from which every archive makes its ids."""
        moment, number = self.when[:19].replace("-", "").replace(":", ""), self.baseline.replace(".", "")
        return f"S{self.satellite}_MSIL2A_{moment}_N{number}_R{self.orbit:03d}_T{self.tile}_{moment}"

    def geobox(self, step):
        return box_at(CRS, EAST + self.shift, NORTH, size=SIZE * FINE // step, step=float(step))


PASSES = (
    # one pass just before midnight of UTC, close to noon by the sun; its tiles overlap by half
    Scene(tile="60UWE", when="2020-05-31T23:57:58.024000Z", satellite="2A", orbit=73, baseline="05.00"),
    Scene(tile="60UXE", when="2020-05-31T23:57:58.024000Z", satellite="2A", orbit=73, baseline="05.00", shift=480),
    # the next satellite, two days after, just past midnight
    Scene(tile="60UWE", when="2020-06-02T00:05:09.024000Z", satellite="2B", orbit=30, baseline="05.00"),
    Scene(tile="60UXE", when="2020-06-02T00:05:09.024000Z", satellite="2B", orbit=30, baseline="05.00", shift=480),
)
MIXED = (
    *PASSES,
    # an old processing, without the shift, beside reprocessed scenes
    Scene(tile="60UWE", when="2020-06-10T23:57:58.024000Z", satellite="2A", orbit=73, baseline="02.12"),
    Scene(tile="60UXE", when="2020-06-10T23:57:58.024000Z", satellite="2A", orbit=73, baseline="05.00", shift=480),
)


def write_pixels(folder, scenes, seed=0):
    """Write the files of all scenes: {product: {band: path}}; borders of 0, clouds, and noise from pixel to pixel."""
    rng = np.random.default_rng(seed)
    files = {}
    for scene in scenes:
        paths = files.setdefault(scene.product, {})
        for band, step in BANDS.items():
            geobox = scene.geobox(step)
            pixels = rng.integers(200, 4000, geobox.shape) + (1000 if scene.shifted else 0)
            pixels[:, : 160 // step] = 0
            paths[band] = write_cog(folder / scene.product / f"{band}.tif", pixels.astype(np.uint16), geobox)
        coarse = scene.geobox(COARSE)
        classes = rng.choice(np.array([4, 5, 9], np.uint8), coarse.shape)
        paths["SCL"] = write_cog(folder / scene.product / "SCL.tif", classes, coarse)
    return files


def describe(scenes, files, archive):
    """Items of all scenes as an archive would serve them, in an order of its own."""
    dialect = {
        "planetary-computer": _as_planetary_computer,
        "earth-search": _as_earth_search,
        "copernicus-dataspace": _as_copernicus,
    }[archive]
    items = [dialect(scene, files[scene.product]) for scene in scenes]
    return items[::-1] if archive == "earth-search" else items


def _as_planetary_computer(scene, files):
    """STAC 1.0: projection on the item, shape and transform on the asset, the baseline, nothing about numbers."""
    name = scene.product.split("_")
    properties = {
        "datetime": scene.when,
        "platform": f"Sentinel-{scene.satellite}",
        "proj:epsg": 32660,
        "s2:mgrs_tile": scene.tile,
        "s2:product_uri": f"{scene.product}.SAFE",
        "s2:processing_baseline": scene.baseline,
        "sat:orbit_state": "descending",
        "sat:relative_orbit": scene.orbit,
    }
    assets = {band: _grid(scene, band) | {"href": str(path)} for band, path in files.items()}
    return _item(scene, "_".join(name[:3] + name[4:]), "planetary-computer", "1.0.0", properties, assets)


def _as_earth_search(scene, files):
    """STAC 1.0: common names, scale, offset and nodata in ``raster:bands``, no orbit, the time of each tile."""
    seen = datetime.fromisoformat(scene.when) + timedelta(seconds=390 if scene.shift else 420)
    moment = f"{seen:%Y%m%dT%H%M%S}"
    start = scene.when[:19].replace("-", "").replace(":", "")
    properties = {
        "datetime": f"{seen:%Y-%m-%dT%H:%M:%S.%f}Z",
        "platform": f"sentinel-{scene.satellite.lower()}",
        "proj:epsg": 32660,
        "grid:code": f"MGRS-{scene.tile}",
        "s2:datatake_id": f"GS{scene.satellite}_{start}_012345_N{scene.baseline}",
        "s2:processing_baseline": scene.baseline,
    }
    assets = {}
    for band, path in files.items():
        stored = {"nodata": 0, "data_type": "uint8", "spatial_resolution": COARSE}
        if band != "SCL":
            stored |= {"data_type": "uint16", "scale": 0.0001, "offset": -0.1 if scene.shifted else 0}
        assets[_EARTH_SEARCH[band]] = _grid(scene, band) | {"href": str(path), "raster:bands": [stored]}
    return _item(scene, f"S{scene.satellite}_T{scene.tile}_{moment}_L2A", "earth-search", "1.0.0", properties, assets)


def _as_copernicus(scene, files):
    """STAC 1.1: everything on the asset, in flat fields."""
    properties = {
        "datetime": scene.when,
        "start_datetime": scene.when,
        "end_datetime": scene.when,
        "platform": f"sentinel-{scene.satellite.lower()}",
        "grid:code": f"MGRS-{scene.tile}",
        "processing:version": scene.baseline,
        "sat:orbit_state": "descending",
        "sat:relative_orbit": scene.orbit,
    }
    assets = {}
    for band, path in files.items():
        step = BANDS.get(band, COARSE)
        stored = {"nodata": 0, "data_type": "uint8", "proj:code": CRS, "gsd": step}
        if band != "SCL":
            stored |= {"data_type": "uint16", "raster:scale": 0.0001, "raster:offset": -0.1 if scene.shifted else 0}
        assets[f"{band}_{step}m"] = _grid(scene, band) | stored | {"href": str(path)}
    return _item(scene, scene.product, "copernicus-dataspace", "1.1.0", properties, assets)


def _grid(scene, band):
    geobox: GeoBox = scene.geobox(BANDS.get(band, COARSE))
    return {"proj:shape": list(geobox.shape), "proj:transform": list(geobox.transform)[:6]}


def _item(scene, name, archive, version, properties, assets):
    footprint = scene.geobox(FINE).extent.to_crs("EPSG:4326", resolution=100)
    return {
        "type": "Feature",
        "stac_version": version,
        "id": name,
        "collection": COLLECTIONS[archive],
        "geometry": footprint.json,
        "bbox": list(footprint.boundingbox.bbox),
        "properties": properties,
        "assets": assets,
        "links": [],
    }
