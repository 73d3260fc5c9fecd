"""JSPSR: bare earth from a surface model, as published, for comparison.

After Cai and Wilson (2025), joint spatial propagation super-resolution, written anew from a description. The source is
interpolated to target resolution; it, an image and an auxiliary layer, most often classes of land cover, have an
encoder each. The features of the others join those of the elevation at every level. What comes out is no height but how
to spread them: for each pixel nine weights, which sum to zero, and the displacements of nine places in the interpolated
source; the centre is not displaced.

It is no network to make maps with. Attention averages over a patch, and heights are counted from the lowest of a patch
and put on a scale of logarithms: the same pixel comes out otherwise in another patch. What it cannot do is part of what
is compared: it adds no height that is not there within its reach.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.gradients import hold
from mapper.models.interpolation import upsample
from mapper.models.model import Network, check_guided

_LEVELS = (2, 4, 8, 16)
"""Features of each level of an encoder, from full resolution down, in units of the width."""
_ALIGN = 8  # three strides of 2
_RATIO = 16
"""Features of the attention for one of its hidden layer."""
_LEAST = 4
"""Features of that layer in a small network."""
_KERNEL = 3
_PLACES = _KERNEL**2


class JSPSR(Network):
    """The network, on normalised values.

    Their unit does not hang on the training: it is as many metres as one unit of the scale of logarithms is worth at
    the lowest of a patch, 553 for the published relief, so that a loss weighs absolute and squared errors nearly as
    published. Losses that are squared below a unit hardly see a metre: l1 and l1-mse-gradient suit it.

    Args:
        guide_channels: Channels of the guide: first those of the image, then those of the auxiliary layer.
        scale: Source pixel / target pixel.
        width: Features of a stem; 32 is the published size.
        blocks: Residual blocks of a level; 2 is the published size.
        image_channels: Channels of the image; None for a guide that is all image.
        relief: Range of heights above the lowest of a patch, in metres, that becomes 0 to 1; 929 is published for 8 m,
            933 for 3 m. Nothing is cut off beyond it.
        rim_px: Pixels that a patch is continued by, on each side. Places outside are 0, far below any height: published
            is 0, and scores without a border of 5 %.

    Raises:
        ValueError: If there is no image, the relief does not begin below 0, or the rim is negative.
    """

    tile_exact = False
    source_norm: tuple[float, float]

    def __init__(
        self,
        guide_channels: int,
        scale: int,
        *,
        width: int = 32,
        blocks: int = 2,
        image_channels: int | None = None,
        relief: Sequence[float] = (-80.0, 929.0),
        rim_px: int = 0,
    ) -> None:
        super().__init__()
        check_guided(guide_channels, scale)
        self.scale = scale
        self.image_channels = guide_channels if image_channels is None else image_channels
        if not 0 < self.image_channels <= guide_channels:
            raise ValueError(f"image_channels is {image_channels}, expected 1 to {guide_channels}, those of the guide")
        self.lowest, self.highest = relief
        if not self.lowest < 0 < self.highest - 1:
            raise ValueError(f"relief is {list(relief)}, expected metres below 0 and above it")
        if rim_px < 0:
            raise ValueError(f"rim_px is {rim_px}, expected 0 or more pixels")
        self.rim_px = rim_px
        self.source_norm = 0.0, -self.lowest * math.log(self.highest - self.lowest)
        auxiliary = guide_channels - self.image_channels
        self.stems = nn.ModuleList([_stem(1, width), _stem(self.image_channels, width, norm=True)])
        if auxiliary:
            self.stems.append(_stem(auxiliary, width))
        branches = len(self.stems)
        widths = [width, *(width * times for times in _LEVELS)]
        self.levels = nn.ModuleList(
            nn.ModuleList(
                _level(widths, level, blocks, joined=1 if branch or not level else branches)
                for branch in range(branches)
            )
            for level in range(len(_LEVELS))
        )
        self.ups = nn.ModuleList()
        inputs = branches * widths[-1]
        for outputs in widths[-2:0:-1]:
            self.ups.append(_up(inputs, outputs))
            inputs = outputs + branches * outputs
        self.last = nn.Sequential(_Attention(inputs), *_layer(inputs, widths[1]))
        self.propagation = Propagation(widths[1])
        self.apply(_start)

    @property
    def halo_px(self) -> int:
        """Return 0: each pixel depends on the whole patch, and no halo would do."""
        return 0

    def forward(self, guide: Tensor, source: Tensor) -> Tensor:
        """Return the propagated source; a shape that is no multiple of 8 is continued on the way, as for a rim.

        Args:
            guide: (batch, guide channels, y, x), normalised, 0 where missing.
            source: (batch, 1, y / scale, x / scale), normalised.

        Returns:
            (batch, 1, y, x), in the normalisation of the source.
        """
        _, unit = self.source_norm
        heights = upsample(source, self.scale, "bicubic") * unit
        floor = heights.amin((2, 3), keepdim=True)
        (top, bottom), (left, right) = (self._measure_rim(edge) for edge in heights.shape[2:])
        pad = left, right, top, bottom
        base, guide = (F.pad(image, pad, mode="replicate") for image in (self._to_scale(heights - floor), guide))
        images = [base, guide[:, : self.image_channels], guide[:, self.image_channels :]]
        features = self._decode(self._encode(images[: len(self.stems)]))
        target = F.pad(self.propagation(base, features), [-edge for edge in pad])
        return (self._to_metres(target) + floor) / unit

    def _measure_rim(self, edge: int) -> tuple[int, int]:
        """Return the pixels before and after an edge of so many: the rim, and what lacks to a multiple of 8."""
        return self.rim_px, self.rim_px + -(edge + 2 * self.rim_px) % _ALIGN

    def _encode(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return the joined features of each level, from full resolution down."""
        features = [stem(image) for stem, image in zip(self.stems, images, strict=True)]
        joined: list[Tensor] = []
        for level in self.levels:
            elevation, *others = level.children()
            first = elevation(joined[-1] if joined else features[0])
            features = [first, *(layers(own) for layers, own in zip(others, features[1:], strict=True))]
            joined.append(torch.cat(features, 1))
        return joined

    def _decode(self, joined: Sequence[Tensor]) -> Tensor:
        """Return features at full resolution."""
        features = joined[-1]
        for up, fused in zip(self.ups, joined[-2::-1], strict=True):
            features = torch.cat([up(features), fused], 1)
        result: Tensor = self.last(features)
        return result

    def _to_scale(self, heights: Tensor) -> Tensor:
        """Return heights above the lowest, in metres, as 0 to 1."""
        return torch.log(heights - self.lowest) / math.log(self.highest - self.lowest)

    def _to_metres(self, values: Tensor) -> Tensor:
        return torch.exp(values * math.log(self.highest - self.lowest)) + self.lowest


