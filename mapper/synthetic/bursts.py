"""Stacks of dates as a sensor would have taken them of one fine image: to train on, and to score with a truth.

Each date sees the ground shifted by a part of a pixel, through a point spread function, with noise, with a gain and an
offset of each band, here and there changed, and partly under clouds. The first thing drawn is the anchor, which sees
the ground as it is. All that is random hangs on the seed alone.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field
from scipy.ndimage import gaussian_filter, spline_filter
from scipy.ndimage import shift as shift_image

from mapper.arrays import BoolArray, Float32Array, Float64Array, FloatArray
from mapper.description import Part

PROTOCOL_SD = 0.514
"""Standard deviation in source pixels of the point spread function that published tables are made with."""
Degradation = Literal["mtf", "block-mean"]
Span = tuple[float, float]
"""Least and greatest value."""

_HAZE_GRAIN = 12.0
"""Standard deviation in source pixels of the noise that haze and slow changes are drawn from."""


class BurstOptions(Part):
    """Ways in which a sensor sees the ground; of pairs each date draws a number between both."""

    scale: int = Field(default=2, gt=1)
    """Source pixel / target pixel."""
    dates: int = Field(default=8, ge=1)
    """Dates of a stack, the anchor among them."""
    shift_px: float = Field(default=1.0, ge=0)
    """Longest shift along an axis in source pixels, in both directions."""
    psf_sd: Span = (PROTOCOL_SD, PROTOCOL_SD)
    """Standard deviation of the point spread function in source pixels; one for all dates of a stack."""
    aperture_px: int | None = Field(default=None, ge=1)
    """Target pixels along an axis whose mean a source pixel is, after the Gaussian; None: 2, of odd scales 1."""
    noise: Span = (0.01, 0.01)
    """Standard deviation of the noise in units of the spread of each band; one for all dates of a stack."""
    noise_level: float = Field(default=0.0, ge=0)
    """Standard deviation of further noise in the units of the image."""
    gain: float = Field(default=0.0, ge=0)
    """Largest deviation of a date's gain from 1, for each band."""
    offset: float = Field(default=0.0, ge=0)
    """Largest offset of a date, for each band, in units of its spread."""
    clouds: float = Field(default=0.0, ge=0, le=1)
    """Share of each date but the anchor that clouds cover, known to the mask."""
    haze: float = Field(default=0.0, ge=0, le=1)
    """Share of each date but the anchor under thin haze that no mask tells of."""
    drift: float = Field(default=0.0, ge=0)
    """Standard deviation of slow changes of brightness over the scene, in units of the spread."""
    changed: float = Field(default=0.0, ge=0, le=1)
    """Share of each date but the anchor where objects appeared or went."""
    object_px: Span = (1.5, 8.0)
    """Edges of such objects in source pixels."""


@dataclass(frozen=True, kw_only=True)
class Burst:
    """A simulated stack with its truth."""

    values: Float32Array
    """(date, band, y, x); under clouds what a sensor would see."""
    clear: BoolArray
    """(date, y, x) False under clouds that were detected."""
    shift: Float32Array
    """(date, 2) source pixels down and to the right: what the anchor shows at p a date shows at p + shift."""
    anchor: int
    """Number of the date that the truth belongs to; its shift is 0."""
    truth: Float32Array
    """(band, y * scale, x * scale)."""
    changed: BoolArray
    """(date, y, x) True where objects or haze differ from the anchor, though the mask says nothing."""


