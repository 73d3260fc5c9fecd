"""A network with its contract: physical units in, physical units out, missing values dealt with.

Networks themselves work on normalised values without NaN, and know nothing of bands or units.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.contract import BandNorm, Contract
from mapper.models.interpolation import fill_missing
from mapper.models.receptive_field import ReceptiveField, halo_of
from mapper.spec.target import Bounds

QUARTER = 4
"""Edge of the squares of pixels that become channels, so that a network works on a 16th of the pixels."""


def check_guided(guide_channels: int, scale: int) -> None:
    """Check that there is a guide and something to sharpen.

    Raises:
        ValueError: If not.
    """
    if guide_channels < 1 or scale < 2:
        raise ValueError(f"needs guide channels and a scale of at least 2, got {guide_channels} and {scale}")


def check_unguided(guide_channels: int, scale: int, *, scales: Sequence[int] | None = None) -> None:
    """Check that there is no guide, which a network would not look at, and that it knows the scale.

    Args:
        guide_channels: Channels of the guide.
        scale: Source pixel / target pixel.
        scales: Those that the network is made for; None for all from 2 on.

    Raises:
        ValueError: If not.
    """
    if guide_channels or (scale < 2 if scales is None else scale not in scales):
        known = "of at least 2" if scales is None else "of " + " or ".join(map(str, scales))
        raise ValueError(f"takes no guide channels and a scale {known}, got {guide_channels} and {scale}")


def start_small(layer: nn.Conv2d) -> nn.Conv2d:
    """Return a last layer whose output is small at first: training starts from what it is added to."""
    nn.init.normal_(layer.weight, std=1e-3)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def quarter(values: Tensor) -> Tensor:
    """Return squares of 4 x 4 pixels as 16 channels of one pixel, for each channel."""
    return F.pixel_unshuffle(values, QUARTER)


_FARTHEST = 5.0
"""Standard deviations from the mean of training at which a guide value is cut off."""


_SOFTEST = 0.02
"""Distance from its bound, in training standard deviations, at which a mean begins to bend."""


Tensors = Mapping[str, Tensor]
"""Tensors by name."""


class Model(Protocol):
    """A model that sharpens."""

    contract: Contract
    digest: str

    def __call__(self, inputs: Tensors) -> Tensors:
        """Sharpen a batch.

        Args:
            inputs: By role (batch, date, band, y / px, x / px) float32 in the units of the contract, NaN where missing.
                ``guide`` is always there, without a band where there is none: its shape is that of the target.
                Beside a role may stand ``<role>.sd``, like it, NaN where unknown; ``<role>.clear``,
                (batch, date, y, x) bool; and ``<role>.days``, (batch, date) days from the anchor. ``position``:
                (batch, 2) int64, row and column of the upper-left target pixel, counted from the origin of the CRS.
                ``margin``, for a model that ``trims``: (4,) int64, source pixels along the top, bottom, left and right
                edge of the window of which no result is needed.
                For a stochastic model ``sample``, (batch,) int64, and ``noise``, (batch, step, band, y, x) float32.

        Returns:
            By output of the contract (batch, 1, y, x), in its units; without the margin that was told.
        """


class Network(nn.Module):
    """An architecture: (guide, source) to target, all normalised and without NaN.

    The output is (batch, 1, y, x), the mean, or (batch, 2, y, x), mean and a positive standard deviation.
    """

    sees_gaps: bool = False
    """True for a network that takes ``known``, (batch, guide channels, y, x) bool: False where a value was missing."""
    sees_source_sd: bool = False
    """True for a network that takes ``source_sd``, (batch, 1, y / scale, x / scale) in training units of the source."""
    sees_source_gaps: bool = False
    """True for a network that takes ``source_known``, (batch, 1, y / scale, x / scale) bool: False where the source is
    missing and too far from any value to be filled."""
    sees_dates: bool = False
    """True for a network that takes the option ``dates``: its guide channels are so many dates of the same bands."""
    gives_sd: bool = False
    """True for a network that gives a standard deviation beside the mean."""
    tile_exact: bool = True
    """False for a network whose pixels depend on the extent of a patch: no halo would do, no map is made with it."""
    stacked: bool = False
    """True for a network of several bands or dates; see :class:`~mapper.models.stack_model.StackModel`."""
    stochastic: bool = False
    """True for a network of a stack that draws samples: it takes ``noise``, (batch, step, 1, y, x), of each band."""
    any_bands: bool = False
    """True for a network of a stack that sees one band at a time, in any units: it serves any number of bands."""
    cells_px: int = 0
    """Edge of the cells, in source pixels, in each of which dates are registered to the anchor; 0 where shifts are not
    looked at."""
    in_double: bool = False
    """True for a network that maps are made with in double precision: heights of thousands of metres are stored in
    steps of a centimetre, and the last bits of single precision hang on how a window was cut. One of a stack gets its
    inputs as they come, and says itself what of it needs no more."""
    trims: bool = False
    """True for a network of a stack that takes ``margin``, and gives what lies inside of it."""
    source_norm: tuple[float, float] | None = None
    """Mean and unit that the source is normalised with, of a network that has them; None takes those of training."""
    scale: int
    """Source pixel / target pixel."""

    @property
    def any_scale(self) -> bool:
        """True for a network that works on source pixels alone, and so at every scale."""
        return False

    @property
    def halo_px(self) -> int:
        """Radius of the receptive field in target pixels, filled source values included.

        The farthest over all positions that a target pixel can have in source pixels and in the coarsest pixels inside.
        """
        positions = range(math.lcm(self.scale, self.align_px))
        return halo_of([self.receptive_field(pixel) for pixel in positions], self.scale)

    @property
    def step_px(self) -> int:
        """Target pixels by which the receptive field grows with each step of a sample after the first."""
        return 0

    @property
    def align_px(self) -> int:
        """Edges of its input are multiples of this, beside the scale, counted from the corner of the map."""
        return 1

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on."""
        raise NotImplementedError