class Propagation(nn.Module):
    """The head: adds to each value a weighted sum of nine displaced ones.

    Args:
        width: Features that it is given.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.from_base = nn.Sequential(*_layer(1, width, norm=False), *_layer(width, width, norm=False))
        self.from_features = nn.Sequential(*_layer(width, width, norm=False), *_layer(width, width, norm=False))
        self.joined = nn.Sequential(*_layer(2 * width, 2 * width, norm=False), _Block(2 * width, 2 * width))
        self.weights = nn.Conv2d(2 * width, _PLACES, 1)
        self.offsets = nn.Conv2d(2 * width, 2 * (_PLACES - 1), 1)
        self.kernel = nn.Parameter(torch.ones(_KERNEL, _KERNEL))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, base: Tensor, features: Tensor) -> Tensor:
        """Return the propagated values, (batch, 1, y, x).

        Args:
            base: (batch, 1, y, x).
            features: (batch, width, y, x).
        """
        joined = self.joined(torch.cat([self.from_base(hold(base)), self.from_features(features)], 1))
        weights = self.weights(joined).to(base.dtype).sigmoid()
        weights = (weights - weights.mean(1, keepdim=True)) * self.kernel.reshape(-1, 1, 1)
        offsets = self.offsets(joined).to(base.dtype).unflatten(1, (_PLACES - 1, 2))
        before, after = offsets.split(_PLACES // 2, 1)
        offsets = torch.cat([before, torch.zeros_like(before[:, :1]), after], 1)
        result: Tensor = base + self.bias + (weights * read_displaced(base, offsets)).sum(1, keepdim=True)
        return result


def read_displaced(values: Tensor, offsets: Tensor) -> Tensor:
    """Read each pixel's 3 x 3 neighbours from displaced places, bilinear; outside all is 0.

    Args:
        values: (batch, 1, y, x).
        offsets: (batch, 9, 2, y, x), rows then columns, in pixels from each neighbour, row by row.

    Returns:
        (batch, 9, y, x).
    """
    rows, cols = values.shape[2:]
    steps = torch.arange(_PLACES, device=values.device)
    row = torch.arange(rows, device=values.device)[:, None] + (steps // _KERNEL - _KERNEL // 2)[:, None, None]
    col = torch.arange(cols, device=values.device) + (steps % _KERNEL - _KERNEL // 2)[:, None, None]
    # in the coordinates of torch, -1 and 1 are the outer edges of the first and last pixel
    down = (2 * (row + offsets[:, :, 0]) + 1) / rows - 1
    right = (2 * (col + offsets[:, :, 1]) + 1) / cols - 1
    grid = torch.stack([right, down], -1).flatten(1, 2)
    read = F.grid_sample(values, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return read.reshape(offsets.shape[0], _PLACES, rows, cols)


class _Block(nn.Module):
    """Two convolutions beside the straight way."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_layer(inputs, outputs, stride=stride), *_layer(outputs, outputs)[:-1])
        changes = stride > 1 or inputs != outputs
        short = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)] if changes else []
        self.short = nn.Sequential(*short)

    def forward(self, features: Tensor) -> Tensor:
        """Return features, of a part of the pixels where it strides."""
        return F.relu(self.short(features) + self.layers(features))


