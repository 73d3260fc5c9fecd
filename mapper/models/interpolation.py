"""Models without parameters: the yardsticks every network is measured against, at any scale, for any number of bands.

``nearest``, ``bilinear`` and ``bicubic`` interpolate one image: of several dates the anchor. ``median`` takes for each
band and source pixel the median over the dates that are clear there, ``mean`` the mean, then interpolates bicubically:
no detail is won from several dates, but clouds and noise are lost.

Interpolation is written as one convolution per phase (pixel position inside a source pixel), with weights computed in
float64: coordinates counted from the edge of a window would round differently from window to window and leave seams.
"""

from collections.abc import Mapping
from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.card import INTERPOLATIONS, MEAN, MEDIAN, Card
from mapper.models.contract import FILL_STEPS, name_band

_CUBIC = -0.75  # the sharper of the two usual constants, that of torch and OpenCV


class Interpolation(nn.Module):
    """A model without parameters; the guide only tells the size of the target."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self.contract = card.contract
        self.digest = card.digest

    def forward(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Interpolate each band of the source; see :class:`~mapper.models.model.Model`.

        Returns:
            (batch, 1, y, x) for each band, in the units of the source; NaN far from any source value.
        """
        composite = {MEDIAN: find_median, MEAN: find_mean}.get(self.contract.model)
        image = composite(inputs) if composite else find_anchor(inputs)
        method = "bicubic" if composite else self.contract.model
        values = upsample(fill_missing(image), inputs["guide"].shape[-2] // image.shape[-2], method)
        return {name_band(at): values[:, at : at + 1] for at in range(values.shape[1])}


def find_anchor(inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the image of the source that a map shows, (batch, band, y, x).

    That is ``source.anchor`` where it is given, and else the date nearest to the anchor by ``source.days``.

    Raises:
        ValueError: If neither is given for a source of several dates.
    """
    if "source.anchor" in inputs:
        return inputs["source.anchor"][:, 0]
    source = inputs["source"]
    if source.shape[1] == 1:
        return source[:, 0]
    if "source.days" not in inputs:
        raise ValueError(f"a source of {source.shape[1]} dates needs source.anchor or source.days")
    nearest = inputs["source.days"].abs().argmin(1)
    return source[torch.arange(len(source), device=source.device), nearest]


def find_mean(inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the mean over the dates that are clear, (batch, band, y, x); NaN where none is."""
    return _mask(inputs).double().nanmean(1).to(inputs["source"].dtype)  # alike in any order of the dates


def _mask(inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the source, NaN where it is not clear."""
    if "source.clear" in inputs:
        return torch.where(inputs["source.clear"][:, :, None], inputs["source"], torch.nan)
    return inputs["source"]


def find_median(inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the median over the dates that are clear, (batch, band, y, x); NaN where none is."""
    source = _mask(inputs)
    ordered = source.sort(1).values  # NaN last
    count = torch.isfinite(source).sum(1, keepdim=True)
    below, above = ((count - 1).clamp(min=0) // 2, count // 2)
    above = above.clamp(max=source.shape[1] - 1)
    return ((ordered.gather(1, below) + ordered.gather(1, above)) / 2)[:, 0]


def upsample(source: Tensor, scale: int, method: str) -> Tensor:
    """Interpolate (batch, channel, y, x) to ``scale`` times as many pixels; edges repeat the last value.

    Raises:
        ValueError: If the method is unknown.
    """
    if method not in INTERPOLATIONS:
        raise ValueError(f"unknown interpolation {method!r}, expected one of {', '.join(INTERPOLATIONS)}")
    radius = INTERPOLATIONS[method]
    kernel = torch.tensor(_phase_weights(scale, method), dtype=source.dtype, device=source.device)
    batch, channels, rows, cols = source.shape
    planes = source.reshape(batch * channels, 1, rows, cols)
    with torch.autocast(source.device.type, enabled=False):  # the base of every network keeps its full precision
        planes = F.conv2d(F.pad(planes, (radius, radius, 0, 0), mode="replicate"), kernel[:, None, None, :])
        planes = planes.permute(0, 2, 3, 1).reshape(batch * channels, 1, rows, cols * scale)
        planes = F.conv2d(F.pad(planes, (0, 0, radius, radius), mode="replicate"), kernel[:, None, :, None])
    return planes.permute(0, 2, 1, 3).reshape(batch, channels, rows * scale, cols * scale)


def fill_missing(source: Tensor) -> Tensor:
    """Fill NaN from the mean of valid neighbours, a few source pixels far; what is farther stays NaN."""
    for _ in range(FILL_STEPS):
        valid = torch.isfinite(source)
        total = F.avg_pool2d(torch.where(valid, source, 0.0), 3, 1, 1)
        share = F.avg_pool2d(valid.to(source.dtype), 3, 1, 1)
        near = torch.where(share > 0, total / torch.where(share > 0, share, 1.0), torch.nan)  # gradients stay finite
        source = torch.where(valid, source, near)
    return source


@cache
def _phase_weights(scale: int, method: str) -> tuple[tuple[float, ...], ...]:
    """Return weights (phase, tap) of the taps -radius .. radius around the source pixel that a target pixel lies in."""
    radius = INTERPOLATIONS[method]
    weigh = {"nearest": _weigh_nearest, "bilinear": _weigh_linear, "bicubic": weigh_cubic}[method]
    centres = [(phase + 0.5) / scale - 0.5 for phase in range(scale)]
    return tuple(tuple(weigh(abs(tap - centre)) for tap in range(-radius, radius + 1)) for centre in centres)


def _weigh_nearest(distance: float) -> float:
    return float(distance <= 0.5)


def _weigh_linear(distance: float) -> float:
    return max(0.0, 1.0 - distance)


def weigh_cubic(d: float) -> float:
    """Return the weight of a source pixel at a distance in source pixels, of at least 0."""
    if d <= 1:
        return ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1
    return ((_CUBIC * d - 5 * _CUBIC) * d + 8 * _CUBIC) * d - 4 * _CUBIC if d < 2 else 0.0
