"""Summary of the records of all tiles, made in one pass: times, acquisitions, values, models, machines."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from mapper.catalog.uses import ItemUse
from mapper.grid import Tile
from mapper.store.record import Record

_SLOWEST = 5


@dataclass(kw_only=True)
class Acquisition:
    """Use of one item, over all tiles."""

    collection: str
    role: str
    datetime: datetime
    used: int = 0
    """Tiles that it entered."""
    dropped: int = 0
    """Tiles that it was left out of."""


@dataclass(frozen=True, kw_only=True)
class SlowTile:
    """A tile that took long."""

    tile: Tile
    seconds: float
    stage: str
    """Stage that took most of it."""
    items: int


@dataclass(kw_only=True)
class BandSummary:
    """Values of one target band, over all tiles."""

    tile_means: npt.NDArray[np.float32]
    """(row, col): mean value of each tile, NaN where it has none."""
    valid_px: int = 0
    total: float = 0.0
    """Sum of all valid pixels, in units of the band."""

    @property
    def mean(self) -> float | None:
        """Return the mean of all valid pixels; None if there is none."""
        return self.total / self.valid_px if self.valid_px else None


@dataclass(kw_only=True)
class RecordSummary:
    """Records of the tiles of a map, added up."""

    bands: dict[str, BandSummary]
    """Target bands by name, in the order of the store."""
    acquisitions: dict[tuple[str, str], Acquisition] = field(default_factory=dict)
    """Items by collection and id."""
    drops: Counter[str] = field(default_factory=Counter)
    """Times that an item was left out of a tile, by reason."""
    finished: list[tuple[datetime, int]] = field(default_factory=list)
    """Moments at which tiles were done, and their valid pixels."""
    begun: list[datetime] = field(default_factory=list)
    slowest: list[SlowTile] = field(default_factory=list)
    models: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Tiles by name and digest of the model."""
    code_versions: Counter[str] = field(default_factory=Counter)
    environments: Counter[str] = field(default_factory=Counter)
    devices: Counter[str] = field(default_factory=Counter)
    workers: Counter[str] = field(default_factory=Counter)
    guides: Counter[str] = field(default_factory=Counter)
    """Stores that the guide was read from."""
    residual: float = 0.0
    """Largest difference that is left between a block mean and its source pixel."""


def summarise_records(records: Iterable[Record], shape: tuple[int, int], *, bands: Sequence[str]) -> RecordSummary:
    """Add up the records of the tiles of a map.

    Args:
        records: One a tile, with items.
        shape: Rows and columns of tiles.
        bands: Names of the target bands.
    """
    found = RecordSummary(bands={name: BandSummary(tile_means=np.full(shape, np.nan, np.float32)) for name in bands})
    for record in records:
        _add_work(found, record)
        _add_values(found, record)
        for item in record.items:
            _add_item(found, item)
    return found


def _add_work(found: RecordSummary, record: Record) -> None:
    seconds = sum(record.seconds.values())
    if record.started_at:
        found.begun.append(record.started_at)
        found.finished.append((record.started_at + timedelta(seconds=seconds), record.valid_px))
    if record.seconds:
        stage = max(record.seconds, key=lambda name: record.seconds[name])
        slow = SlowTile(tile=record.tile, seconds=seconds, stage=stage, items=len(record.items))
        found.slowest = sorted([*found.slowest, slow], key=lambda tile: -tile.seconds)[:_SLOWEST]
    for counter, name in (
        (found.code_versions, record.code_version),
        (found.environments, record.environment),
        (found.devices, record.device),
        (found.workers, record.worker),
        (found.guides, record.guide_store),
    ):
        counter.update([name] if name else [])
    if record.model:
        found.models[record.model, record.model_digest] += 1


def _add_values(found: RecordSummary, record: Record) -> None:
    if record.status != "ok":
        return
    found.residual = max(found.residual, record.consistency_residual or 0.0)
    for name, summary in found.bands.items():
        statistics = record.statistics_of(name)
        if statistics.mean is not None:
            summary.tile_means[record.tile.row, record.tile.col] = statistics.mean
            summary.valid_px += statistics.valid_px
            summary.total += statistics.mean * statistics.valid_px


def _add_item(found: RecordSummary, item: ItemUse) -> None:
    key = item.collection, item.id
    known = found.acquisitions.get(key)
    if known is None:
        known = Acquisition(collection=item.collection, role=item.role, datetime=item.datetime)
        found.acquisitions[key] = known
    if item.dropped:
        known.dropped += 1
        found.drops[item.dropped] += 1
    else:
        known.used += 1
