"""Sentinel-1 RTC scenes: gamma0 in linear power, speckle, borders of zeros and of no data.

Ascending passes are delivered in zone 33, descending ones in zone 32. Values are float32 with ten bits of mantissa,
0.004 dB, so that files stay small; -32768 is no data. Cross-polarised power grows with biomass and saturates at about
200 Mg ha-1, later than reflectance; moisture, slopes that terrain correction did not remove, and roofs change it too.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pystac
from odc.geo.geobox import GeoBox
from scipy import ndimage

from mapper.arrays import Float32Array
from mapper.synthetic.frames import Frame, cover_box, swath_mask, write_cog
from mapper.synthetic.optics import slopes
from mapper.synthetic.site import Site
from mapper.synthetic.stac import describe_asset, describe_grid, make_item
from mapper.synthetic.surface import Cover, Surface

POLARISATIONS = ("vv", "vh")
_GROUND = {
    "vv": {Cover.GRASS: 0.060, Cover.SOIL: 0.075, Cover.WHEAT: 0.055, Cover.RAPE: 0.085, Cover.MAIZE: 0.095,
           Cover.BUILT: 0.420, Cover.ASPHALT: 0.022, Cover.WATER: 0.006},
    "vh": {Cover.GRASS: 0.0100, Cover.SOIL: 0.0075, Cover.WHEAT: 0.0095, Cover.RAPE: 0.0210, Cover.MAIZE: 0.0200,
           Cover.BUILT: 0.0600, Cover.ASPHALT: 0.0022, Cover.WATER: 0.0008},
}  # fmt: skip
_VOLUME = {"vv": (0.150, 55.0), "vh": (0.046, 80.0)}
"""Power of a full forest, and the biomass (Mg ha-1) at which 63 % of it are reached."""
COLLECTION = "sentinel-1-rtc"
NODATA = -32768.0
_LOOKS = 4.4
_BORDER_PX = 4
_CRS = {"ascending": "EPSG:32633", "descending": "EPSG:32632"}


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One acquisition."""

    index: int
    when: datetime
    direction: str
    """Orbit direction, ``ascending`` or ``descending``."""
    wetness: float
    """Relative rise of the backscatter of the ground after rain."""


def plan_passes(site: Site, *, dates: int, start: datetime, end: datetime) -> tuple[Pass, ...]:
    """Spread passes over a season, ascending and descending in turn."""
    random = site.random("passes")
    step = (end - start) / dates
    return tuple(
        Pass(
            index=k,
            when=(start + step * (k + 0.35)).replace(hour=5 if k % 2 else 17, minute=8, second=27, microsecond=436706),
            direction="descending" if k % 2 else "ascending",
            wetness=float(random.uniform(-0.1, 0.35)),
        )
        for k in range(dates)
    )


def cut_frames(ground: GeoBox) -> dict[str, Frame]:
    """Return the frame of each direction, around all of the ground."""
    return {
        direction: Frame.over(ground, cover_box(ground, crs, resolution=10, snap=10)) for direction, crs in _CRS.items()
    }


def take_scene(site: Site, acquisition: Pass, frame: Frame, out_dir: Path) -> pystac.Item:
    """Write one scene and return its item."""
    random = site.random(COLLECTION, acquisition.index)
    name = _scene_id(acquisition)
    sampler = frame.sampler(shift_px=(float(random.normal(0, 0.2)), float(random.normal(0, 0.2))))
    seen = sampler.inside & (sampler.read(_swath(site, acquisition)) > 0.5)
    core = ndimage.binary_erosion(seen, iterations=_BORDER_PX)
    assets = {}
    for polarisation in POLARISATIONS:
        power = scatter(
            site.ground, polarisation=polarisation, wetness=acquisition.wetness,
            look_east=1.0 if acquisition.direction == "ascending" else -1.0, resolution=site.resolution,
        )  # fmt: skip
        values = _shorten(sampler.read(power) * _speckle(random, seen.shape))
        file = f"iw-{polarisation}.rtc.tif"
        stored = np.where(core, values, np.where(seen, np.float32(0), np.float32(NODATA)))
        write_cog(out_dir / COLLECTION / name / file, stored, frame.geobox, nodata=NODATA)
        assets[polarisation] = describe_asset(
            file, frame.geobox, title=f"{polarisation.upper()} gamma0, terrain corrected", nodata=NODATA,
            data_type="float32",
        )  # fmt: skip
    return make_item(
        name, COLLECTION, footprint=site.footprint(frame.geobox), when=acquisition.when, assets=assets,
        properties={**_properties(acquisition), **describe_grid(frame.geobox)}, crs=str(frame.geobox.crs),
    )  # fmt: skip


