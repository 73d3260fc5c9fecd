"""Maps, with or without a truth, read as samples.

A sample is read through the same catalogue, calibration and composite as a map, so that a network sees in training
what it will see at work.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mapper.arrays import Float32Array
from mapper.catalog.heights import check_heights, check_truth, find_datum
from mapper.catalog.items import Items, freeze_items
from mapper.catalog.provider import Provider, provider_of
from mapper.catalog.search import search, search_collection
from mapper.cube.composite import read_guide
from mapper.cube.datum_shift import add_shift, check_shifts
from mapper.cube.source import read_source
from mapper.cube.stack import read_stack
from mapper.errors import InputError, SearchError
from mapper.grid import MapGrid, Window, coarsen
from mapper.predict.operators import block_mean
from mapper.spec import MapSpec, read_spec
from mapper.spec.inputs import DatumShift, hash_grid
from mapper.training.config import TruthConfig
from mapper.training.sample import Sample
from mapper.training.transfer import Transfer
from mapper.training.truth import ReadTruth, open_truth, read_from_items, read_from_store

_BLOCK_PX = 512
"""Edge of the blocks that are read at a time, before it is widened to whole source pixels."""
_LEAST_COVER = 0.5
"""Share of a source pixel that lies in the area, below which a map without a truth leaves it out."""


def read_map(path: Path, truth: TruthConfig) -> Sample:
    """Read a map with its truth, as far as the truth is known.

    Raises:
        SpecError: If the map description is wrong.
        SearchError: If nothing is found, or no truth is known in the area of the map.
        InputError: If the truth is not in the units of the source, or there is no such store or array.
        GridError: If a truth store does not share the grid of the map.
    """
    return read_site(read_spec(path), truth, name=name_of(path))


def read_site(spec: MapSpec, truth: TruthConfig, *, name: str) -> Sample:
    """Read a map that is described already; see :func:`read_map`."""
    if len(spec.targets) > 1:
        raise InputError(f"map {spec.name} has {len(spec.targets)} target bands, a truth is of one: by Wald's protocol")
    provider, variable = provider_of(spec), truth.variable or spec.targets[0].name
    shift = truth.datum_shift
    check_shifts(spec, reach_px=0, truth=shift)
    if truth.collection is not None:
        items = freeze_items([*search(spec), *search_collection(spec, truth.collection)])
        sample = samples_from_map(spec, items, provider, truth.collection, variable, name=name, shift=shift)
    else:
        location = str(truth.store)
        array = open_truth(location, variable)
        datum, called = str(array.attrs.get("vertical_datum", "")), f"truth store {location}"
        _check_units(str(array.attrs.get("units", "")), spec, provider, called)
        check_truth(spec, provider, truth=called, datum=datum, shift=shift)
        read = _shift_truth(read_from_store(spec.map_grid, array, location), shift, spec.map_grid)
        sample = _read_known(spec, search(spec), provider, read, name=name)
        content = sample.digest.encode() + sample.truth.tobytes()
        sample = replace(sample, digest=hashlib.sha256(content).hexdigest())
    return sample if truth.limit is None else sample.cut_truth(truth.limit)


def read_inputs(path: Path) -> Sample:
    """Read a map without a truth: the truth is NaN everywhere, the source NaN where less than half is in the area.

    Raises:
        SpecError: If the map description is wrong.
        SearchError: If nothing is found.
        InputError: If the area holds no source pixel, or the source is of several dates.
    """
    spec = read_spec(path)
    if spec.source.dates > 1:
        raise InputError(f"map {spec.name} has a source of {spec.source.dates} dates, of which Wald's protocol knows 1")
    check_shifts(spec, reach_px=0)
    grid, provider = spec.map_grid, provider_of(spec)
    inside = np.isfinite(_read_area(grid, lambda window: np.zeros(window.shape, np.float32)))
    covered = block_mean(inside.astype(np.float32), grid.scale) >= _LEAST_COVER
    frame = _frame(np.kron(covered, np.ones((grid.scale, grid.scale), bool)), grid.scale)
    if frame is None:
        raise InputError(f"the area of map {spec.name} holds no source pixel")
    sample = _read_inputs(spec, search(spec), provider, frame, name=name_of(path))
    coarse = covered[coarsen(frame.slices, grid.scale)]
    return replace(sample, source=np.where(coarse, sample.source, np.float32(np.nan)))


def samples_from_map(
    spec: MapSpec,
    items: Items,
    provider: Provider,
    truth_collection: str,
    truth_variable: str,
    *,
    name: str = "",
    shift: DatumShift | None = None,
) -> Sample:
    """Read guide, source and truth of a whole map, as far as the truth is known.

    Args:
        spec: Whose area, grid, guide and source are read.
        items: Items of the guide, the source and the truth.
        provider: How they are read.
        truth_collection: The fine map to learn.
        truth_variable: Its band.
        name: Name of the site; that of the map where none is given.
        shift: Metres that are added to a truth of heights.

    Raises:
        SearchError: If no truth is known in the area of the map.
        InputError: If the truth is not in the units of the source.
        SpecError: If its heights are in another vertical datum than those of the map.
    """
    rule, labels = provider.rule(truth_collection), items.of(truth_collection)
    called = f"truth collection {truth_collection}"
    _check_units(rule.units, spec, provider, called)
    check_truth(spec, provider, truth=called, datum=rule.vertical_datum or "", shift=shift)
    read = read_from_items(spec.map_grid, labels, truth_variable, rule=rule)
    sample = _read_known(spec, items, provider, _shift_truth(read, shift, spec.map_grid), name=name)
    return sample if shift is None else replace(sample, digest=_digest_shifted(sample.digest, shift))


def _shift_truth(read: ReadTruth, shift: DatumShift | None, grid: MapGrid) -> ReadTruth:
    """Return a reader of a truth that is shifted to the datum of the map."""
    return read if shift is None else lambda window: add_shift(read(window), shift, grid.geobox_of(window))


def _digest_shifted(digest: str, shift: DatumShift) -> str:
    metres = hash_grid(shift) if isinstance(shift, Path) else repr(float(shift))
    return hashlib.sha256(f"{digest} {metres}".encode()).hexdigest()


def name_of(path: Path) -> str:
    """Return the name of the site that a file describes: its folder and, unless it is ``map.yaml``, the file."""
    path = path.absolute()
    return path.parent.name if path.stem == "map" else f"{path.parent.name}/{path.stem}"


def _read_known(spec: MapSpec, items: Items, provider: Provider, read: ReadTruth, *, name: str) -> Sample:
    """Read guide, source and truth of the smallest frame that holds all known truth in the area."""
    truth = _read_area(spec.map_grid, read)
    frame = _frame(np.isfinite(truth), spec.scale)
    if frame is None:
        raise SearchError("no truth is known in the area of the map")
    sample = _read_inputs(spec, items, provider, frame, name=name)
    return replace(sample, truth=truth[frame.slices])


def _read_inputs(spec: MapSpec, items: Items, provider: Provider, frame: Window, *, name: str) -> Sample:
    """Read guide and source of a frame, block by block."""
    check_heights(spec, provider)
    grid, scale = spec.map_grid, spec.scale
    coarse_shape = len(spec.source.band_names), frame.shape[0] // scale, frame.shape[1] // scale
    guide = np.empty((len(spec.guide.channels), *frame.shape), np.float32)
    source, source_sd = np.empty(coarse_shape, np.float32), np.full(coarse_shape, np.nan, np.float32)
    for window in _blocks(frame, scale):
        fine = window.inside(frame)
        coarse = (slice(None), *coarsen(fine, scale))
        shown, geobox = None, grid.source_geobox_of(window)
        if spec.source.is_stack:
            stack = read_stack(items, geobox, spec=spec, provider=provider)
            source[coarse], shown = stack.image, stack.items
        else:
            block = read_source(items, geobox, spec=spec, provider=provider)
            source[coarse], source_sd[coarse] = block.image, block.image_sd
        found = read_guide(items, grid.geobox_of(window), spec=spec, provider=provider, shown=shown)
        guide[:, *fine] = found.values
    alone = not spec.source.bands
    return Sample(
        guide=guide,
        source=source[0] if alone else source,
        source_sd=source_sd[0] if alone else source_sd,
        truth=np.full(frame.shape if alone else (len(source), *frame.shape), np.nan, np.float32),
        bands=tuple((c.name, provider.rule(c.collection).units_of(c.band)) for c in spec.guide.channels),
        source_units=provider.rule(spec.source.collection).units,
        target=",".join(band.name for band in spec.targets),
        bounds=spec.targets[0].bounds,
        transfer=_find_transfers(spec, provider),
        dates=len(spec.guide.seasons) if all(layer.is_seasonal for layer in spec.guide.layers) else 1,
        name=name or spec.name,
        degradation=f"as delivered: {spec.source.collection}",
        digest=items.digest,
        vertical_datum=find_datum(spec, provider),
    )


def _find_transfers(spec: MapSpec, provider: Provider) -> dict[str, Transfer]:
    """Return the transfer of each band of source and guide whose instrument declares it.

    Only pixels that are copied have that of the instrument: those of a native grid, and in its guide those of the items
    of the source.
    """
    if spec.grid.kind != "native":
        return {}
    bands = {target.name: band for target, band in zip(spec.targets, spec.source.band_names, strict=True)}
    bands |= {band: band for layer in spec.guide.layers if layer.items == "source" for band in layer.bands}
    rule = provider.rule(spec.source.collection)
    splined = rule.resampled == "cubic-spline"
    return {name: Transfer(mtf=rule.mtf[band], splined=splined) for name, band in bands.items() if band in rule.mtf}


def _read_area(grid: MapGrid, read: ReadTruth) -> Float32Array:
    """Read a whole map block by block; NaN outside its area."""
    whole = Window(top=0, left=0, bottom=grid.shape[0], right=grid.shape[1]).grown(0, grid.scale)
    values = np.full(whole.shape, np.nan, np.float32)
    for window in _blocks(whole, grid.scale):
        inside = grid.inside_area(window)
        if inside.any():
            values[window.slices] = np.where(inside, read(window), np.float32(np.nan))
    return values


def _check_units(units: str, spec: MapSpec, provider: Provider, truth: str) -> None:
    wanted = provider.rule(spec.source.collection).units
    if units != wanted:
        raise InputError(f"{truth} is in {units!r}, the source {spec.source.collection} in {wanted!r}")


def _blocks(whole: Window, scale: int) -> list[Window]:
    step = -(-_BLOCK_PX // scale) * scale
    return [
        Window(top=top, left=left, bottom=min(top + step, whole.bottom), right=min(left + step, whole.right))
        for top in range(whole.top, whole.bottom, step)
        for left in range(whole.left, whole.right, step)
    ]


def _frame(known: npt.NDArray[np.bool_], scale: int) -> Window | None:
    """Return the smallest window of whole source pixels that holds all that is known; None if nothing is."""
    rows, cols = (np.flatnonzero(known.any(axis)) for axis in (1, 0))
    if not rows.size:
        return None
    window = Window(top=int(rows[0]), left=int(cols[0]), bottom=int(rows[-1]) + 1, right=int(cols[-1]) + 1)
    return window.grown(0, scale)
