"""PixTransform: a small network from position and colour to the target, fitted to each scene anew.

After de Lutio, D'Aronco, Wegner and Schindler, "Guided super-resolution as pixel-to-pixel transformation" (2019), for
any number of guide channels, any integer scale and any shape. It needs no training data: the only thing it is asked is
that block means of the output equal the source. What it finds hangs on the whole scene, statistics included, so two
tiles of one map would not meet: it can be compared, not run.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.contract import BandNorm, Contract, make_inputs, make_outputs
from mapper.models.model import Tensors

ITERATIONS = 1024
"""Default, some two minutes on one free core. Up to 32,768 are published, for thirty times as long."""

_NARROW, _WIDE = 32, 2048
_RATE = 1e-3
_BATCH = 32  # source pixels in one step
_DECAY_POSITION, _DECAY_COLOUR, _DECAY_HEAD = 1e-4, 1e-3, 1e-3
_CHUNK_PX = 16384  # pixels predicted at once: 2048 features each


class PixelTransform(nn.Module):
    """The network: each pixel by itself, from its position and its guide values.

    The published 1 x 1 convolutions, written as what they are: linear layers on pixels. That is twice as fast on a CPU.

    Args:
        guide_channels: Channels of the guide.
    """

    def __init__(self, guide_channels: int) -> None:
        super().__init__()
        self.position = _branch(2)
        self.colour = _branch(guide_channels)
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(_WIDE, _NARROW), nn.ReLU(), nn.Linear(_NARROW, 1))

    def forward(self, position: Tensor, guide: Tensor) -> Tensor:
        """Return the target of pixels.

        Args:
            position: (..., 2), from -0.5 to 0.5 along the longer edge of the scene.
            guide: (..., guide channels), normalised.

        Returns:
            (...), normalised.
        """
        target: Tensor = self.head(self.position(position) + self.colour(guide))
        return target[..., 0]


class PixTransform:
    """A model that fits a :class:`PixelTransform` to each scene it is given; see :class:`~mapper.models.model.Model`.

    Args:
        contract: Its inputs and outputs; the constants of normalisation in it are not used.
        iterations: Steps of the fit.
        seed: Same seed, same scene, same output.
    """

    def __init__(self, contract: Contract, *, iterations: int = ITERATIONS, seed: int = 0) -> None:
        if iterations < 1:
            raise ValueError(f"iterations must be positive, got {iterations}")
        self.contract = contract
        self.iterations = iterations
        self.seed = seed
        content = json.dumps([contract.digest, iterations, seed])
        self.digest = hashlib.sha256(content.encode()).hexdigest()

    @property
    def parameters(self) -> int:
        """Number of weights that are fitted to each scene."""
        with torch.device("meta"):
            network = PixelTransform(len(self.contract.guide))
        return sum(parameter.numel() for parameter in network.parameters())

    def __call__(self, inputs: Tensors) -> Tensors:
        """Fit and apply, scene by scene; see :class:`~mapper.models.model.Model`.

        Raises:
            ValueError: If a scene has no source value.
        """
        guide, source = inputs["guide"].flatten(1, 2), inputs["source"].flatten(1, 2)
        # whoever predicts has switched gradients off; what was made there cannot be learnt from, a clone can
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(guide.device.type, enabled=False):
            scenes = zip(guide.float().clone(), source.float().clone(), strict=True)
            return {self.contract.outputs[0].name: torch.stack([self._transform(*scene) for scene in scenes])}

    def _transform(self, guide: Tensor, source: Tensor) -> Tensor:
        """Fit and apply to one scene; (channel, y, x) and (1, y / scale, x / scale) to (1, y, x)."""
        known = torch.isfinite(source[0])
        if not known.any():
            raise ValueError("a scene without any source value cannot be fitted")
        mean, sd = _measure(source[:, known])
        inputs = torch.cat([_positions(guide), _normalise(guide)]).movedim(0, -1).contiguous()
        network = self._fit(_to_blocks(inputs, source[0])[known], ((source[0] - mean) / sd)[known])
        with torch.no_grad():
            parts = torch.split(inputs.flatten(0, 1), _CHUNK_PX)
            normal = torch.cat([network(part[:, :2], part[:, 2:]) for part in parts])
        return normal.reshape(1, *guide.shape[1:]) * sd + mean

    def _fit(self, inputs: Tensor, means: Tensor) -> PixelTransform:
        """Fit block means.

        Args:
            inputs: (block, pixel, 2 + guide channels).
            means: (block,).
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = PixelTransform(inputs.shape[-1] - 2)
        network.to(inputs.device)
        optimizer = torch.optim.Adam(
            [
                {"params": network.position.parameters(), "weight_decay": _DECAY_POSITION},
                {"params": network.colour.parameters(), "weight_decay": _DECAY_COLOUR},
                {"params": network.head.parameters(), "weight_decay": _DECAY_HEAD},
            ],
            lr=_RATE,
        )
        for chosen in _draw(len(means), self.iterations, self.seed):
            some = inputs[chosen.to(inputs.device)]
            output = network(some[..., :2], some[..., 2:])
            loss = F.l1_loss(output.mean(1), means[chosen.to(means.device)])
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
        return network


