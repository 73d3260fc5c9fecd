"""Bare earth from a surface model: heights relative to a local level, propagated from where the ground is seen.

Three thoughts:

1. *Level.* What a network sees of a height is its difference to the source smoothed by a Gaussian of two source pixels,
   which hangs on position alone: a plain at 4,000 m looks like one at the sea, and no patch has statistics of its own.
   Beside it stand differences to the lowest neighbours and to a morphological opening: what stands out.
2. *Propagation.* The ground below a wood is that of its clearings. Each source pixel becomes a weighted mean of nine
   displaced heights around it, after the spatial propagation of Cai and Wilson, "JSPSR: Joint Spatial Propagation
   Super-Resolution Networks for Enhancement of Bare-Earth Digital Elevation Models from Global Data" (2025), with
   weights that sum to one and offsets that end at seven source pixels; a height is added that no neighbour has.
3. *Guide.* Classes of land cover, images or canopy heights are looked at on their own pixels, averaged to those of the
   source, where all thinking is done, and looked at again where the result is interpolated.

Without a guide everything happens on source pixels, so that one network serves every scale.
"""

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.displace import RADIUS, sample
from mapper.models.interpolation import upsample
from mapper.models.model import Network, start_small
from mapper.models.msg import prime_factors
from mapper.models.receptive_field import ReceptiveField, Span

_LEVEL_SD = 1.5
_LEVEL_RADIUS = 3
"""Source pixels: spread and end of the Gaussian that gives the level."""
_WINDOWS = (3, 5, 7)
"""Edges of the windows of which the lowest height is seen, source pixels."""
_SAMPLES = 9
_LEAST_SD = 0.05
"""Metres."""
_TALL = 10.0
"""Metres: unit of what features are made from."""
_SPACING = 2.0
"""Distance of the displaced heights before training, source pixels."""


