"""HRNet: the share of a class in each pixel, by branches of several resolutions that exchange features.

After J. Wang, K. Sun, T. Cheng and others: Deep high-resolution representation learning for visual recognition. IEEE
Transactions on Pattern Analysis and Machine Intelligence 43 (2021), 3349-3364. Published networks throw three quarters
of the detail away before their finest branch; buildings are a few pixels long, so here squares of 2 x 2 pixels become
channels, and channels pixels again at the end. Three branches and three exchanges keep the network small and its
receptive field within the surroundings that a map reads. Published networks normalise batches; here blocks start small
instead, so that nothing is normalised by the statistics of an image.

The output is a probability, which is what a map stores and what the loss ``bce`` judges.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.interpolation import upsample
from mapper.models.model import Network
from mapper.models.receptive_field import ReceptiveField, Span
from mapper.models.unet import Block

_WIDTHS = (1, 2, 4)  # of each branch, from the finest down, in units of the option
_FOLD = 2
_RARE = -2.0
"""Logit that training starts from: a class covers a small part of the land."""


class HRNet(Network):
    """The network, on normalised values.

    Args:
        guide_channels: Channels of the guide; 0 for the source alone.
        scale: Source pixel / target pixel.
        bands: Bands of the source; 0 for a guide alone.
        width: Features of the finest branch.
        blocks: Blocks in each branch between two exchanges.
    """

    source_norm = (0.0, 1.0)  # what comes out is a probability, in no unit of the source

    def __init__(self, guide_channels: int, scale: int, *, bands: int = 1, width: int = 32, blocks: int = 1) -> None:
        super().__init__()
        if scale < 1 or guide_channels + bands < 1:
            raise ValueError(
                f"needs a scale of at least 1 and an image, got {scale} and {guide_channels + bands} bands"
            )
        self.scale, self.bands = scale, bands
        widths = [width * times for times in _WIDTHS]
        self.head = nn.Conv2d((guide_channels + bands) * _FOLD**2, width, 3, padding=1)
        self.steps = nn.ModuleList(_down(here, below) for here, below in pairwise(widths))
        self.stages = nn.ModuleList(_Stage(widths[:branches], blocks) for branches in range(1, len(widths) + 1))
        self.join = nn.Conv2d(sum(widths), 2 * width, 1)
        self.last = nn.Conv2d(2 * width, _FOLD**2, 1)
        nn.init.normal_(self.last.weight, std=1e-2)
        nn.init.constant_(self.last.bias, _RARE)  # type: ignore[arg-type]

    @property
    def align_px(self) -> int:
        """Edge of a pixel of the coarsest branch."""
        return _FOLD << len(self.steps)

    def forward(self, guide: Tensor, source: Tensor) -> Tensor:
        """Return the probability of the class.

        Args:
            guide: (batch, guide channels, y, x), normalised, 0 where missing; y and x multiples of ``align_px``.
            source: (batch, bands, y / scale, x / scale), normalised.

        Returns:
            (batch, 1, y, x), between 0 and 1.
        """
        image = torch.cat([upsample(source, self.scale, "bicubic"), guide], 1) if self.bands else guide
        logits = self.find_logits(image)
        return torch.sigmoid(logits if logits.dtype == torch.float64 else logits.float())

    def find_logits(self, image: Tensor) -> Tensor:
        """Return the logit of the probability, (batch, 1, y, x), of an image (batch, bands + guide channels, y, x)."""
        branches = [self.head(F.pixel_unshuffle(image, _FOLD))]
        for number, stage in enumerate(self.stages):
            if number:
                branches = [*branches, self.steps[number - 1](F.gelu(branches[-1]))]
            branches = stage(branches)
        joined = self.join(torch.cat([_enlarge(each, at) for at, each in enumerate(branches)], 1))
        return F.pixel_shuffle(self.last(F.gelu(joined)), _FOLD)

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on."""
        here = Span(pixel, pixel).upsample(0, _FOLD)
        spans = [_enlarged(here, at) for at in range(len(self.stages))]
        for stage in reversed(self.stages):
            spans = stage.look_back(spans)  # type: ignore[operator]
            if len(spans) > 1:
                *spans, coarsest = spans
                spans[-1] |= _shrunk(coarsest, 1)
        span = spans[0].conv(3).pool(_FOLD, _FOLD, 0)
        return ReceptiveField(guide=span, source=span.bicubic(self.scale) if self.bands else None)


class _Stage(nn.Module):
    """Blocks in each branch, then every branch added to every other one."""

    def __init__(self, widths: list[int], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(Block(width) for _ in range(blocks))) for width in widths)
        self.blocks = blocks
        self.ways = nn.ModuleDict(
            {
                f"{one}-{other}": _make_way(widths, one, other)
                for one in range(len(widths))
                for other in range(len(widths))
                if one != other
            }
        )

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Return features of the same shapes."""
        own = [branch(features) for branch, features in zip(self.branches, branches, strict=True)]
        return [self._gather(own, at) for at in range(len(own))]

    def _gather(self, own: list[Tensor], at: int) -> Tensor:
        total = own[at]
        for other, features in enumerate(own):
            if other != at:
                total = total + _enlarge(self.ways[f"{other}-{at}"](F.gelu(features)), max(other - at, 0))
        return total

    def look_back(self, spans: list[Span]) -> list[Span]:
        """Return what each branch of the input adds to pixels of the output."""
        seen = [self._seen_by(spans, at) for at in range(len(spans))]
        for _ in range(2 * self.blocks):
            seen = [span.conv(3) for span in seen]
        return seen

    def _seen_by(self, spans: list[Span], at: int) -> Span:
        whole = spans[at]
        for other, span in enumerate(spans):
            whole |= _enlarged(span, at - other) if other < at else _shrunk(span, other - at)
        return whole


def _make_way(widths: list[int], one: int, other: int) -> nn.Module:
    """Return what takes the features of one branch to another: 1 x 1 up, steps of 3 x 3 down; small at first."""
    if one > other:
        layers: list[nn.Module] = [nn.Conv2d(widths[one], widths[other], 1)]
    else:
        layers = [_down(widths[at], widths[at + 1]) for at in range(one, other)]
    last = layers[-1]
    if isinstance(last, nn.Conv2d):
        nn.init.normal_(last.weight, std=0.3 / (last.weight[0].numel() ** 0.5))
    return nn.Sequential(*layers)


def _down(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)


def _enlarge(features: Tensor, halvings: int) -> Tensor:
    return F.interpolate(features, scale_factor=1 << halvings, mode="nearest") if halvings else features


def _enlarged(span: Span, halvings: int) -> Span:
    """Return what enlarged features are made of."""
    return span.upsample(0, 1 << halvings)


def _shrunk(span: Span, halvings: int) -> Span:
    """Return what features are made of that were halved so often."""
    for _ in range(halvings):
        span = span.pool(3, 2, 1)
    return span