def make_pixtransform(
    *,
    bands: Sequence[tuple[str, str]],
    units: str,
    scale: int | None = None,
    iterations: int = ITERATIONS,
    seed: int = 0,
) -> PixTransform:
    """Return a PixTransform for some bands.

    Args:
        bands: Name and units of each guide channel, in order.
        units: Of source and target.
        scale: Source pixel / target pixel; None for any.
        iterations: Steps of the fit.
        seed: Same seed, same scene, same output.

    Raises:
        ValueError: If there is no guide channel, or no iteration.
    """
    if not bands:
        raise ValueError("PixTransform needs at least one guide channel")
    contract = Contract(
        model="pixtransform",
        inputs=make_inputs(
            tuple(BandNorm(name=name, units=band_units) for name, band_units in bands),
            BandNorm(name="source", units=units),
        ),
        outputs=make_outputs("target", units, gives_sd=False),
        scale=scale,
        halo_px=0,
    )
    return PixTransform(contract, iterations=iterations, seed=seed)


def _branch(inputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, _NARROW), nn.ReLU(), nn.Linear(_NARROW, _WIDE))


def _measure(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation; 1 for a deviation of 0."""
    sd = values.std(unbiased=False)
    return values.mean(), torch.where(sd > 0, sd, torch.ones_like(sd))


def _normalise(guide: Tensor) -> Tensor:
    """Return each channel less its mean in the scene, by its standard deviation there; 0 where missing."""
    valid = torch.isfinite(guide)
    count = valid.sum((1, 2), keepdim=True).clamp(min=1)
    mean = torch.where(valid, guide, 0.0).sum((1, 2), keepdim=True) / count
    centred = torch.where(valid, guide - mean, 0.0)
    sd = (centred.square().sum((1, 2), keepdim=True) / count).sqrt()
    return centred / torch.where(sd > 0, sd, torch.ones_like(sd))


def _positions(guide: Tensor) -> Tensor:
    """Return positions (2, y, x), 0 in the middle of the scene, 1 along its longer edge."""
    rows, cols = guide.shape[-2:]
    longest = max(rows, cols)
    y = (torch.arange(rows, device=guide.device) + 0.5 - rows / 2) / longest
    x = (torch.arange(cols, device=guide.device) + 0.5 - cols / 2) / longest
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))


def _to_blocks(fine: Tensor, coarse: Tensor) -> Tensor:
    """Return (y, x, channel) as (y / scale, x / scale, pixel, channel)."""
    rows, cols = coarse.shape
    blocks = fine.reshape(rows, fine.shape[0] // rows, cols, fine.shape[1] // cols, -1).transpose(1, 2)
    return blocks.flatten(2, 3)


def _draw(number: int, iterations: int, seed: int) -> Iterator[Tensor]:
    """Draw the indices of the blocks of each step; every block once before any is drawn again."""
    random = torch.Generator().manual_seed(seed)
    size = min(_BATCH, number)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(iterations):
        if len(order) < size:
            order = torch.randperm(number, generator=random)
        chosen, order = order[:size], order[size:]
        yield chosen