def keep_within(mean: Tensor, bounds: Bounds, sd: float) -> Tensor:
    """Return the mean, bent smoothly to a bound where it would pass it.

    Args:
        mean: In target units.
        bounds: Lowest and highest possible value.
        sd: Standard deviation of the source in training, in the same units.
    """
    low, high = bounds
    mean = mean if low is None else _keep_above(mean, low, sd)
    return mean if high is None else -_keep_above(-mean, -high, sd)


def _keep_above(mean: Tensor, low: float, sd: float) -> Tensor:
    bent = F.softplus(mean - low if low else mean, beta=1 / (_SOFTEST * sd))
    return bent + low if low else bent


class TrainedModel(nn.Module):
    """A trained network and its contract: what is common to all adapters between named inputs and a network.

    A missing guide value becomes the mean of training (0 after normalisation), and so does all of a channel that told
    nothing in training (standard deviation 0); a value far outside of what was seen is cut off. A missing source
    value is filled from its neighbours; far from any, it becomes the mean of training too. Callers flag both.

    Args:
        network: The trained network.
        contract: Its inputs with their constants of normalisation, and its outputs.
        digest: Identity of the model in records.
    """

    guide_mean: Tensor
    guide_sd: Tensor

    def __init__(self, network: Network, contract: Contract, *, digest: str = "") -> None:
        super().__init__()
        self.network = network
        self.contract = contract
        self.digest = digest
        self.keep_constants("guide", contract.guide)

    @property
    def trims(self) -> bool:
        """True for a model that takes a margin, and gives what lies inside of it."""
        return self.network.trims

    def forward(self, inputs: Tensors) -> Tensors:
        """Sharpen a batch; see :class:`Model`."""
        raise NotImplementedError

    def keep_constants(self, role: str, bands: Sequence[BandNorm]) -> None:
        """Keep the constants of normalisation of a role as tensors ``<role>_mean`` and ``<role>_sd``."""
        for name, values in ((f"{role}_mean", [b.mean for b in bands]), (f"{role}_sd", [b.sd for b in bands])):
            column = torch.tensor(values, dtype=torch.float32)[:, None, None]
            self.register_buffer(name, column, persistent=False)

    def normalise_guide(self, guide: Tensor) -> Tensor:
        """Return the guide in training units, 0 where missing.

        Raises:
            ValueError: If the guide has another number of channels than the contract.
        """
        if guide.shape[1] != len(self.contract.guide):
            raise ValueError(f"guide has {guide.shape[1]} channels, the model expects {len(self.contract.guide)}")
        normal = (guide - self.guide_mean) * torch.where(self.guide_sd > 0, 1 / self.guide_sd, 0.0)
        return torch.nan_to_num(normal, nan=0.0).clamp(-_FARTHEST, _FARTHEST)


