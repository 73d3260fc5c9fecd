"""Attribution of detail: which inputs, and which pixels of them, the detail of a model's output around a pixel is from.

Integrated gradients along a path of blurring: the inputs come back from a blur step by step, and what each step adds to
the detail is shared among their pixels by the gradient (local attribution maps; Gu and Dong, "Interpreting
super-resolution networks with local attribution maps", CVPR 2021). Gradients are taken in the middle of a step, so that
contributions add up to the gain of detail as far as it is quadratic between steps. What gradients do not reach, a
replacement tells: the output with a part of the inputs blurred, or shuffled in space.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mapper.arrays import Float32Array, Float64Array
from mapper.models.model import Tensors
from mapper.predict.predictor import Trace
from mapper.predict.removal import GUIDE, Part, Removal

DetailKind = Literal["gradient", "contrast"]
Images = Mapping[str, Float32Array]


@dataclass(frozen=True, kw_only=True)
class Detail:
    """Detail of some outputs in a window, as one number in their units.

    ``gradient`` is the mean absolute difference of neighbouring pixels, ``contrast`` that of the middle pixel to the
    mean of the window, with its sign; both are means over the outputs.
    """

    outputs: tuple[str, ...]
    rows: slice
    """Of the output, in target pixels; an odd number, as of columns."""
    cols: slice
    kind: DetailKind = "gradient"

    def cut(self, outputs: Tensors) -> Tensor:
        """Return the window of the outputs, (output, y, x) in double precision."""
        return torch.cat([outputs[name][0, :, self.rows, self.cols] for name in self.outputs]).double()

    def measure(self, outputs: Tensors) -> Tensor:
        """Return the detail of outputs (1, 1, y, x), a scalar."""
        values = self.cut(outputs)
        if self.kind == "contrast":
            return (values[:, values.shape[1] // 2, values.shape[2] // 2] - values.mean((1, 2))).mean()
        down, right = values[:, 1:, :-1] - values[:, :-1, :-1], values[:, :-1, 1:] - values[:, :-1, :-1]
        return (down.abs() + right.abs()).mean() / 2


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Contributions of inputs to the gain of detail from blurred inputs to the inputs as they are."""

    maps: Mapping[str, Float64Array]
    """By input (date, band, y, x), in units of the detail."""
    sharp: float
    """Detail with the inputs as they are."""
    blurred: float
    """Detail with all of them blurred."""
    unreached: frozenset[str]
    """Inputs that no gradient flows to."""
    lost: int
    """Gradients that were not finite, and count as 0."""

    @property
    def total(self) -> float:
        """Sum of all contributions."""
        return sum(float(each.sum()) for each in self.maps.values())

    @property
    def gap(self) -> float:
        """Gain of detail that contributions do not add up to."""
        return self.sharp - self.blurred - self.total

    def of(self, part: Part) -> dict[str, Float64Array]:
        """Return the contributions of a part of the inputs, by input, 0 elsewhere."""
        return {name: np.where(where, self.maps[name], 0.0) for name, where in part.where.items() if name in self.maps}


@dataclass(frozen=True, kw_only=True)
class Change:
    """Change of the output when a part of the inputs is replaced."""

    output: float
    """Root mean square over the window and the outputs, in their units."""
    detail: float
    """Detail that is lost; below 0 where there is more."""


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """Changes of the output without the detail of a part of the inputs."""

    blurred: Change
    shuffled: Change
    """Mean over several shuffles."""

    @property
    def changes_nothing(self) -> bool:
        """True where the output is the same to the bit, and so does not hang on the part."""
        return self.blurred.output == self.shuffled.output == 0


def attribute(trace: Trace, removal: Removal, detail: Detail, *, sigma: float, steps: int) -> Attribution:
    """Share the detail of an output among the pixels of the inputs.

    Args:
        trace: The model on the window.
        removal: What blurs its inputs.
        detail: What is explained.
        sigma: Blur that the path begins with, in source pixels.
        steps: Of the path, in equal steps of the blur.

    Raises:
        ValueError: If there is no path, or the output is missing in the window.
    """
    if steps < 1 or sigma <= 0:
        raise ValueError(f"a path needs a blur and a step, got {sigma} source pixels and {steps} steps")
    tally = _Tally()
    path = (removal.blur(sigma * (1 - step / steps)) for step in range(steps + 1))
    for before, after in pairwise(path):
        tally.add(_differentiate(trace, detail, before, after), before, after)
    sharp, blurred = (_measure(trace, detail, images) for images in (removal.images, removal.blur(sigma)))
    if not math.isfinite(sharp - blurred):
        raise ValueError("the output is missing in the window whose detail is asked for")
    return Attribution(
        maps=tally.maps,
        sharp=sharp,
        blurred=blurred,
        unreached=frozenset(removal.images.keys() - tally.reached),
        lost=tally.lost,
    )