def degrade(
    image: FloatArray,
    scale: int,
    *,
    kind: Degradation = "mtf",
    psf_sd: float = PROTOCOL_SD,
    aperture_px: int | None = None,
) -> Float32Array:
    """Return what a sensor sees of a fine image, (band, y / scale, x / scale).

    ``mtf``: a Gaussian, edges reflected, then the mean of the middle 2 x 2 target pixels of each source pixel (of an
    odd scale the middle one): a transfer of .17 at the Nyquist frequency of the source for a scale of 2, .24 for 4.
    ``block-mean``: the mean of the target pixels of each source pixel.

    Args:
        image: (band, y, x).
        scale: Source pixel / target pixel; divides both edges.
        kind: Which of the two.
        psf_sd: Standard deviation of the Gaussian in source pixels.
        aperture_px: Target pixels along an axis whose mean is taken after the Gaussian; by default 2, of odd scales 1.

    Raises:
        ValueError: If the scale does not divide the edges, or the kind is unknown.
    """
    bands, rows, cols = image.shape
    if rows % scale or cols % scale:
        raise ValueError(f"an image of {rows} x {cols} px cannot be divided by a scale of {scale}")
    if kind not in ("mtf", "block-mean"):
        raise ValueError(f"unknown degradation {kind!r}, expected mtf or block-mean")
    used = slice(0, scale)
    if kind == "mtf":
        image = gaussian_filter(image, (0, psf_sd * scale, psf_sd * scale), mode="reflect")
        aperture = aperture_px or 2 - scale % 2
        if aperture > scale or (scale - aperture) % 2:
            raise ValueError(f"a mean of {aperture} of {scale} target pixels has no middle: expected {scale} or 2 less")
        used = slice((scale - aperture) // 2, (scale + aperture) // 2)
    blocks = image.reshape(bands, rows // scale, scale, cols // scale, scale)
    mean: Float32Array = blocks[:, :, used, :, used].mean((2, 4), dtype=np.float64).astype(np.float32)
    return mean


def simulate_burst(image: Float32Array, options: BurstOptions, *, seed: int) -> Burst:
    """Return a stack of dates of a fine image, and what is true of it.

    Args:
        image: (band, y, x) without NaN; both edges multiples of the scale.
        options: How the sensor sees it.
        seed: Of all that is drawn.

    Raises:
        ValueError: If the scale does not divide the edges, or a value is missing.
    """
    if not np.isfinite(image).all():
        raise ValueError("an image to simulate from has missing values")
    random = np.random.default_rng(seed)
    spread = image.std((1, 2), dtype=np.float64)[:, None, None]
    psf_sd, noise = random.uniform(*options.psf_sd), random.uniform(*options.noise)
    anchor = int(random.integers(options.dates))
    ground = np.stack([spline_filter(band, mode="mirror", output=np.float64) for band in image])
    values, clear, changed, shifts = [], [], [], []
    for date in range(options.dates):
        shift = np.zeros(2) if date == anchor else random.uniform(-options.shift_px, options.shift_px, 2)
        seen = move(ground, shift * options.scale) if date != anchor else image.astype(np.float64)
        unlike = np.zeros(image.shape[1:], bool)
        if date != anchor:
            seen, unlike = _change(seen, spread, options, random)
        pixels = degrade(
            np.asarray(seen, np.float32), options.scale, psf_sd=psf_sd, aperture_px=options.aperture_px
        ).astype(np.float64)
        different = unlike.reshape(pixels.shape[1], options.scale, pixels.shape[2], options.scale).any((1, 3))
        cloud = np.zeros_like(different)
        if date != anchor:
            pixels, cloud, hazy = _cover(pixels, spread, options, random)
            different |= hazy
        pixels += np.hypot(noise * spread, options.noise_level) * random.standard_normal(pixels.shape)
        values.append(pixels.astype(np.float32))
        clear.append(~cloud)
        changed.append(different)
        shifts.append(shift)
    return Burst(
        values=np.stack(values),
        clear=np.stack(clear),
        shift=np.array(shifts, np.float32),
        anchor=anchor,
        truth=image,
        changed=np.stack(changed),
    )


def move(coefficients: Float64Array, shift: Float64Array) -> Float64Array:
    """Return an image whose content lies further down and to the right by parts of a pixel.

    Args:
        coefficients: (band, y, x) of the cubic spline through it.
        shift: (2,) pixels down and to the right.
    """
    moved = [shift_image(band, shift, order=3, mode="mirror", prefilter=False) for band in coefficients]
    return np.stack(moved)


def _change(
    image: Float64Array, spread: Float64Array, options: BurstOptions, random: np.random.Generator
) -> tuple[Float64Array, BoolArray]:
    """Return an image (band, y, x) with objects that came or went, in other gains, and where it differs."""
    rows, cols = image.shape[1:]
    unlike = np.zeros((rows, cols), bool)
    image = image.copy()
    while options.changed and unlike.mean() < options.changed:
        height, width = (
            (random.uniform(*options.object_px, 2) * options.scale).round().astype(int).clip(1, (rows, cols))
        )
        top, left, from_top, from_left = random.integers(0, [rows - height + 1, cols - width + 1] * 2)
        there = (slice(None), slice(top, top + height), slice(left, left + width))
        if random.random() < 0.5:  # gone: what lies elsewhere in the scene lies here
            image[there] = image[:, from_top : from_top + height, from_left : from_left + width].copy()
        else:
            image[there] = (
                image[there].mean((1, 2), keepdims=True) + random.choice((-1, 1)) * random.uniform(1, 3) * spread
            )
        unlike[there[1:]] = True
    gain = 1 + options.gain * random.uniform(-1, 1, spread.shape)
    offset = options.offset * spread * random.uniform(-1, 1, spread.shape)
    return image * gain + offset, unlike


def _cover(
    pixels: Float64Array, spread: Float64Array, options: BurstOptions, random: np.random.Generator
) -> tuple[Float64Array, BoolArray, BoolArray]:
    """Return what is seen through the sky, where clouds are detected, and where haze is not."""
    shape = pixels.shape[1:]
    pixels = pixels + options.drift * spread * _draw_smooth(shape, random)
    haze, cloud = (_cut_share(_draw_smooth(shape, random), share) for share in (options.haze, options.clouds))
    white = pixels.max((1, 2), keepdims=True) + 2 * spread
    for thickness in (0.3 * haze, 1.0 * cloud):
        pixels = pixels + thickness * (white - pixels)
    return pixels, cloud > 0, (haze > 0) & (cloud <= 0)


def _draw_smooth(shape: tuple[int, ...], random: np.random.Generator) -> Float64Array:
    """Return smooth noise of mean 0 and standard deviation 1, (y, x)."""
    noise = gaussian_filter(random.standard_normal(shape), min(_HAZE_GRAIN, max(shape) / 6), mode="wrap")
    noise -= noise.mean()
    smooth: Float64Array = noise / max(float(noise.std()), math.ulp(1.0))
    return smooth


def _cut_share(noise: Float64Array, share: float) -> Float64Array:
    """Return how thick a cover of a share of the scene is, (y, x): 0 outside, rising to 1 from its edge."""
    if share <= 0:
        return np.zeros_like(noise)
    above: Float64Array = noise - np.quantile(noise, 1 - share)
    return np.clip(above * 4, 0, 1) if share < 1 else np.ones_like(noise)
