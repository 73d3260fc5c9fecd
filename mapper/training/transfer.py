"""Transfer of the ground to pixels: the modulation that an instrument, a resampling and a block mean leave.

An instrument is taken as Gaussian, which its modulation at the Nyquist frequency of its own pixels decides: m at 1/2
cycle a pixel is m^(4 f^2) at f. Where an archive interpolated its numbers onto a lattice by cubic splines, pixels lie
anywhere between those of the instrument, and what is left of a wave is, on the mean over all positions, the transfer of
the interpolating spline, sinc(f)^4 / (2/3 + 1/3 cos 2 pi f): 1/2 at Nyquist, nearly 1 at half of it (M. Unser, 1999:
Splines: a perfect fit for signal and image processing, IEEE Signal Processing Magazine 16). The mean of k x k pixels
leaves sin(pi k f) / (k sin(pi f)). All of it is the same along both axes, and a product of one axis and the other.
"""

from dataclasses import dataclass

import numpy as np

from mapper.arrays import BoolArray, Float32Array, Float64Array

_RADIUS = 6
"""Radius of a filter, in pixels of what comes out."""
_FREQUENCIES = 512
_LEAST_SHARE = 0.5
"""Share of the weights of a filter that valid pixels must have."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """The transfer of the pixels of one band."""

    mtf: float
    """Modulation of the instrument at the Nyquist frequency of its own pixels."""
    splined: bool = False
    """True where its pixels were interpolated onto a lattice by cubic splines."""
    block: int = 1
    """Pixels of the instrument along an edge of a pixel, which is their mean."""

    def __post_init__(self) -> None:
        if not 0 < self.mtf < 1 or self.block < 1:
            raise ValueError(f"a modulation lies between 0 and 1 and a block has pixels, got {self}")

    def at(self, frequency: Float64Array) -> Float64Array:
        """Return the modulation that is left at frequencies in cycles a pixel."""
        own = np.asarray(frequency, np.float64) / self.block
        left = np.power(self.mtf, 4 * own**2)
        if self.splined:
            left = left * np.sinc(own) ** 4 / (2 / 3 + np.cos(2 * np.pi * own) / 3)
        if self.block > 1:
            left = left * np.sinc(own * self.block) / np.sinc(own)
        return left

    def finer(self, scale: int) -> "Transfer":
        """Return the transfer of what is asked for at ``scale`` times as many pixels.

        A mean of pixels of the instrument is asked back as they were; pixels of the instrument itself as one of the
        same sharpness, relative to its pixels, would have seen them.
        """
        return Transfer(mtf=self.mtf, splined=self.splined, block=max(self.block // scale, 1))


def carry_over(values: Float32Array, *, have: Transfer, want: Transfer, scale: int) -> Float32Array:
    """Return an image as pixels of another transfer would show it, ``scale`` times larger.

    The filter leaves of each frequency what the wanted transfer leaves of it, divided by what the image has left; it
    never sharpens. It is centred on the larger pixels.

    Args:
        values: (y, x), NaN where missing; both edges multiples of the scale.
        have: Transfer of the image.
        want: Transfer that is imitated, in larger pixels.
        scale: Pixel that comes out / pixel of the image.

    Returns:
        (y / scale, x / scale), NaN where less than half of the filter's weight is known, and, at scale 1, where the
        image is missing.
    """
    if scale == 1 and have == want:
        return values
    taps = _design(have, want, scale)
    known: BoolArray = np.isfinite(values)
    total, weight = np.where(known, values, 0).astype(np.float64), known.astype(np.float64)
    for axis in (0, 1):
        total, weight = (_gather(each, taps, scale, axis) for each in (total, weight))
    enough = weight >= _LEAST_SHARE
    enough &= known if scale == 1 else True
    return np.where(enough, total / np.where(enough, weight, 1), np.nan).astype(np.float32)


def _design(have: Transfer, want: Transfer, scale: int) -> Float64Array:
    """Return the taps of a filter along one axis; their number is odd or even as the scale."""
    frequency = (np.arange(_FREQUENCIES) + 0.5) / _FREQUENCIES / 2
    ratio = np.minimum(want.at(frequency * scale) / have.at(frequency), 1)
    half = _RADIUS * scale
    places = np.arange(-half, half) + 0.5 if scale % 2 == 0 else np.arange(-half, half + 1.0)
    taps = np.cos(2 * np.pi * places[:, None] * frequency) @ ratio
    return np.asarray(taps / taps.sum(), np.float64)


def _gather(values: Float64Array, taps: Float64Array, scale: int, axis: int) -> Float64Array:
    """Return the filtered image along an axis, one value for each block of ``scale``; beyond the edge is nothing."""
    before = (len(taps) - scale) // 2
    padded = np.moveaxis(np.pad(values, [(before, before) if at == axis else (0, 0) for at in (0, 1)]), axis, 0)
    number = values.shape[axis]
    filtered: Float64Array = np.zeros((number // scale, *padded.shape[1:]))
    for at, tap in enumerate(taps):
        filtered += tap * padded[at : at + number : scale]
    return np.moveaxis(filtered, 0, axis)
