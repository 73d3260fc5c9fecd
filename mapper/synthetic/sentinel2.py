"""Sentinel-2 L2A scenes: granules of two UTM zones that overlap, digital numbers, scene classification, items.

Digital numbers are uint16, reflectance x 10000; processing baselines from 04.00 on add 1000. 0 is no data. Dates come
with clouds, some with the edge of a swath, and the two baselines are mixed between and within dates.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pystac
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from mapper.arrays import Float32Array
from mapper.noise import derive_key
from mapper.synthetic.frames import Frame, GroundSampler, cover_box, swath_mask, write_cog
from mapper.synthetic.optics import BANDS, look_through, see_ground
from mapper.synthetic.site import Site
from mapper.synthetic.sky import Sky, Sun, cloud_sky
from mapper.synthetic.stac import describe_asset, make_item

COLLECTION = "sentinel-2-l2a"
OLD_BASELINE, NEW_BASELINE = "03.01", "05.10"
_COARSE = frozenset({"B05", "B8A", "B11", "B12"})
_ZONE_EDGE_DEGREES = 12.0
_OVERLAP_M = 900.0
_REPROCESSED = datetime(2023, 4, 12, 6, 30, 5, tzinfo=UTC)
_COVERAGE = (0.08, 0.32, 0.18, 0.45, 0.05, 0.26)
_COMMON_NAMES = {
    "B02": "blue", "B03": "green", "B04": "red", "B05": "rededge", "B08": "nir", "B8A": "rededge", "B11": "swir16",
    "B12": "swir22",
}  # fmt: skip
_BASELINES = {
    "T32UQC": (OLD_BASELINE, OLD_BASELINE, NEW_BASELINE, NEW_BASELINE),
    "T32UQB": (OLD_BASELINE, OLD_BASELINE, NEW_BASELINE, OLD_BASELINE),
    "T33UTT": (OLD_BASELINE, NEW_BASELINE, NEW_BASELINE, NEW_BASELINE),
    "T33UTS": (OLD_BASELINE, NEW_BASELINE, NEW_BASELINE, OLD_BASELINE),
}
"""Processing baselines by tile and overpass, in turn: all old, mixed across the zones, all new, mixed along them."""


@dataclass(frozen=True, kw_only=True)
class Overpass:
    """One acquisition of all granules."""

    index: int
    when: datetime
    orbit: int
    platform: str
    """Platform, ``A`` or ``B``."""
    coverage: float
    """Expected fraction under clouds."""
    cirrus: float

    @property
    def sun(self) -> Sun:
        """Return the position of the sun, by the season."""
        day = self.when.timetuple().tm_yday
        return Sun(zenith=29.0 + 20.0 * ((day - 172) / 95) ** 2, azimuth=153.0)


@dataclass(frozen=True, kw_only=True)
class Granule:
    """One tile of the archive's grid, cut down to the site."""

    tile: str
    fine: Frame
    """Grid of the 10 m bands."""
    coarse: Frame
    """Grid of the 20 m bands, of the same extent."""


@dataclass(frozen=True, kw_only=True)
class _View:
    """View of one overpass on the ground; arrays (y, x) of the ground."""

    reflectance: Float32Array
    """(band, y, x) reflectance."""
    sky: Sky
    seen: npt.NDArray[np.bool_]


def plan_overpasses(site: Site, *, dates: int, start: datetime, end: datetime) -> tuple[Overpass, ...]:
    """Spread overpasses over a season; every third is under the edge of a swath."""
    random = site.random("overpasses")
    coverage = [_COVERAGE[k % len(_COVERAGE)] for k in range(dates)]
    random.shuffle(coverage)
    step = (end - start) / dates
    return tuple(
        Overpass(
            index=k,
            when=(start + step * (k + 0.5)).replace(hour=10, minute=20 if k % 3 == 2 else 10, second=31, microsecond=0),
            orbit=65 if k % 3 == 2 else 22,
            platform="AB"[k % 2],
            coverage=coverage[k],
            cirrus=0.16 if k % 4 == 1 else 0.0,
        )
        for k in range(dates)
    )  # fmt: skip


