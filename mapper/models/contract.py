"""What a model demands and returns; checked against the map before the first task. Imports no torch.

Arrays of a model: guide (channel, y, x) float32 in the units named by the contract, NaN where missing; source
(y / scale, x / scale) float32; target (y, x) float32. Normalisation constants were fixed at training: statistics of one
image or tile would leave seams.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mapper.errors import ContractError

FILL_STEPS = 2
"""Source pixels over which a missing source value is filled from its neighbours; enters every halo."""


@dataclass(frozen=True, kw_only=True)
class GuideBand:
    """One guide channel a model expects, and how it was normalised in training."""

    name: str
    """Channel name as in the map description, for example ``summer_B04``."""
    units: str
    mean: float = 0.0
    sd: float = 1.0
    """0 for a channel that told nothing in training: it is ignored."""


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a model demands and returns."""

    model: str
    """Architecture, for example ``msg``."""
    guide: tuple[GuideBand, ...]
    """Channels in order; empty where the model looks at the source alone."""
    source_units: str
    source_mean: float = 0.0
    source_sd: float = 1.0
    target: str
    target_units: str
    scale: int | None
    """The only scale the model works at; None for any."""
    halo_px: int
    """Radius of the receptive field in target pixels, at the only scale; see :meth:`halo`."""
    halo_source_px: int = 0
    """Further radius in source pixels, for models of any scale."""
    align_px: int = 1
    """Windows lie on multiples of this as well as on source pixel edges: for networks that pool or unshuffle."""
    sees_source_sd: bool = False
    """Whether the source's standard deviation is an input; then it is part of what ``gives_sd`` gives."""
    gives_sd: bool = False
    sd_scale: float = 1.0
    """What the standard deviation is multiplied by, as calibrated on places not trained on."""
    non_negative: bool = False
    """Whether the mean is kept from falling below 0 in target units."""

    @property
    def digest(self) -> str:
        """Sha256 of the contract."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def halo(self, scale: int) -> int:
        """Radius of the receptive field in target pixels, as whole source pixels."""
        return (-(-self.halo_px // scale) + self.halo_source_px) * scale

    def step(self, scale: int) -> int:
        """What the edges of every window and patch are multiples of, in target pixels."""
        return math.lcm(scale, self.align_px)

    def check(
        self,
        *,
        channels: Sequence[tuple[str, str]],
        source_units: str,
        target_units: str,
        scale: int,
        source_has_sd: bool = True,
    ) -> tuple[int, ...]:
        """Check that a map offers what the model demands.

        Args:
            channels: Name and units of each guide channel of the map, in order.
            source_units: CF units of the source.
            target_units: CF units of the target to be written.
            scale: Source pixel / target pixel.
            source_has_sd: Whether the map reads a standard deviation of the source.

        Returns:
            For each channel of the model, its index among the map's channels.

        Raises:
            ContractError: Naming every difference.
        """
        offered = dict(channels)
        faults = [f"guide channel {b.name} is missing" for b in self.guide if b.name not in offered]
        faults += [
            f"guide channel {b.name} is in {offered[b.name]!r}, expected {b.units!r}"
            for b in self.guide
            if b.name in offered and offered[b.name] != b.units
        ]
        if self.scale not in (None, scale):
            faults.append(f"scale is {scale}, expected {self.scale}")
        if self.source_units not in ("any", source_units):
            faults.append(f"source is in {source_units!r}, expected {self.source_units!r}")
        if self.target_units not in ("any", target_units):
            faults.append(f"target is asked for in {target_units!r}, the model gives {self.target_units!r}")
        if self.sees_source_sd and not source_has_sd:
            faults.append("the standard deviation of the source is missing (source.sd)")
        if faults:
            raise ContractError(
                f"model {self.model} does not fit the map: {'; '.join(faults)} "
                f"(the map offers {', '.join(offered) or 'no guide channels'})"
            )
        names = [name for name, _ in channels]
        return tuple(names.index(band.name) for band in self.guide)
