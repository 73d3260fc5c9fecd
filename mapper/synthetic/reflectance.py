"""Reflectance of no place in the bands of Sentinel-2: the shapes of synthetic imagery, covered by what lies on land.

Every shape is mostly of one or two covers; which covers a scene has, and how much of each, hangs on its seed. Spectra
are round figures of what such covers reflect, in no case those of a place.
"""

import numpy as np

from mapper.arrays import Float32Array
from mapper.synthetic.imagery import FINER, paint_canvas

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
"""Bands of 10 and 20 m, by wavelength."""
_COVERS = np.array(
    [
        (0.024, 0.037, 0.024, 0.056, 0.165, 0.210, 0.235, 0.245, 0.105, 0.048),  # conifers
        (0.026, 0.054, 0.029, 0.092, 0.265, 0.350, 0.385, 0.400, 0.178, 0.078),  # broadleaved trees
        (0.040, 0.078, 0.056, 0.125, 0.260, 0.325, 0.360, 0.385, 0.230, 0.125),  # grass
        (0.030, 0.070, 0.036, 0.110, 0.330, 0.420, 0.440, 0.465, 0.195, 0.095),  # green crops
        (0.075, 0.112, 0.138, 0.185, 0.240, 0.270, 0.290, 0.315, 0.330, 0.235),  # ripe crops
        (0.060, 0.085, 0.110, 0.140, 0.165, 0.180, 0.195, 0.210, 0.290, 0.240),  # moist soil
        (0.110, 0.150, 0.205, 0.240, 0.265, 0.285, 0.300, 0.320, 0.400, 0.350),  # dry soil
        (0.105, 0.125, 0.140, 0.160, 0.180, 0.195, 0.205, 0.215, 0.235, 0.215),  # towns
        (0.070, 0.085, 0.150, 0.190, 0.215, 0.230, 0.245, 0.255, 0.300, 0.270),  # tiled roofs
        (0.260, 0.280, 0.300, 0.310, 0.320, 0.325, 0.330, 0.335, 0.310, 0.270),  # bright roofs, sand
        (0.075, 0.082, 0.090, 0.102, 0.110, 0.118, 0.125, 0.130, 0.145, 0.135),  # asphalt
        (0.045, 0.043, 0.030, 0.024, 0.018, 0.016, 0.014, 0.013, 0.007, 0.004),  # water
    ],
    np.float32,
)
_COMMON = np.array([1, 1, 1.2, 1.2, 1, 1, 0.4, 0.5, 0, -0.8, 0.2, -0.3], np.float32)
"""How common each cover is, as a logarithm."""
_STRIP_PX = 64
_VARIATES = 6
"""Bands of the imagery that decide the cover; one more is brightness."""
_PURITY = 1.6
_BRIGHTNESS = 0.12
_COVER_SD, _BAND_SD = 0.15, 0.04
"""Standard deviations of logarithms: of brightness within a scene; of covers and of their bands, between scenes."""


def make_reflectance(seed: int, *, size_px: int, bands: tuple[str, ...] = BANDS) -> Float32Array:
    """Return the reflectance of a scene, (band, y, x); pixels of 5 m suit the sizes of its shapes.

    Args:
        seed: Names the scene.
        size_px: Edge in pixels.
        bands: Names of bands.

    Raises:
        ValueError: If a band is unknown.
    """
    if unknown := sorted(set(bands) - set(BANDS)):
        raise ValueError(f"no reflectance of {', '.join(unknown)}: expected some of {', '.join(BANDS)}")
    random = np.random.default_rng([seed, 17])
    canvas = paint_canvas(seed, size_px=size_px, bands=_VARIATES + 1)
    canvas -= canvas.mean((1, 2), keepdims=True)
    canvas /= canvas.std((1, 2), keepdims=True)
    towards = random.normal(size=(len(_COVERS), _VARIATES)).astype(np.float32) * np.float32(_PURITY)
    present = _COMMON + random.normal(0, 1, len(_COVERS)).astype(np.float32)
    unlike = random.normal(0, _COVER_SD, (len(_COVERS), 1)) + random.normal(0, _BAND_SD, _COVERS.shape)
    spectra = _COVERS * np.exp(unlike).astype(np.float32)
    spectra = spectra[:, [BANDS.index(band) for band in bands]]
    shape = len(bands), size_px, FINER, size_px, FINER
    image = np.empty((len(bands), size_px, size_px), np.float32)
    for top in range(0, size_px, _STRIP_PX):  # strips: covers of a whole scene would take gigabytes
        rows = slice(top, min(top + _STRIP_PX, size_px))
        part = canvas[:, rows.start * FINER : rows.stop * FINER]
        share = np.tensordot(towards, part[:_VARIATES], axes=1) + present[:, None, None]
        np.exp(share - share.max(0), out=share)
        share /= share.sum(0)
        light = np.exp(np.float32(_BRIGHTNESS) * part[_VARIATES])
        seen = np.tensordot(spectra.T, share, axes=1) * light
        image[:, rows] = seen.reshape(len(bands), -1, *shape[2:]).mean((2, 4))
    return image