def cut_granules(ground: GeoBox) -> tuple[Granule, ...]:
    """Lay two granules of each of zones 32 and 33 over the ground; all four overlap along the zone edge."""
    granules = []
    for crs, tiles in (("EPSG:32632", ("T32UQC", "T32UQB")), ("EPSG:32633", ("T33UTT", "T33UTS"))):
        whole = cover_box(ground, crs, resolution=10, snap=20)
        box = whole.boundingbox
        edge = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(
            _ZONE_EDGE_DEGREES, whole.geographic_extent.centroid.coords[0][1]
        )[0]
        if crs == "EPSG:32632":
            left, right = box.left, min(box.right, max(edge, box.left) + _OVERLAP_M)
        else:
            left, right = max(box.left, min(edge, box.right) - _OVERLAP_M), box.right
        middle = (box.bottom + box.top) / 2
        for tile, bottom, top in (
            (tiles[0], middle - _OVERLAP_M / 2, box.top), (tiles[1], box.bottom, middle + _OVERLAP_M / 2),
        ):  # fmt: skip
            fine = _snapped(crs, left=left, bottom=bottom, right=right, top=top)
            coarse = GeoBox((fine.shape.y // 2, fine.shape.x // 2), fine.transform @ Affine.scale(2), crs)
            granules.append(Granule(tile=tile, fine=Frame.over(ground, fine), coarse=Frame.over(ground, coarse)))
    return tuple(granules)


def take_scenes(site: Site, overpass: Overpass, granules: tuple[Granule, ...], out_dir: Path) -> list[pystac.Item]:
    """Write the granules of one overpass, and return their items.

    Returns:
        Their items, without the granules that the swath missed.
    """
    view = _observe(site, overpass)
    return [item for granule in granules if (item := _take_scene(site, overpass, granule, view, out_dir)) is not None]


def _observe(site: Site, overpass: Overpass) -> _View:
    day, sun = overpass.when.timetuple().tm_yday, overpass.sun
    sky = cloud_sky(
        derive_key(site.seed, "sky", overpass.index), site.raster,
        coverage=overpass.coverage, cirrus=overpass.cirrus, sun=sun,
    )  # fmt: skip
    reflectance = see_ground(site.ground, day=day, sun=sun, resolution=site.resolution)
    random = site.random("gain", overpass.index)
    # The view angle changes across the track: a gain of each date, and a slope of it from west to east.
    across = np.linspace(-1, 1, site.geobox.shape.x, dtype=np.float32) * np.float32(random.normal(0, 0.02))
    gains = (1 + random.normal(0, 0.03) + random.normal(0, 0.01, len(BANDS))).astype(np.float32)
    reflectance *= gains[:, None, None] * (1 + across)
    partial = overpass.orbit == 65
    seen = swath_mask(site.geobox, edge=0.78 if partial else 2.0, tilt=-0.22, keep="west")
    return _View(reflectance=look_through(sky, reflectance), sky=sky, seen=seen)


def _take_scene(site: Site, overpass: Overpass, granule: Granule, view: _View, out_dir: Path) -> pystac.Item | None:
    random = site.random(COLLECTION, overpass.index, granule.tile)
    shift = (float(random.normal(0, 0.2)), float(random.normal(0, 0.2)))
    fine, coarse = granule.fine.sampler(shift_px=shift), granule.coarse.sampler(shift_px=shift)
    classes = _classify(coarse, view)
    if not classes.any():
        return None
    baseline = _BASELINES[granule.tile][overpass.index % 4]
    name = _scene_id(overpass, granule, baseline)
    folder = out_dir / COLLECTION / name
    seen = {10: fine.inside & (fine.read(view.seen) > 0.5), 20: coarse.inside & (coarse.read(view.seen) > 0.5)}
    assets = {}
    for index, band in enumerate(BANDS):
        resolution = 20 if band in _COARSE else 10
        frame, sampler = (granule.coarse, coarse) if resolution == 20 else (granule.fine, fine)
        numbers = _count(sampler.read(view.reflectance[index]), random, offset=1000 * (baseline >= "04.00"))
        file = f"{granule.tile}_{overpass.when:%Y%m%dT%H%M%S}_{band}_{resolution}m.tif"
        write_cog(folder / file, np.where(seen[resolution], numbers, np.uint16(0)), frame.geobox, nodata=0)
        assets[band] = describe_asset(
            file, frame.geobox, title=f"{band} - {resolution}m", bands=((band, _COMMON_NAMES[band]),)
        )
    file = f"{granule.tile}_{overpass.when:%Y%m%dT%H%M%S}_SCL_20m.tif"
    write_cog(folder / file, classes, granule.coarse.geobox, nodata=0)
    assets["SCL"] = describe_asset(file, granule.coarse.geobox, title="Scene classification map (SCL)")
    return make_item(
        name, COLLECTION, footprint=site.footprint(granule.fine.geobox), when=overpass.when, assets=assets,
        properties=_properties(overpass, granule, baseline, classes), crs=str(granule.fine.geobox.crs),
    )  # fmt: skip


def _count(reflectance: Float32Array, random: np.random.Generator, *, offset: int) -> npt.NDArray[np.uint16]:
    """Return digital numbers with the noise of the sensor; never 0, which is no data."""
    noise = random.standard_normal(reflectance.shape, np.float32)
    noise *= np.float32(0.0015) + np.float32(0.01) * reflectance
    return to_numbers(reflectance + noise, offset=offset)


def to_numbers(reflectance: Float32Array, *, offset: int) -> npt.NDArray[np.uint16]:
    """Return digital numbers; never 0, which is no data."""
    numbers: npt.NDArray[np.float32] = np.clip(np.rint(reflectance * 10000) + offset, 1, 65535)
    return numbers.astype(np.uint16)


def _classify(coarse: GroundSampler, view: _View) -> npt.NDArray[np.uint8]:
    """Return a scene classification like the processor's: good at thick clouds, blind to thin edges."""
    red, infrared = coarse.read(view.reflectance[2]), coarse.read(view.reflectance[5])
    green = (infrared - red) / np.maximum(infrared + red, np.float32(1e-3))
    cloud, cirrus, shadow = (coarse.read(v) for v in (view.sky.cloud, view.sky.cirrus, view.sky.shadow))
    classes = np.where(green > 0.4, np.uint8(4), np.uint8(5))
    classes[(green > 0.3) & (green <= 0.4)] = 7
    classes[infrared < 0.05] = 6
    classes[shadow > 0.30] = 3
    classes[cirrus > 0.05] = 10
    classes[cloud > 0.12] = 8
    classes[cloud > 0.55] = 9
    classes[~(coarse.inside & (coarse.read(view.seen) > 0.5))] = 0
    return classes


def _scene_id(overpass: Overpass, granule: Granule, baseline: str) -> str:
    made = overpass.when + timedelta(hours=9) if baseline == OLD_BASELINE else _REPROCESSED
    return (
        f"S2{overpass.platform}_MSIL2A_{overpass.when:%Y%m%dT%H%M%S}_R{overpass.orbit:03d}_{granule.tile}"
        f"_{made:%Y%m%dT%H%M%S}"
    )


def _properties(
    overpass: Overpass, granule: Granule, baseline: str, classes: npt.NDArray[np.uint8]
) -> dict[str, object]:
    valid = max(1, int((classes > 0).sum()))

    def percent(*kinds: int) -> float:
        return round(100 * float(np.isin(classes, kinds).sum()) / valid, 6)

    return {
        "platform": f"Sentinel-2{overpass.platform}",
        "constellation": "Sentinel 2",
        "instruments": ["msi"],
        "eo:cloud_cover": percent(8, 9, 10),
        "sat:orbit_state": "descending",
        "sat:relative_orbit": overpass.orbit,
        "s2:mgrs_tile": granule.tile.removeprefix("T"),
        "s2:processing_baseline": baseline,
        "s2:product_type": "S2MSI2A",
        "s2:cloud_shadow_percentage": percent(3),
        "s2:vegetation_percentage": percent(4),
        "s2:water_percentage": percent(6),
        "s2:nodata_pixel_percentage": round(100 * (1 - valid / classes.size), 6),
        "s2:mean_solar_zenith": round(overpass.sun.zenith, 6),
        "s2:mean_solar_azimuth": overpass.sun.azimuth,
    }


def _snapped(crs: str, *, left: float, bottom: float, right: float, top: float) -> GeoBox:
    """Return a 10 m grid whose edges are multiples of 20 m, outwards."""
    west, north = np.floor(left / 20) * 20, np.ceil(top / 20) * 20
    shape = round((north - np.floor(bottom / 20) * 20) / 10), round((np.ceil(right / 20) * 20 - west) / 10)
    return GeoBox(shape, Affine(10, 0, west, 0, -10, north), crs)