class BareEarth(Network):
    """The network, on heights in metres and a normalised guide.

    Args:
        guide_channels: Channels of the guide; none is a network of any scale.
        scale: Source pixel / target pixel.
        width: Features at source pixels.
        blocks: Residual blocks at source pixels, each a 3 x 3 and a 1 x 1 convolution.
        detail: Features between the pixels of guide and source, where there is a guide.
    """

    sees_gaps = True
    sees_source_gaps = True
    gives_sd = True
    in_double = True
    source_norm = (0.0, 1.0)

    gauss: Tensor

    def __init__(self, guide_channels: int, scale: int, *, width: int = 96, blocks: int = 6, detail: int = 8) -> None:
        super().__init__()
        if scale < 2:
            raise ValueError(f"needs a scale of at least 2, got {scale}")
        self.scale, self.guided = scale, guide_channels > 0
        seen = 3 + len(_WINDOWS)
        if self.guided:
            self.view = _GuideView(guide_channels, scale, width=width, detail=detail)
            seen += detail + 2 * guide_channels
        self.enter = nn.Conv2d(seen, width, 3, padding=1)
        self.trunk = nn.ModuleList(_Residual(width) for _ in range(blocks))
        self.offsets = start_small(nn.Conv2d(width, 2 * _SAMPLES, 1))
        self.weights = start_small(nn.Conv2d(width, _SAMPLES, 1))
        self.rest = start_small(nn.Conv2d(width, 2, 1))
        self.register_buffer("gauss", _gaussian(), persistent=False)

    @property
    def any_scale(self) -> bool:
        """True without a guide."""
        return not self.guided

    def forward(self, guide: Tensor, source: Tensor, *, known: Tensor, source_known: Tensor) -> Tensor:
        """Return heights of bare earth.

        Args:
            guide: (batch, guide channels, y, x), normalised, 0 where missing.
            source: (batch, 1, y / scale, x / scale), metres, 0 where unknown.
            known: Like ``guide``, bool.
            source_known: Like ``source``, bool: False where the source is neither known nor filled.

        Returns:
            (batch, 2, y, x): mean and standard deviation, metres.
        """
        scale = guide.shape[-2] // source.shape[-2]
        there = source_known.to(source.dtype)
        level = self._smooth(source, there)
        relative = (source - level) * there / _TALL
        seen = [relative, there, *_stand_out(relative, source_known)]
        fine = None
        if self.guided:
            fine, pooled = self.view.look(torch.cat([guide, known.to(guide.dtype)], 1))
            seen.append(pooled)
        features = self.enter(torch.cat(seen, 1))
        for block in self.trunk:
            features = block(features)
        rest, spread = (_TALL * self.rest(F.gelu(features)).to(source.dtype)).chunk(2, 1)
        heights = self._propagate(features, source, there) + rest
        value, spread = upsample(heights, scale, "bicubic"), upsample(spread, scale, "bilinear")
        if fine is not None:
            change, more = self.view.refine(fine, features, heights - level).chunk(2, 1)
            value, spread = value + change, spread + more
        return torch.cat([value, F.softplus(spread) + _LEAST_SD], 1)

    def _smooth(self, source: Tensor, there: Tensor) -> Tensor:
        """Return the level: the mean of known heights around, by a Gaussian."""
        total, weight = (self._blur(each) for each in (source * there, there))
        return total / weight.clamp(min=1e-6)

    def _blur(self, image: Tensor) -> Tensor:
        with torch.autocast(image.device.type, enabled=False):
            down = F.conv2d(image, self.gauss[:, None], padding=(_LEVEL_RADIUS, 0))
            return F.conv2d(down, self.gauss[:, None].mT, padding=(0, _LEVEL_RADIUS))

    def _propagate(self, features: Tensor, source: Tensor, there: Tensor) -> Tensor:
        """Return a weighted mean of displaced heights; unknown ones have no weight."""
        hidden = F.gelu(features)
        weights = torch.softmax(self.weights(hidden).to(source.dtype), 1)
        offsets = self.offsets(hidden).to(source.dtype)
        edge = (RADIUS + 1,) * 4
        heights, known = (F.pad(each, edge, mode="replicate") for each in (source * there, there))
        total, weight = torch.zeros_like(source), torch.zeros_like(source)
        for k in range(_SAMPLES):
            down = _bound(offsets[:, k], k // 3 - 1)
            right = _bound(offsets[:, _SAMPLES + k], k % 3 - 1)
            share = sample(known, down, right)
            # differences are small, and so is their rounding
            total = total + weights[:, k, None] * (sample(heights, down, right) - share * source)
            weight = weight + weights[:, k, None] * share
        return source + total / weight.clamp(min=1e-3)

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on."""
        at = Span(pixel, pixel)
        cells = self.view.span(at) | at.bicubic(self.scale) if self.guided else at.bicubic(self.scale)
        trunk = cells.conv(3)
        for _ in self.trunk:
            trunk = trunk.conv(3)
        source = trunk.conv(max(2 * _LEVEL_RADIUS + 1, *_WINDOWS)) | cells.conv(2 * (RADIUS + 1) + 1)
        return ReceptiveField(guide=self.view.span_guide(trunk) if self.guided else at, source=source)


class _GuideView(nn.Module):
    """A look at the guide, on pixels that are smaller than the source's by the scale without its least prime factor."""

    def __init__(self, channels: int, scale: int, *, width: int, detail: int) -> None:
        super().__init__()
        factors = prime_factors(scale)
        self.fold = min(factors) if len(factors) > 1 else 1
        self.step = scale // self.fold
        self.enter = nn.Sequential(
            nn.Conv2d(2 * channels, detail, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(detail, detail, 3, padding=1),
            nn.GELU(),
        )
        self.lift = nn.Conv2d(width + 1, detail, 1)
        self.finish = nn.Sequential(
            nn.Conv2d(2 * detail, detail, 3, padding=1),
            nn.GELU(),
            start_small(nn.Conv2d(detail, 2, 3, padding=1)),
        )

    def look(self, guide: Tensor) -> tuple[Tensor, Tensor]:
        """Return features on folded pixels, and what source pixels get of them and of the guide itself."""
        folded = F.avg_pool2d(guide, self.fold)
        fine = self.enter(folded)
        return fine, torch.cat([F.avg_pool2d(each, self.step) for each in (fine, folded)], 1)

    def refine(self, fine: Tensor, features: Tensor, heights: Tensor) -> Tensor:
        """Return what is added to mean and spread at target pixels, metres; (batch, 2, y, x)."""
        lifted = upsample(self.lift(torch.cat([features, heights / _TALL], 1)), self.step, "bilinear")
        change = _TALL * self.finish(torch.cat([fine, lifted], 1)).to(heights.dtype)
        return upsample(change, self.fold, "bilinear") if self.fold > 1 else change

    def span(self, at: Span) -> Span:
        """Return the source pixels whose features a target pixel depends on."""
        folded = at.upsample(1, self.fold) if self.fold > 1 else at
        return folded.conv(5).upsample(1, self.step)

    def span_guide(self, cells: Span) -> Span:
        """Return the target pixels that the features of source pixels depend on."""
        folded = Span(cells.first * self.step, (cells.last + 1) * self.step - 1).conv(5)
        return Span(folded.first * self.fold, (folded.last + 1) * self.fold - 1)


class _Residual(nn.Module):
    """A 3 x 3 convolution, what follows at each pixel, and what goes around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 1)
        nn.init.normal_(self.second.weight, std=1e-2)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        change: Tensor = self.second(F.gelu(self.first(F.gelu(features))))
        return features + change


def _stand_out(relative: Tensor, known: Tensor) -> list[Tensor]:
    """Return how far each pixel lies above the lowest around it, in windows of several sizes, and above an opening."""
    hidden = torch.where(known, -relative, -torch.inf)
    lowest = [-F.max_pool2d(hidden, edge, 1, edge // 2) for edge in _WINDOWS]
    opening = F.max_pool2d(torch.where(torch.isfinite(lowest[0]), lowest[0], -torch.inf), 3, 1, 1)
    return [torch.where(known & torch.isfinite(below), relative - below, 0.0) for below in (*lowest, opening)]


def _gaussian() -> Tensor:
    taps = torch.exp(-torch.arange(-_LEVEL_RADIUS, _LEVEL_RADIUS + 1).square() / (2 * _LEVEL_SD**2))
    return (taps / taps.sum())[None, :, None]


def _bound(offset: Tensor, index: int) -> Tensor:
    """Return the displacement along an axis, softly limited, in source pixels."""
    return RADIUS * torch.tanh((8 * offset + _SPACING * index) / RADIUS)
