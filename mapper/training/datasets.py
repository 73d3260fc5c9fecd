"""Maps with a truth, read as samples to learn from.

A sample is read through the same catalogue, calibration and composite as a map, so that a network sees in training
what it will see at work.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mapper.catalog.items import Items
from mapper.catalog.provider import Provider
from mapper.cube.access import keep_unsigned
from mapper.cube.composite import read_guide
from mapper.cube.read import read_block
from mapper.cube.source import read_source
from mapper.errors import SearchError
from mapper.grid import MapGrid, Window
from mapper.spec import MapSpec
from mapper.training.sampler import Sample

_BLOCK_PX = 512
"""Edge of the blocks that are read at a time, before it is widened to whole source pixels."""


def samples_from_map(
    spec: MapSpec,
    items: Items,
    provider: Provider,
    truth_collection: str,
    truth_variable: str,
    *,
    sign: Callable[[str], str] = keep_unsigned,
) -> Sample:
    """Read guide, source and truth of a whole map, as far as the truth is known.

    Args:
        spec: Whose area, grid, guide and source are read.
        items: Items of the guide, the source and the truth.
        provider: How they are read.
        truth_collection: The fine map to learn.
        truth_variable: Its band.
        sign: Makes an href readable.

    Raises:
        SearchError: If no truth is known in the area of the map.
    """
    grid, scale = spec.map_grid, spec.scale
    rule = provider.rule(truth_collection)
    labels = items.of(truth_collection)
    truth = np.full(_whole(grid).shape, np.nan, np.float32)
    for window in _blocks(_whole(grid), scale):
        inside = grid.inside_area(window)
        if inside.any():
            geobox = grid.geobox_of(window)
            block = read_block(labels.touching(geobox), geobox, bands=(truth_variable,), rule=rule, sign=sign)
            known = _first_valid(block[truth_variable].to_numpy(), window.shape)
            truth[window.slices] = np.where(inside, known, np.float32(np.nan))
    frame = _frame(truth, scale)
    guide = np.empty((len(spec.guide.channels), *frame.shape), np.float32)
    source = np.empty((frame.shape[0] // scale, frame.shape[1] // scale), np.float32)
    for window in _blocks(frame, scale):
        geobox, coarse = grid.geobox_of(window), grid.source_geobox_of(window)
        fine = window.inside(frame)
        guide[:, *fine] = read_guide(items, geobox, spec=spec, provider=provider, sign=sign).values
        source[_coarse(fine, scale)] = read_source(items, coarse, spec=spec, provider=provider, sign=sign).mean
    return Sample(
        guide=guide,
        source=source,
        truth=truth[frame.slices],
        bands=tuple((c.name, provider.rule(c.collection).units) for c in spec.guide.channels),
        source_units=provider.rule(spec.source.collection).units,
        digest=items.digest,
    )


def _whole(grid: MapGrid) -> Window:
    return Window(top=0, left=0, bottom=grid.shape[0], right=grid.shape[1]).grown(0, grid.scale)


def _blocks(whole: Window, scale: int) -> list[Window]:
    step = -(-_BLOCK_PX // scale) * scale
    return [
        Window(top=top, left=left, bottom=min(top + step, whole.bottom), right=min(left + step, whole.right))
        for top in range(whole.top, whole.bottom, step)
        for left in range(whole.left, whole.right, step)
    ]


def _frame(truth: npt.NDArray[np.float32], scale: int) -> Window:
    """The smallest window of whole source pixels that holds all known truth."""
    rows, cols = (np.flatnonzero(np.isfinite(truth).any(axis)) for axis in (1, 0))
    if not rows.size:
        raise SearchError("no truth is known in the area of the map")
    known = Window(top=int(rows[0]), left=int(cols[0]), bottom=int(rows[-1]) + 1, right=int(cols[-1]) + 1)
    return known.grown(0, scale)


def _coarse(fine: tuple[slice, slice], scale: int) -> tuple[slice, slice]:
    rows, cols = fine
    return slice(rows.start // scale, rows.stop // scale), slice(cols.start // scale, cols.stop // scale)


def _first_valid(stack: npt.NDArray[np.float32], shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """(time, y, x) to (y, x)."""
    result = np.full(shape, np.nan, np.float32)
    for layer in stack:
        result = np.where(np.isnan(result), layer, result)
    return result
