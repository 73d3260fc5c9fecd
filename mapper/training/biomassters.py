"""BioMassters chips, read as samples straight from the files that were published.

A sample holds the very numbers that a map of the chip would be made from (``mapper catalog biomassters``): the same
channels in the same order, calibrated, masked and reduced alike. So weights that were trained on thousands of chips
run on maps, without a catalogue of all of them.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from mapper.arrays import Float32Array
from mapper.catalog.importers.biomassters_files import (
    CLOUD_LIMIT,
    MONTHS,
    NO_CLP,
    ORBITS,
    S2_BANDS,
    S2_SCALE,
    SD_LEAST_MG_HA,
    SD_SHARE,
    SEASONS,
    Chip,
    Seasons,
    find_chips,
    find_measured,
)
from mapper.cube.composite import Reducer, reduce_stack
from mapper.cube.source import average_blocks
from mapper.errors import InputError
from mapper.training.config import BioMasstersData
from mapper.training.sample import Sample

_POLARISATIONS = ("vv", "vh")
_TARGET, _UNITS = "agb", "Mg ha-1"


def read_chips(data: BioMasstersData) -> list[Sample]:
    """Read the chips that are asked for, in the order of their names.

    Raises:
        InputError: If a chip is not there, none is left, a month is none, or a file is not as expected.
    """
    seasons = _find_seasons(data)
    wanted = [
        chip
        for chip in find_chips(data.folder, data.chips)
        if (data.chips is None or chip.name in data.chips) and chip.name not in data.leave_out
    ]
    if not wanted:
        raise InputError(f"no chip of {data.folder} is left: all are left out")
    return [read_chip(chip, seasons, scale=data.scale, limit=data.limit) for chip in wanted]


def read_chip(chip: Chip, seasons: Seasons, *, scale: int, limit: float | None) -> Sample:
    """Read one chip, from its upper left corner as many whole source pixels as there are.

    Args:
        chip: Which.
        seasons: Name to calendar months.
        scale: Pixels of the label along the edge of a source pixel.
        limit: The label is cut off here, in Mg ha-1, before it is averaged or learnt; None keeps all of it.

    Raises:
        InputError: If a file is not as expected, or the chip holds no source pixel.
    """
    crop_px = chip.size_px // scale * scale
    if not crop_px:
        raise InputError(f"chip {chip.name} of {chip.size_px} px holds no source pixel of {scale} px")
    label = chip.read_label(crop_px)
    truth: Float32Array = np.minimum(label, np.inf if limit is None else limit).astype(np.float32)
    source = average_blocks(truth, scale)
    guide = np.concatenate([part for months in seasons.values() for part in _read_season(chip, months, crop_px)])
    content = hashlib.sha256()
    for array in (guide, source, truth):
        content.update(np.ascontiguousarray(array).tobytes())
    cut = "" if limit is None else f", limited to {limit:g} {_UNITS}"
    return Sample(
        guide=guide,
        source=source,
        source_sd=np.maximum(np.float32(SD_SHARE) * source, np.float32(SD_LEAST_MG_HA)),
        truth=truth,
        bands=tuple((f"{season}_{band}", units) for season in seasons for band, units in _bands()),
        source_units=_UNITS,
        target=_TARGET,
        bounds=(0, None),
        dates=len(seasons),
        name=chip.name,
        degradation=f"block mean of the label, {scale} x {scale}{cut}",
        digest=content.hexdigest(),
    )


def _find_seasons(data: BioMasstersData) -> Seasons:
    seasons = SEASONS[data.seasons] if isinstance(data.seasons, str) else data.seasons
    faults = [name for name, months in seasons.items() if not months or not set(months) <= set(MONTHS)]
    if faults or not seasons:
        raise InputError(f"seasons need months 1 to 12: {', '.join(faults) or 'none given'}")
    return seasons


def _bands() -> list[tuple[str, str]]:
    """Name, without the season, and units of the bands of one date."""
    radar = [(f"{polarisation}_{orbit}", "dB") for orbit in ORBITS for polarisation in _POLARISATIONS]
    return [(band, "1") for band in S2_BANDS] + radar


def _read_season(chip: Chip, months: Sequence[int], crop_px: int) -> tuple[Float32Array, Float32Array]:
    """Median reflectance and mean backscatter of some months; each (band, y, x)."""
    files = sorted(MONTHS.index(month) for month in set(months))
    optical = [_read_reflectance(chip, file, crop_px) for file in files]
    radar = [_read_backscatter(chip, file, crop_px) for file in files]
    shape = crop_px, crop_px
    return (
        _reduce([image for image in optical if image is not None], (len(S2_BANDS), *shape), "median", "1"),
        _reduce([image for image in radar if image is not None], (2 * len(ORBITS), *shape), "mean", "dB"),
    )


def _read_reflectance(chip: Chip, file: int, crop_px: int) -> Float32Array | None:
    """Reflectance (band, y, x), NaN where cloudy or missing; None if there is no file."""
    stored = chip.read("S2", file, crop_px)
    if stored is None:
        return None
    numbers, cloud = stored[:-1], stored[-1]
    usable = (numbers != 0) & (cloud <= CLOUD_LIMIT) & (cloud != NO_CLP)
    return np.where(usable, numbers.astype(np.float32) * np.float32(S2_SCALE), np.float32(np.nan))


def _read_backscatter(chip: Chip, file: int, crop_px: int) -> Float32Array | None:
    """Decibels (band, y, x), NaN where missing; None if there is no file."""
    stored = chip.read("S1", file, crop_px)
    if stored is None:
        return None
    order = [channel for channels in ORBITS.values() for channel in channels]
    return np.where(find_measured(stored), stored.astype(np.float32), np.float32(np.nan))[order]


def _reduce(images: list[Float32Array], shape: tuple[int, int, int], reducer: Reducer, units: str) -> Float32Array:
    """One image of several, band by band; NaN where none is valid."""
    if not images:
        return np.full(shape, np.nan, np.float32)
    return np.stack([reduce_stack(np.stack(stack), reducer, units) for stack in zip(*images, strict=True)])
