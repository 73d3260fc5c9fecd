"""The sky of one overpass: clouds, cirrus and the shadows that clouds cast.

Opacity is the fraction of the light from the ground that a cloud replaces by its own; arrays are float32 (y, x) on the
ground's grid. Coverage is a property of the weather, not of the window: quantiles of noise, not of an image.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mapper.arrays import Float32Array
from mapper.noise import derive_key
from mapper.synthetic.noise import Raster, fractal_noise, smooth_noise
from mapper.synthetic.surface import smooth_step

_CLOUD_BASE_M = 1300.0


@dataclass(frozen=True, kw_only=True)
class Sun:
    """Position of the sun, in degrees."""

    zenith: float
    azimuth: float
    """Azimuth, clockwise from north."""

    @property
    def direction(self) -> tuple[float, float, float]:
        """Return the unit vector to the sun: east, north, up."""
        zenith, azimuth = math.radians(self.zenith), math.radians(self.azimuth)
        return math.sin(zenith) * math.sin(azimuth), math.sin(zenith) * math.cos(azimuth), math.cos(zenith)


@dataclass(frozen=True, kw_only=True)
class Sky:
    """Clouds over the ground at one time."""

    cloud: Float32Array
    cirrus: Float32Array
    shadow: Float32Array
    """Opacity of the cloud between the ground and the sun."""


def cloud_sky(key: int, at: Raster, *, coverage: float, cirrus: float, sun: Sun) -> Sky:
    """Make the sky of one overpass.

    Args:
        key: Of the overpass.
        at: Pixel centres.
        coverage: Expected fraction under clouds.
        cirrus: Opacity of the thickest cirrus; 0 for none.
        sun: Its position, for the shadows.
    """
    east, north, up = sun.direction
    shift = _CLOUD_BASE_M / up
    behind = Raster(east=at.east + east * shift, north=at.north + north * shift)
    veil = smooth_noise(derive_key(key, "cirrus"), at, 2600) if cirrus else np.zeros(at.shape, np.float32)
    return Sky(
        cloud=_opacity(key, at, coverage),
        cirrus=np.float32(cirrus) * smooth_step(veil, 0.3, 1.8),
        shadow=_opacity(key, behind, coverage),
    )


def _opacity(key: int, at: Raster, coverage: float) -> Float32Array:
    threshold = NormalDist().inv_cdf(1 - coverage)
    density = fractal_noise(key, at, 1500, octaves=6, gain=0.55)
    return np.float32(0.95) * smooth_step(density, threshold, threshold + 0.35)
