"""What the records of all tiles tell, gathered in one pass: times, acquisitions, models, machines."""

from collections import Counter
from collections.abc import Iterable
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
    """One item, over all tiles."""

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
    """That took most of it."""
    items: int


@dataclass(kw_only=True)
class Gathered:
    """What the records of the standing tiles tell together."""

    means: npt.NDArray[np.float32]
    """(row, col): mean value of each tile, NaN where it has none."""
    acquisitions: dict[tuple[str, str], Acquisition] = field(default_factory=dict)
    """By collection and id."""
    drops: Counter[str] = field(default_factory=Counter)
    """Tiles and items that did not come together, by reason."""
    finished: list[tuple[datetime, int]] = field(default_factory=list)
    """When tiles were done, and how many valid pixels they have."""
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
    valid_px: int = 0
    value_sum: float = 0.0
    value_min: float = float("inf")
    value_max: float = -float("inf")
    residual: float = 0.0
    """Largest that is left between a block mean and its source pixel."""

    @property
    def value_mean(self) -> float | None:
        """Over all valid pixels; None if there is none."""
        return self.value_sum / self.valid_px if self.valid_px else None


def gather(records: Iterable[Record], shape: tuple[int, int]) -> Gathered:
    """Read the records of all standing tiles.

    Args:
        records: One a tile, with items.
        shape: Rows and columns of tiles.
    """
    found = Gathered(means=np.full(shape, np.nan, np.float32))
    for record in records:
        _add_work(found, record)
        _add_values(found, record)
        for item in record.items:
            _add_item(found, item)
    return found


def _add_work(found: Gathered, record: Record) -> None:
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


def _add_values(found: Gathered, record: Record) -> None:
    if record.value_mean is None or not record.valid_px or record.status != "ok":
        return
    found.means[record.tile.row, record.tile.col] = record.value_mean
    found.valid_px += record.valid_px
    found.value_sum += record.value_mean * record.valid_px
    found.value_min = min(found.value_min, record.value_mean if record.value_min is None else record.value_min)
    found.value_max = max(found.value_max, record.value_mean if record.value_max is None else record.value_max)
    found.residual = max(found.residual, record.consistency_residual or 0.0)


def _add_item(found: Gathered, item: ItemUse) -> None:
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
