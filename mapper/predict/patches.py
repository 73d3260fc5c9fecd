"""Windows cut into patches that a network can take, so that cutting leaves no trace.

All patches of a window have one shape and lie on source pixel edges. Each gives only its core, every pixel of which
has the whole receptive field inside the patch, or is as near to the window's edge as it is without cutting.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mapper.grid import Window


@dataclass(frozen=True, kw_only=True)
class Patch:
    """One network input; windows count from the upper-left corner of what is cut."""

    read: Window
    """Window that the network sees."""
    core: Window
    """Part of its output that is used."""


def cut(shape: tuple[int, int], *, patch_px: int, halo_px: int, scale: int) -> list[Patch]:
    """Cut a window into patches of one shape whose cores cover it exactly once.

    Args:
        shape: Rows and columns in target pixels, multiples of ``scale``.
        patch_px: Longest edge of a patch; raised where a halo on both sides leaves a core that is thinner than it.
        halo_px: Receptive field in target pixels, a multiple of ``scale``.
        scale: Source pixel / target pixel.

    Raises:
        ValueError: If the shape or the halo is not a whole number of source pixels.
    """
    if any(edge % scale for edge in (*shape, halo_px)):
        raise ValueError(f"shape {shape} and halo {halo_px} must be multiples of the scale {scale}")
    rows, cols = (_cut_axis(length, patch_px=patch_px, halo_px=halo_px, scale=scale) for length in shape)
    return [
        Patch(
            read=Window(top=r.start, left=c.start, bottom=r.stop, right=c.stop),
            core=Window(top=r.core_start, left=c.core_start, bottom=r.core_stop, right=c.core_stop),
        )
        for r in rows
        for c in cols
    ]


def keep_core(patches: Sequence[Patch], core: Window) -> list[Patch]:
    """Return the patches that give something of a part of what was cut, and of their cores what lies in it."""
    kept = (replace(patch, core=patch.core & core) for patch in patches)
    return [patch for patch in kept if min(patch.core.shape) > 0]


def find_margin(patches: Sequence[Patch], scale: int) -> tuple[int, int, int, int]:
    """Return source pixels at top, bottom, left and right that lie in the core of none of the patches."""
    sides = (
        (
            patch.core.top - patch.read.top,
            patch.read.bottom - patch.core.bottom,
            patch.core.left - patch.read.left,
            patch.read.right - patch.core.right,
        )
        for patch in patches
    )
    top, bottom, left, right = (min(side) // scale for side in zip(*sides, strict=True))
    return top, bottom, left, right


def find_edge(length: int, *, patch_px: int, halo_px: int, scale: int) -> int:
    """Return the edge of the patches that a window of a length is cut into; see :func:`cut`."""
    first = _cut_axis(length, patch_px=patch_px, halo_px=halo_px, scale=scale)[0]
    return first.stop - first.start


@dataclass(frozen=True, kw_only=True)
class _Piece:
    start: int
    stop: int
    core_start: int
    core_stop: int


def _cut_axis(length: int, *, patch_px: int, halo_px: int, scale: int) -> list[_Piece]:
    if length <= max(patch_px, 2 * halo_px + scale):
        return [_Piece(start=0, stop=length, core_start=0, core_stop=length)]
    # the window's own margin needs no halo: patches share what lies between, in equal parts
    most = max(patch_px // scale * scale - 2 * halo_px, halo_px, scale)  # a thin core would cost a halo each time
    inner = length - 2 * halo_px
    number = -(-inner // most)
    core = -(-inner // (number * scale)) * scale
    size = core + 2 * halo_px
    starts = [min(k * core, length - size) for k in range(number)]
    edges = [0, *(halo_px + k * core for k in range(1, number)), length]
    return [
        _Piece(start=start, stop=start + size, core_start=edges[k], core_stop=edges[k + 1])
        for k, start in enumerate(starts)
    ]