def _swath(site: Site, acquisition: Pass) -> npt.NDArray[np.bool_]:
    """Return True where a pass sees the ground; every third pass ends over it."""
    edge = 0.2 if acquisition.index % 3 == 2 else -2.0
    tilt = -0.2 if acquisition.direction == "ascending" else 0.2
    return swath_mask(site.geobox, edge=edge, tilt=tilt, keep="east")


def _speckle(random: np.random.Generator, shape: tuple[int, int]) -> Float32Array:
    """Return gamma noise of mean 1; pixels are finer than the resolution, so that neighbours share some of it."""
    noise = random.standard_gamma(_LOOKS / 2, shape, np.float32) / np.float32(_LOOKS / 2)
    for axis in (0, 1):
        noise = ndimage.convolve1d(noise, [0.22, 0.56, 0.22], axis=axis, output=np.float32)
    return noise


def _shorten(values: Float32Array) -> Float32Array:
    """Round to ten bits of mantissa."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def _scene_id(acquisition: Pass) -> str:
    end = acquisition.when + timedelta(seconds=25)
    orbit = 32000 + 175 * acquisition.index // 2
    return (
        f"S1A_IW_GRDH_1SDV_{acquisition.when:%Y%m%dT%H%M%S}_{end:%Y%m%dT%H%M%S}_{orbit:06d}_"
        f"{0x3C000 + 77 * acquisition.index:06X}_rtc"
    )


def _properties(acquisition: Pass) -> dict[str, object]:
    return {
        "platform": "SENTINEL-1A",
        "constellation": "Sentinel-1",
        "sar:instrument_mode": "IW",
        "sar:frequency_band": "C",
        "sar:center_frequency": 5.405,
        "sar:polarizations": [p.upper() for p in POLARISATIONS],
        "sar:product_type": "GRD",
        "sar:looks_equivalent_number": _LOOKS,
        "sat:orbit_state": acquisition.direction,
        "sat:relative_orbit": 168 if acquisition.direction == "descending" else 44,
    }


def scatter(ground: Surface, *, polarisation: str, wetness: float, look_east: float, resolution: float) -> Float32Array:
    """Return the mean backscatter.

    Args:
        ground: What is there.
        polarisation: ``vv`` or ``vh``.
        wetness: Relative rise of the ground's power after rain.
        look_east: East component of the direction the antenna looks: +1 ascending, -1 descending.
        resolution: Pixel size of the ground in metres.

    Returns:
        Gamma0 in linear power, (y, x).
    """
    table = _GROUND[polarisation]
    power = np.tensordot(
        np.array([table.get(kind, 0.0) for kind in Cover], np.float32), ground.cover, axes=1
    )  # leaves have no ground of their own
    power *= 1 + np.float32(wetness) + np.float32(0.15) * ground.moisture
    full, scale = _VOLUME[polarisation]
    kinds = 1 - np.float32(0.14) * ground.cover[Cover.CONIFER] + np.float32(0.4) * ground.vigour
    power += np.float32(full) * (1 - np.exp(-ground.biomass / np.float32(scale))) * kinds
    _, slope_east = slopes(ground.elevation, resolution)
    return np.asarray(power * np.clip(1 - np.float32(0.5 * look_east) * slope_east, 0.5, 1.5), np.float32)