class GuidedModel(TrainedModel):
    """The adapter of networks that sharpen one band of one coarse image with a guide: (guide, source) to target."""

    def __init__(self, network: Network, contract: Contract, *, digest: str = "") -> None:
        super().__init__(network, contract, digest=digest)
        (self.source,) = contract.source.bands

    def forward(self, inputs: Tensors) -> Tensors:
        """Sharpen a batch; see :class:`Model`. Dates of the guide are channels of the network, by date.

        Raises:
            ValueError: If the guide has another number of channels than the contract.
        """
        outputs = self.sharpen(
            inputs["guide"].flatten(1, 2), inputs["source"].flatten(1, 2), _flatten(inputs.get("source.sd"))
        )
        return {output.name: outputs[:, at : at + 1] for at, output in enumerate(self.contract.outputs)}

    def sharpen(self, guide: Tensor, source: Tensor, source_sd: Tensor | None = None) -> Tensor:
        """Sharpen a batch with one image as its guide; returns (batch, 1 or 2, y, x), mean and standard deviation.

        Args:
            guide: (batch, channel, y, x) in the units of the contract, NaN where missing.
            source: (batch, 1, y / scale, x / scale), NaN where missing.
            source_sd: Like ``source``: its standard deviation, NaN where unknown; only some networks take it.

        Raises:
            ValueError: If the guide has another number of channels than the contract.
        """
        extras: dict[str, Any] = {}
        if self.network.sees_gaps:
            extras["known"] = torch.isfinite(guide)
        if self.network.sees_source_sd:
            extras["source_sd"] = self.normalise_source_sd(
                torch.full_like(source, torch.nan) if source_sd is None else source_sd
            )
        if self.network.sees_source_gaps:
            extras["source_known"] = torch.isfinite(fill_missing(source))
        kind = next((each.dtype for each in self.network.parameters()), torch.float32)
        normal = self.network(self.normalise_guide(guide).to(kind), self.normalise_source(source).to(kind), **extras)
        return self.denormalise(normal)

    def denormalise(self, normal: Tensor) -> Tensor:
        """Return the output of the network in target units."""
        if normal.dtype != torch.float64:
            normal = normal.float()  # eight bits would round a mean of 300 to whole units
        mean = normal[:, :1] * self.source.sd + self.source.mean
        mean = keep_within(mean, self.contract.bounds, self.source.sd)
        if normal.shape[1] == 1:
            return mean
        return torch.cat([mean, normal[:, 1:] * (self.source.sd * self.contract.sd_scale)], 1)

    def normalise_source(self, source: Tensor) -> Tensor:
        """Return the source in training units, filled where missing."""
        normal = (fill_missing(source) - self.source.mean) / self.source.sd
        return torch.nan_to_num(normal, nan=0.0)

    def normalise_source_sd(self, source_sd: Tensor) -> Tensor:
        """Return the standard deviation of the source in training units, filled where missing, else 0."""
        return torch.nan_to_num(fill_missing(source_sd) / self.source.sd, nan=0.0)


def _flatten(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.flatten(1, 2)
