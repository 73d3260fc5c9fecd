"""Surface reflectance of the ground for Sentinel-2, by kind of cover, date and light.

Reflectance is linked to biomass but saturates: leaves hide the ground at about 70 Mg ha-1, shadows of tall crowns
darken a little beyond. Species, vigour, moisture and slopes change it as much. Arrays are float32 (band, y, x), 0-1.
"""

import numpy as np
import numpy.typing as npt

from mapper.arrays import Float32Array
from mapper.synthetic.sky import Sky, Sun
from mapper.synthetic.surface import Cover, Surface

BANDS = ("B02", "B03", "B04", "B05", "B08", "B8A", "B11", "B12")

_SPECTRA = {
    Cover.CONIFER: (0.022, 0.037, 0.024, 0.056, 0.235, 0.245, 0.105, 0.048),
    Cover.BROADLEAF: (0.026, 0.054, 0.029, 0.092, 0.385, 0.400, 0.178, 0.078),
    Cover.GRASS: (0.040, 0.078, 0.056, 0.125, 0.360, 0.385, 0.230, 0.125),
    Cover.SOIL: (0.070, 0.098, 0.130, 0.165, 0.225, 0.245, 0.320, 0.260),
    Cover.BUILT: (0.115, 0.130, 0.145, 0.165, 0.205, 0.215, 0.235, 0.215),
    Cover.ASPHALT: (0.075, 0.085, 0.092, 0.102, 0.125, 0.130, 0.145, 0.135),
    Cover.WATER: (0.042, 0.040, 0.028, 0.022, 0.014, 0.013, 0.007, 0.004),
}
_GREEN_CROP = (0.030, 0.070, 0.036, 0.110, 0.440, 0.465, 0.195, 0.095)
_RIPE_CROP = (0.075, 0.112, 0.138, 0.185, 0.290, 0.315, 0.330, 0.235)
_RAPE_BLOSSOM = (0.045, 0.125, 0.110, 0.180, 0.400, 0.420, 0.210, 0.110)
_CLOUD = (0.74, 0.72, 0.71, 0.72, 0.75, 0.75, 0.48, 0.36)
_VIGOUR = (-0.4, 0.1, -0.5, 0.4, 1.0, 1.0, 0.5, 0.2)
_MOISTURE = (-0.03, -0.03, -0.05, -0.04, 0.0, 0.0, -0.10, -0.14)
"""Relative change of each band for one unit of vigour, and of moisture."""
_CROP_DAYS = {  # day of the year: greenness from 0 (bare or ripe) to 1
    Cover.WHEAT: ((100, 165, 200, 365), (1.0, 1.0, 0.0, 0.0)),
    Cover.RAPE: ((100, 140, 160, 190, 365), (1.0, 1.0, 0.9, 0.0, 0.0)),
    Cover.MAIZE: ((130, 185, 255, 280), (0.0, 1.0, 0.9, 0.2)),
}


def see_ground(ground: Surface, *, day: int, sun: Sun, resolution: float) -> Float32Array:
    """Return the surface reflectance under a clear sky.

    Args:
        ground: What is there.
        day: Of the year, for the crops.
        sun: Its position, for the slopes.
        resolution: Pixel size of the ground in metres.

    Returns:
        (band, y, x) in the order of :data:`BANDS`.
    """
    spectra = _spectra_on(day)
    light = _light_on_slopes(ground.elevation, sun, resolution)
    shade = 1 - np.float32(0.36) * (1 - np.exp(-ground.height / 12))
    leaves = ground.cover[Cover.CONIFER] + ground.cover[Cover.BROADLEAF]
    shade = 1 - leaves * (1 - shade)
    result = np.empty((len(BANDS), *leaves.shape), np.float32)
    for band in range(len(BANDS)):
        seen = np.tensordot(spectra[:, band], ground.cover, axes=1)
        seen *= 1 + np.float32(_VIGOUR[band]) * ground.vigour
        seen *= 1 + np.float32(_MOISTURE[band]) * ground.moisture
        result[band] = seen * shade * light
    return result


def look_through(sky: Sky, reflectance: Float32Array) -> Float32Array:
    """Return reflectance as retrieved under clouds: shadows darken, clouds and cirrus whiten; changes its input."""
    diffuse = np.array([0.42, 0.36, 0.31, 0.30, 0.27, 0.27, 0.24, 0.22], np.float32)
    veil = sky.cirrus * (1 - sky.cloud)
    for band in range(len(BANDS)):
        reflectance[band] *= 1 - (1 - diffuse[band]) * sky.shadow
        reflectance[band] += sky.cloud * (np.float32(_CLOUD[band]) - reflectance[band])
        reflectance[band] += veil * (np.float32(0.5 * _CLOUD[band]) - reflectance[band])
    return reflectance


def _spectra_on(day: int) -> Float32Array:
    """Return the reflectance by kind and band on one day."""
    spectra = {kind: np.array(values) for kind, values in _SPECTRA.items()}
    for kind, (days, greenness) in _CROP_DAYS.items():
        green = float(np.interp(day, days, greenness))
        faded = spectra[Cover.SOIL] if kind == Cover.MAIZE else np.array(_RIPE_CROP)
        spectra[kind] = green * np.array(_GREEN_CROP) + (1 - green) * faded
    blossom = float(np.exp(-(((day - 128) / 9) ** 2)))
    spectra[Cover.RAPE] = (1 - blossom) * spectra[Cover.RAPE] + blossom * np.array(_RAPE_BLOSSOM)
    dry = float(np.interp(day, [150, 220, 260], [0.0, 0.35, 0.15]))
    spectra[Cover.GRASS] = (1 - dry) * spectra[Cover.GRASS] + dry * np.array(_RIPE_CROP)
    turning = float(np.interp(day, [120, 150, 245, 290], [0.12, 0.0, 0.0, 0.5]))
    spectra[Cover.BROADLEAF] = (1 - turning) * spectra[Cover.BROADLEAF] + turning * np.array(_RIPE_CROP)
    return np.stack([spectra[kind] for kind in Cover]).astype(np.float32)


def _light_on_slopes(elevation: Float32Array, sun: Sun, resolution: float) -> Float32Array:
    """Return direct light on slopes relative to flat ground, half of it corrected away as processors do."""
    east, north, up = sun.direction
    slope_north, slope_east = slopes(elevation, resolution)
    normal = np.sqrt(1 + slope_east**2 + slope_north**2)
    direct = (up - east * slope_east - north * slope_north) / (normal * np.float32(up))
    return np.asarray(np.clip(1 + np.float32(0.6) * (direct - 1), 0.3, 1.8), np.float32)


def slopes(elevation: Float32Array, resolution: float) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the rise per metre to the north and to the east; dims (y, x)."""
    down, east = np.gradient(elevation, np.float32(resolution))
    return np.asarray(-down, np.float32), np.asarray(east, np.float32)
