"""Explanation of a pixel's detail: which dates, bands and neighbours it is from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mapper.arrays import FloatArray
from mapper.errors import InputError
from mapper.predict.attribution import DetailKind, Replacement
from mapper.store.why import to_plain

_LEAST_PX = 3


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """Choices of an explanation."""

    window_px: int = 15
    """Edge of the window whose detail is explained, in target pixels, odd: the pixel is in its middle."""
    detail: DetailKind = "gradient"
    """``gradient``, the mean difference of neighbouring pixels, or ``contrast``, that of the pixel to its window."""
    bands: tuple[str, ...] = ()
    """Bands of the target; empty takes all that have the units of the first."""
    reach: int = 24
    """Source pixels around the window that the model sees, or fewer where it looks less far."""
    sigma: float = 2.0
    """Blur in source pixels that the path begins with."""
    steps: int = 16
    """Steps of the path."""
    shuffles: int = 2
    seed: int = 0
    """Seed of the shuffles."""
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.window_px < _LEAST_PX or not self.window_px % 2:
            raise InputError(f"the window is an odd number of target pixels, at least 3, got {self.window_px}")
        if self.sigma <= 0 or min(self.steps, self.shuffles, self.reach) < 1:
            raise InputError(
                f"blur, steps, shuffles and reach must be positive, got {self.sigma}, {self.steps}, {self.shuffles} "
                f"and {self.reach}"
            )


@dataclass(frozen=True, kw_only=True)
class PartShare:
    """What one part of the inputs has to do with the detail."""

    kind: str
    name: str
    net: float
    """Sum of its contributions, in units of the target; those of parts that do not overlap add up."""
    share: float
    """Its absolute contributions, as a part of those of all inputs."""
    state: str
    """``followed``; ``unused`` where nothing changes without it; ``not followed`` where the output hangs on it and no
    gradient says how: then only the replacement counts."""
    replaced: Replacement


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The detail around one pixel, and what made it."""

    map: str
    model: str
    x: float
    y: float
    crs: str
    row: int
    col: int
    bands: tuple[str, ...]
    """Bands of the target whose detail is meant."""
    units: str
    values: dict[str, float]
    """What the model gives at the pixel, by band, before it is held against the source; seen twice as far."""
    anchor: str
    """Moment of a stack that the pixel shows; empty for a map."""
    options: ExplainOptions
    detail: dict[str, float]
    """``sharp``, ``blurred``, the ``attributed`` difference, and the ``gap`` that is left of it, in units."""
    diffusion_index: float
    """0 for one source pixel alone, 100 for all alike."""
    radius: dict[str, float]
    """Radius around the pixel in which ``half`` and ``nine_tenths`` of the absolute contributions lie."""
    length_unit: str
    """Unit of the radius and of the pixel: metres, or degrees on a grid of them."""
    px: float
    """Edge of a target pixel."""
    reach: dict[str, float]
    """Source pixels around the window that the model saw (``seen``), and that it looks at in a map (``whole``); and how
    much its output changes where it sees twice as far (``difference``, root mean square in units)."""
    held: tuple[str, ...]
    """Inputs that were left as they are."""
    parts: tuple[PartShare, ...]
    remarks: tuple[str, ...]
    maps: Mapping[str, FloatArray] = field(default_factory=dict)
    """Contributions (y, x) of each part that does not overlap, by name, on the pixels of its input."""
    output: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    """(y, x) of the first band, and what comes out of blurred inputs, around the pixel."""
    smooth: FloatArray = field(default_factory=lambda: np.zeros((0, 0)))
    scale: int = 1
    """Source pixel / target pixel."""
    at: tuple[int, int] = (0, 0)
    """Row and column of the pixel in ``output``."""

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON-ready values, without arrays."""
        left_out = ("maps", "output", "smooth", "at")
        return {name: to_plain(value) for name, value in vars(self).items() if name not in left_out}

    def to_text(self) -> str:
        """Return the answer for a terminal."""
        kinds = {"gradient": "mean difference of neighbouring pixels", "contrast": "pixel less the mean around it"}
        edge, about = self.options.window_px, self.detail
        half, most = (f"{self.radius[name]:.4g} {self.length_unit}" for name in ("half", "nine_tenths"))
        rows = {
            "detail": f"{about['sharp']:.4g} ({self.units}), {kinds[self.options.detail]}, in {edge} x {edge} px",
            "blurred": f"{about['blurred']:.4g} from inputs under a blur of {self.options.sigma:g} source pixels",
            "explained": f"{about['attributed']:.4g} of {about['sharp'] - about['blurred']:.4g} by gradients",
            "looked at": f"half of it within {half}, 90 % within {most}; diffusion index {self.diffusion_index:.1f}",
            "anchor": self.anchor,
        }
        asked = f"pixel row {self.row}, col {self.col}; asked ({self.x}, {self.y}) in {self.crs}"
        lines = [
            f"{self.map}: {', '.join(self.bands)} by {self.model}, {asked}",
            *(f"  {name:<10}{text}" for name, text in rows.items() if text),
            *(f"  {'remark':<10}{remark}" for remark in self.remarks),
            f"  {'part':<28}{'share':>8}{'net':>12}{'blurred':>12}{'shuffled':>12}",
        ]
        return "\n".join([*lines, *(f"  {_describe(part)}" for part in self.parts)])


def _describe(part: PartShare) -> str:
    """Return one line of the table."""
    name = part.name if part.kind in ("anchor", "source", "date", "guide") else f"  {part.name} ({part.kind})"
    told = f"{part.share:>8.1%}{part.net:>12.4g}" if part.state == "followed" else f"{part.state:>20}"
    replaced = part.replaced
    return f"{name:<28}{told}{replaced.blurred.output:>12.4g}{replaced.shuffled.output:>12.4g}"
