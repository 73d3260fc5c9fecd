"""Backscatter of the ground for Sentinel-1: gamma0 in linear power, without speckle.

Cross-polarised power grows with biomass and saturates at about 200 Mg ha-1, later than reflectance; moisture, slopes
that terrain correction did not remove, and roofs change it too. Arrays are float32 (y, x).
"""

import numpy as np

from mapper.arrays import Float32Array
from mapper.synthetic.optics import slopes
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


def scatter(ground: Surface, *, polarisation: str, wetness: float, look: float, resolution: float) -> Float32Array:
    """Return the mean backscatter.

    Args:
        ground: What is there.
        polarisation: ``vv`` or ``vh``.
        wetness: Relative rise of the ground's power after rain.
        look: East component of the direction the antenna looks: +1 ascending, -1 descending.
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
    return np.asarray(power * np.clip(1 - np.float32(0.5 * look) * slope_east, 0.5, 1.5), np.float32)