class _Attention(nn.Module):
    """Features weighed by their averages and maxima over the patch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(_LEAST, width // _RATIO)
        self.weigh = nn.Sequential(
            nn.Conv2d(width, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, width, 1, bias=False)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        mean, highest = features.mean((2, 3), keepdim=True), features.amax((2, 3), keepdim=True)
        return features * torch.sigmoid(self.weigh(mean) + self.weigh(highest))


def _stem(channels: int, width: int, *, norm: bool = False) -> nn.Sequential:
    return nn.Sequential(*_layer(channels, width, kernel=5, norm=norm))


def _level(widths: Sequence[int], level: int, blocks: int, *, joined: int) -> nn.Sequential:
    """Return the blocks of a level, which take the features of so many branches."""
    inputs, outputs = joined * widths[level], widths[level + 1]
    first = _Block(inputs, outputs, stride=2 if level else 1)
    return nn.Sequential(first, *(_Block(outputs, outputs) for _ in range(blocks - 1)))


def _up(inputs: int, outputs: int) -> nn.Sequential:
    """Return what doubles the resolution."""
    double = nn.ConvTranspose2d(outputs, outputs, _KERNEL, 2, 1, output_padding=1, bias=False)
    return nn.Sequential(_Attention(inputs), *_layer(inputs, outputs), double, nn.BatchNorm2d(outputs), nn.ReLU())


def _layer(inputs: int, outputs: int, *, kernel: int = _KERNEL, stride: int = 1, norm: bool = True) -> list[nn.Module]:
    """Return a convolution, its normalisation in place of a bias, and what bends it."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=not norm)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()] if norm else [conv, nn.ReLU()]


def _start(layer: nn.Module) -> None:
    """Draw the first weights of a convolution, as published."""
    if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return
    sd = math.sqrt(1.3 * 2 / (layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]))
    nn.init.trunc_normal_(layer.weight, std=sd, a=-2 * sd, b=2 * sd)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
