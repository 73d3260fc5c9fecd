"""Inputs of one window as a model takes them, and what reading knows of its pixels: a source, or a stack of dates."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from mapper.arrays import BoolArray, Float32Array, UInt16Array
from mapper.catalog.coverage import FEW_OBSERVATIONS
from mapper.catalog.uses import ItemUse
from mapper.cube.composite import Guide
from mapper.cube.shifts import estimate_shifts
from mapper.cube.source import Source
from mapper.cube.stack import NOT_NEEDED, Shown, Stack
from mapper.grid import coarsen
from mapper.plan.context import Context
from mapper.predict.appraisal import find_shadow
from mapper.predict.change import find_misfits
from mapper.predict.operators import expand
from mapper.predict.postprocess import Reference
from mapper.predict.quality import CLEAR_DATES
from mapper.spec import MapSpec
from mapper.store.record import DateShift

_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, kw_only=True)
class WindowInputs:
    """Inputs of one window, and what is known of them."""

    inputs: dict[str, npt.NDArray[Any]]
    reference: Reference
    n_valid: UInt16Array
    """(y, x) of target pixels."""
    flags: dict[str, BoolArray | bool]
    uses: tuple[ItemUse, ...]
    dates: tuple[date, ...] = ()
    """Days of a stack, in UTC, that pixels of the tile are made from."""
    all_dates: tuple[date, ...] = ()
    """Days of a stack in the order of its source, those too that the tile does not use."""
    anchor: str = ""
    """Moment of a stack that the tile shows."""
    shown: Shown | None = None
    """Items that a stack shows; None for a map."""
    shifts: tuple[DateShift, ...] = ()
    """Shifts of those days, where the model registers them."""
    ancillary: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    """(y, x) of target pixels by name of an ancillary band, those that reading knows of."""

    def cut(self, part: tuple[slice, slice], scale: int) -> "WindowInputs":
        """Return these inputs for a part of the window: rows and columns in target pixels, of whole source pixels."""
        coarse = coarsen(part, scale)

        def cut_input(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return array if name.endswith(".days") else array[..., *(part if name == "guide" else coarse)]

        return replace(
            self,
            inputs={name: cut_input(name, array) for name, array in self.inputs.items()},
            reference=Reference(image=self.reference.image[:, *coarse], sd=self.reference.sd[:, *coarse]),
            n_valid=self.n_valid[part],
            flags={name: where if isinstance(where, bool) else where[part] for name, where in self.flags.items()},
            ancillary={name: array[part] for name, array in self.ancillary.items()},
        )

    def join(self, guide: Guide | None) -> "WindowInputs":
        """Return this source with a guide, whose observations are counted unless the source counts dates."""
        if guide is None:
            return self
        few: dict[str, BoolArray | bool] = {"guide_gap": guide.gaps}
        if guide.counts:
            few["few_observations"] = guide.n_valid < FEW_OBSERVATIONS
        return replace(
            self,
            inputs=self.inputs | {"guide": guide.values[None]},
            n_valid=self.n_valid if "few_dates" in self.flags else guide.n_valid,
            flags=self.flags | few | {"item_dropped": self.flags["item_dropped"] or _is_dropped(guide.uses)},
            uses=(*guide.uses, *self.uses),
        )


def describe_source(source: Source, context: Context, shape: tuple[int, int]) -> WindowInputs:
    """Return a source as the model takes it, its bands in the order of the model; ``shape`` in target pixels."""
    bands = list(context.require_model().source_bands)
    return WindowInputs(
        inputs={"source": source.image[None, bands], "source.sd": source.image_sd[None, bands]},
        reference=Reference(image=source.image, sd=source.image_sd),
        n_valid=np.zeros(shape, np.uint16),
        flags={"item_dropped": _is_dropped(source.uses)},
        uses=source.uses,
    )


def describe_stack(
    stack: Stack, context: Context, *, corner: tuple[int, int], tile: tuple[slice, slice]
) -> WindowInputs:
    """Return a stack as the model takes it, its bands in the order of the model.

    Args:
        stack: Dates of the window.
        context: What all tasks share.
        corner: Row and column of the window's upper-left source pixel, counted from the corner of the map.
        tile: Rows and columns of the window, in source pixels, that the tile touches.
    """
    bands, scale = list(context.require_model().source_bands), context.grid.scale
    n_valid = expand(stack.n_valid, scale)
    registered = _register(stack, bands, context, corner)
    return WindowInputs(
        inputs={
            "source": stack.values[:, bands],
            "source.clear": stack.clear,
            "source.days": stack.days,
            "source.anchor": stack.image[None, bands],
            **registered.inputs,
        },
        shifts=registered.shifts,
        reference=Reference(image=stack.image, sd=np.full_like(stack.image, np.nan)),
        n_valid=n_valid,
        flags={
            "item_dropped": _is_dropped(stack.uses),
            "few_dates": n_valid < context.spec.source.dates,
            **{name: expand(where, scale) for name, where in registered.flags.items()},
            **{name: expand(where, scale) for name, where in _find_further_flags(stack, context.spec).items()},
        },
        uses=stack.uses,
        all_dates=stack.dates,
        shown=stack.items,
        ancillary={
            "n_dates": expand(registered.n_dates, scale),
            "anchor_days": expand(_count_days(stack), scale),
        },
        **_describe_dates(stack, tile, context.spec.source.anchor),
    )


def _find_further_flags(stack: Stack, spec: MapSpec) -> dict[str, BoolArray]:
    """Return what several dates say of the anchor, (y, x) of source pixels by flag, for a map that asks for it."""
    if "bqa" not in spec.target.quality or spec.source.dates == 1:
        return {}
    own = stack.shown == np.arange(len(stack.dates))[:, None, None]
    return {
        "few_clear": stack.n_valid < CLEAR_DATES,
        "cloud_shadow": find_shadow(stack.values, stack.clear, stack.image, own),
    }


@dataclass(frozen=True, kw_only=True)
class _Registered:
    """Dates against the anchor, as far as the model asks for it."""

    n_dates: UInt16Array
    """(y, x) of source pixels: dates that lie on the anchor and show what it shows."""
    inputs: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    """Further inputs of the model."""
    flags: Mapping[str, BoolArray] = field(default_factory=dict)
    """(y, x) of source pixels."""
    shifts: tuple[DateShift, ...] = ()


def _register(stack: Stack, bands: list[int], context: Context, corner: tuple[int, int]) -> _Registered:
    """Return shifts of dates as a model takes them and as a record keeps them, and the pixels that dates fail at."""
    cell = context.require_model().contract.source.cells_px
    if not cell or not stack.dates:
        return _Registered(n_dates=stack.n_valid)
    row, col = corner
    values, image = stack.values[:, bands], stack.image[bands]
    found = estimate_shifts(values, stack.clear, image, row=row, col=col, cell=cell)
    own = stack.shown == np.arange(len(stack.dates))[:, None, None]
    astray, changed = find_misfits(values, stack.clear, image, found, own=own, row=row, col=col)
    kept = (
        DateShift(date=day, down=float(mean[0]), right=float(mean[1]), trust=float(trust))
        for day, mean, trust in zip(stack.dates, np.nan_to_num(found.mean), found.mean_trust, strict=True)
    )
    return _Registered(
        n_dates=(stack.n_valid - (astray | changed).sum(0)).astype(np.uint16),
        inputs={"source.shift": found.shift},
        flags={"misregistered": np.asarray(astray.any(0)), "changed": np.asarray(changed.any(0))},
        shifts=tuple(kept),
    )


def _count_days(stack: Stack) -> Float32Array:
    """Return the day that each source pixel shows since 1970-01-01, (y, x); NaN where it shows none."""
    days = np.array([*((day - _EPOCH).days for day in stack.dates), np.nan], np.float32)
    return days[stack.shown]


def _describe_dates(stack: Stack, tile: tuple[slice, slice], anchor: date | str) -> dict[str, Any]:
    """Return what a record says of the dates of a tile, and of the part of it that shows each."""
    used = tuple(day for day, clear in zip(stack.dates, stack.clear[:, *tile], strict=True) if clear.any())
    shown = stack.shown[tile]
    counts = np.bincount(shown[shown >= 0], minlength=len(stack.dates))
    parts = [
        f"{stack.dates[number]} {counts[number] / counts.sum():.0%}"
        for number in np.argsort(-counts, kind="stable").tolist()
        if counts[number]
    ]
    return {"dates": used, "anchor": f"{anchor}: {', '.join(parts)}" if parts else str(anchor)}


def _is_dropped(uses: Iterable[ItemUse]) -> bool:
    """Return whether an item is missing that would have been used."""
    return any(use.dropped and use.dropped != NOT_NEEDED for use in uses)
