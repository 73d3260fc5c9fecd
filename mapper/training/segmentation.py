"""Training of a network that finds objects of one class, on pairs of image and mask that fit in memory.

An image has any channels on the pixels of its mask: one date, several side by side, or the dates of a stack, which an
encoder turns into features and learns together with the segmentation. The loss is ``bce``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.arrays import BoolArray, Float32Array
from mapper.models.hrnet import HRNet
from mapper.models.model import start_small
from mapper.training.losses import sum_loss

EncoderFactory = Callable[[int], nn.Module]
"""Makes an encoder of images of so many channels; it has ``features``, the number of channels of what it returns."""

_GAIN, _OFFSET = 0.15, 0.15
"""Spread of the gain and of the offset, in training spreads, by which images of one chip differ from another's."""
_RIM_PX = 8
"""Rim of a patch that is not judged: there the network sees the edge."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """An image and the mask of the class."""

    image: Float32Array
    """(channel, y, x), in the same units in all pairs."""
    mask: BoolArray
    """(y, x)."""


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings:
    """Settings of a training."""

    steps: int = 300
    batch: int = 8
    patch_px: int = 96
    rate: float = 3e-3
    width: int = 24
    """Features of the finest branch of the network."""
    bf16: bool = True
    """True computes the network in bfloat16."""


class DateFusion(nn.Module):
    """Features of a stack of dates in any order: each is encoded alone, with weights that all share, and gated.

    Args:
        channels: Those of an image: ``bands`` of a first estimate of the scene, then ``bands`` for each date.
        bands: Bands of a date.
        width: Features of a date on pixels of twice the size.
        features: Features that come out, beside the first estimate.
    """

    def __init__(self, channels: int, *, bands: int = 3, width: int = 24, features: int = 9) -> None:
        super().__init__()
        if channels < 2 * bands or channels % bands:
            raise ValueError(f"{channels} channels are no first estimate and dates of {bands} bands each")
        self.bands, self.features = bands, bands + features
        self.encode = nn.Sequential(
            nn.Conv2d(8 * bands, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, 2 * width, 3, padding=1)
        )
        self.decode = start_small(nn.Conv2d(width, 4 * features, 1))  # at first what counts is the estimate

    def forward(self, image: Tensor) -> Tensor:
        """Return the first estimate and the fused features beside it, (batch, features, y, x)."""
        batch, _, rows, cols = image.shape
        first, dates = image[:, : self.bands], image[:, self.bands :].reshape(batch, -1, self.bands, rows, cols)
        beside = torch.cat([first[:, None].expand_as(dates), dates - first[:, None]], 2)
        encoded: Tensor = self.encode(F.pixel_unshuffle(beside.flatten(0, 1), 2))
        values, gates = encoded.reshape(batch, dates.shape[1], -1, rows // 2, cols // 2).chunk(2, 2)
        gates = torch.sigmoid(gates)
        fused = (values * gates).sum(1) / (gates.sum(1) + 0.5)  # half a date of nothing: one bad date alone stays small
        return torch.cat([first, F.pixel_shuffle(self.decode(F.gelu(fused)), 2)], 1)


class Segmenter(nn.Module):
    """A network that finds a class in images as they are.

    Args:
        mean: Of each channel in training, (channel,).
        sd: Spread of each channel in training, (channel,).
        encoder: What turns channels into features; none for channels as they are.
        width: Features of the finest branch of the network.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, mean: Tensor, sd: Tensor, *, encoder: EncoderFactory | None = None, width: int = 24) -> None:
        super().__init__()
        self.encoder = encoder(mean.numel()) if encoder else nn.Identity()
        channels = int(self.encoder.features) if encoder else mean.numel()  # type: ignore[arg-type]
        self.network = HRNet(channels, 1, bands=0, width=width)
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("sd", sd[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return the probability of the class, (batch, 1, y, x), in images (batch, channel, y, x), normalised."""
        return torch.sigmoid(self.network.find_logits(self.encoder(image)).float())

    def predict(self, image: Float32Array, *, bf16: bool = False) -> Float32Array:
        """Return the probability of the class, (y, x), in an image (channel, y, x) as it is."""
        self.eval()
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            found: Float32Array = self((torch.from_numpy(image)[None] - self.mean) / self.sd)[0, 0].numpy()
        return found


def train_segmenter(
    pairs: Sequence[Pair],
    settings: SegmentationSettings,
    *,
    seed: int,
    encoder: EncoderFactory | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Segmenter:
    """Return a network trained on pairs, each as often as any other; the same for the same seed and pairs.

    Args:
        pairs: Images and masks, edges at least a patch long.
        settings: Of the training.
        seed: Of first weights, patches and their changes.
        encoder: Makes what turns an image into features.
        progress: Told of each step its number and its loss, in nats a pixel.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    flat = [torch.from_numpy(pair.image).flatten(1) for pair in pairs]
    mean, sd = torch.stack([each.mean(1) for each in flat]).mean(0), torch.stack([each.std(1) for each in flat]).mean(0)
    model = Segmenter(mean, sd.clamp(min=1e-6), encoder=encoder, width=settings.width).train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), settings.rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, settings.steps, pct_start=0.15)
    for step in range(settings.steps):
        loss = _find_loss(model, pairs, settings, rng)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if not math.isfinite(value := loss.item()):
            raise FloatingPointError(f"the loss of step {step} is {value}")
        if progress:
            progress(step, value)
    model.eval()
    return model


def _find_loss(
    model: Segmenter, pairs: Sequence[Pair], settings: SegmentationSettings, rng: np.random.Generator
) -> Tensor:
    """Return the mean loss of a batch, in nats a pixel."""
    patches = [_cut_patch(pairs[int(rng.integers(len(pairs)))], settings.patch_px, rng) for _ in range(settings.batch)]
    image = (torch.stack([patch for patch, _ in patches]) - model.mean) / model.sd
    gain, offset = (
        torch.from_numpy(rng.normal(0, spread, (settings.batch, 1, 1, 1)).astype(np.float32))
        for spread in (_GAIN, _OFFSET)
    )
    image = (image * (1 + gain) + offset).contiguous(memory_format=torch.channels_last)
    truth = torch.stack([mask for _, mask in patches])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.bf16):
        found = model(image)
    inner = (..., slice(_RIM_PX, -_RIM_PX), slice(_RIM_PX, -_RIM_PX))
    return sum_loss(found[inner], truth[inner], loss="bce", unit=1.0) / truth[inner].numel()


def _cut_patch(pair: Pair, edge: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return image and mask of a patch, mirrored and turned at random, its corner on whole pairs of pixels."""
    top, left = (2 * int(rng.integers((length - edge) // 2 + 1)) for length in pair.mask.shape)
    at = (slice(top, top + edge), slice(left, left + edge))
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    image, mask = pair.image[:, *at], pair.mask[None, *at]
    both = (image[..., ::-1], mask[..., ::-1]) if mirrored else (image, mask)
    turned = [np.rot90(array, turns, (1, 2)).astype(np.float32) for array in both]
    return torch.from_numpy(turned[0]), torch.from_numpy(turned[1])