def replace_parts(
    trace: Trace, removal: Removal, parts: Sequence[Part], detail: Detail, *, sigma: float, shuffles: Sequence[int]
) -> list[Replacement]:
    """Return for each part what changes in the output when it alone is blurred, or shuffled in space.

    Args:
        trace: The model on the window.
        removal: What blurs and shuffles its inputs.
        parts: What is replaced.
        detail: Window and outputs that are compared.
        sigma: Blur in source pixels.
        shuffles: Seeds, one for each shuffle.
    """
    blurred, shuffled = removal.blur(sigma), [removal.shuffle((seed,)) for seed in shuffles]
    with torch.no_grad():
        before = trace(trace.send(removal.images))

        def change(part: Part, images: Images) -> Change:
            after = trace(trace.send(removal.replace(part, images)))
            difference = (detail.cut(before) - detail.cut(after)).square().mean().sqrt()
            return Change(output=float(difference), detail=float(detail.measure(before) - detail.measure(after)))

        return [
            Replacement(blurred=change(part, blurred), shuffled=_average([change(part, images) for images in shuffled]))
            for part in parts
        ]


def sum_on_source(maps: Mapping[str, Float64Array], scale: int) -> Float64Array:
    """Return the absolute contributions of all inputs together on source pixels, (y, x)."""
    total: Float64Array = np.zeros(())
    for name, values in maps.items():
        plane = np.abs(values).sum(axis=(0, 1))
        if name == GUIDE:
            plane = plane.reshape(plane.shape[0] // scale, scale, -1, scale).sum(axis=(1, 3))
        total = total + plane
    return total


def measure_diffusion(values: Float64Array) -> float:
    """Return the diffusion index of contributions, 0 for one pixel alone to 100 for all alike: (1 - Gini) x 100."""
    ordered = np.sort(np.abs(values), axis=None)
    total = float(ordered.sum())
    if not total:
        return 0.0
    ranks = 2 * np.arange(1, ordered.size + 1) - ordered.size - 1
    return 100 * (1 - float((ranks * ordered).sum()) / (ordered.size * total))


def find_radius(values: Float64Array, centre: tuple[float, float], share: float) -> float:
    """Return the radius in pixels of (y, x) around a place in which a share of absolute contributions lies.

    Args:
        values: Contributions.
        centre: Row and column, of which whole numbers are the middles of pixels.
        share: From 0 to 1.
    """
    weights = np.abs(values)
    rows, cols = np.indices(values.shape)
    distance = np.hypot(rows - centre[0], cols - centre[1]).ravel()
    order = np.argsort(distance, kind="stable")
    gathered = np.cumsum(weights.ravel()[order])
    if not gathered[-1]:
        return 0.0
    return float(distance[order][np.searchsorted(gathered, share * gathered[-1])])


@dataclass(kw_only=True)
class _Tally:
    """Sums over the steps of a path."""

    maps: dict[str, Float64Array] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)
    lost: int = 0

    def add(self, gradients: Mapping[str, Float64Array | None], before: Images, after: Images) -> None:
        for name, gradient in gradients.items():
            total = self.maps.setdefault(name, np.zeros(before[name].shape))
            if gradient is None:
                continue
            self.reached.add(name)
            step = np.nan_to_num(after[name].astype(np.float64) - before[name], nan=0.0)
            sound = np.isfinite(gradient)
            self.lost += int((~sound & (step != 0)).sum())
            total += np.where(sound, gradient, 0.0) * step


def _differentiate(trace: Trace, detail: Detail, before: Images, after: Images) -> dict[str, Float64Array | None]:
    """Return the gradients of the detail in the middle of a step, by input; None where none flows."""
    middle = {name: (before[name] + after[name]) / np.float32(2) for name in before}
    leaves = {name: tensor.requires_grad_() for name, tensor in trace.send(middle).items()}
    found = detail.measure(trace(leaves))
    if not found.requires_grad:
        return dict.fromkeys(leaves)
    gradients = torch.autograd.grad(found, list(leaves.values()), allow_unused=True)
    return {
        name: None if each is None else each[0].double().cpu().numpy()
        for name, each in zip(leaves, gradients, strict=True)
    }


def _measure(trace: Trace, detail: Detail, images: Images) -> float:
    with torch.no_grad():
        return float(detail.measure(trace(trace.send(images))))


def _average(changes: Sequence[Change]) -> Change:
    output, detail = (sum(each) / len(changes) for each in zip(*(astuple(c) for c in changes), strict=True))
    return Change(output=output, detail=detail)
