"""How a map stands: what `mapper status` says, read from one version of its store while a run may be writing the next.

Nothing is locked, no pixel is read, and the cost does not grow with the number of commits: totals come with the last
one, the pace from a few older versions, workers and failures from a bounded number of batches.
"""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mapper.arrays import ByteArray
from mapper.cost.areas import measure_extent
from mapper.cost.prices import Prices, Spending, price_totals
from mapper.grid import Tile
from mapper.markup.tile_map import STATES
from mapper.monitor.throughput import Pace, overall_pace, recent_pace
from mapper.monitor.utilisation import name_bottleneck
from mapper.store.description import Description
from mapper.store.ledger import Ledger, read_ledger
from mapper.store.ledger_arrays import STATUS_CODES
from mapper.store.location import parse_location
from mapper.store.lock import Holder, read_holder
from mapper.store.record import Record
from mapper.store.repository import read_store
from mapper.store.totals import Totals, WorkerUse

State = Literal["new", "running", "stalled", "stopped", "complete"]
"""No commit yet; growing; silent for too long; nobody writes; no tile is missing."""

_BATCHES_READ = 32
"""Batches whose records are looked at, the newest first: for workers, and for reasons of failures."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """Tiles, and the land in them."""

    tiles: int
    km2: float


@dataclass(frozen=True, kw_only=True)
class FailedTiles:
    """Tiles that failed for the same reason, but for its numbers."""

    reason: str
    """Of the first of them."""
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, kw_only=True)
class Recent:
    """What the newest batches of the last run tell of its workers."""

    tiles: int
    seconds: float
    """Wall time from the first of their tiles to the last commit."""
    device_busy: float | None
    """Part of it that devices were held, 0 to 1."""
    bottleneck: str
    workers: tuple[WorkerUse, ...]
    """The least busy first."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a map stands at one version of its store."""

    store: str
    name: str
    snapshot: str
    now: datetime
    whole: Count
    counts: dict[str, Count]
    """By status: ok, empty, failed, missing."""
    totals: Totals
    pace: Pace
    """Lately: the last hour of commits of the last run."""
    overall: Pace
    recent: Recent
    holder: Holder | None
    """Who holds the lock or lease of the store; None if nobody does."""
    writer_alive: bool | None
    """Whether somebody writes; None where only another host can tell."""
    failures: tuple[FailedTiles, ...]
    """The most frequent reason first; the newest batches only, see ``failures_known``."""
    failures_known: int
    """Failed tiles that were looked at."""
    spending: Spending | None
    states: ByteArray = field(compare=False, repr=False)
    """(row, col): of every tile, a place in :data:`mapper.markup.tile_map.STATES`."""

    @property
    def quiet_s(self) -> float:
        """Seconds since the last commit."""
        return max(0.0, (self.now - self.totals.at).total_seconds())

    @cached_property
    def state(self) -> State:
        """What is going on."""
        if not self.counts["missing"].tiles:
            return "complete"
        if self.writer_alive is False:
            return "stopped" if self.totals.batches else "new"
        if not self.totals.batches:
            return "new"
        return "running" if self.quiet_s <= self.pace.quiet_limit else "stalled"

    @property
    def eta_s(self) -> float | None:
        """Seconds of work left at the pace of late; None before it is known."""
        return self.pace.seconds_for(self.counts["missing"].tiles)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; durations in seconds, areas in square kilometres."""
        return {
            "store": self.store,
            "name": self.name,
            "tiles": self.whole.tiles,
            **{name: count.tiles for name, count in self.counts.items()},
            "km2": {"whole": self.whole.km2, **{name: count.km2 for name, count in self.counts.items()}},
            "commits": self.totals.batches,
            "snapshot": self.snapshot,
            "state": self.state,
            "quiet_s": self.quiet_s if self.totals.batches else None,
            "eta_s": self.eta_s,
            "writer_alive": self.writer_alive,
            "writer": asdict(self.holder) if self.holder else None,
            "pace": self.pace.to_dict(),
            "overall": self.overall.to_dict(),
            "totals": self.totals.to_dict(),
            "recent": asdict(self.recent),
            "failures": [{"reason": each.reason, "tiles": list(map(str, each.tiles))} for each in self.failures],
            "spending": self.spending.to_dict() if self.spending else None,
        }


def read_standing(location: str | Path, *, prices: Prices | None = None, now: datetime | None = None) -> Standing:
    """Look how a map stands; takes no lock, and may be asked while a run writes.

    Args:
        location: Of the store.
        prices: None leaves the cost out.
        now: By default the present.

    Raises:
        StoreError: If there is no store.
    """
    ledger, description = read_ledger(location), read_store(location)
    holder = read_holder(parse_location(location))
    whole, counts, states = _count(ledger, description)
    failures = _group(list(_failed_records(ledger)))
    return Standing(
        store=str(location),
        name=description.name,
        snapshot=ledger.session.snapshot_id,
        now=now or datetime.now(UTC),
        whole=whole,
        counts=counts,
        totals=ledger.totals,
        pace=recent_pace(ledger),
        overall=overall_pace(ledger.totals),
        recent=_sum_recent(ledger),
        holder=holder,
        writer_alive=holder.alive if holder else False,
        failures=failures,
        failures_known=sum(len(each.tiles) for each in failures),
        spending=_price(prices, ledger, description, whole, counts) if prices else None,
        states=states,
    )


def _count(ledger: Ledger, description: Description) -> tuple[Count, dict[str, Count], ByteArray]:
    extent, state = measure_extent(description.grid), ledger.state
    counts: dict[str, Count] = {}
    for name, code in (*STATUS_CODES.items(), ("missing", 0)):
        chosen = extent.tiles & (state == code)
        counts[name] = Count(tiles=int(chosen.sum()), km2=float(extent.km2[chosen].sum()))
    states = np.where(extent.tiles, state, np.uint8(STATES.index("outside")))
    return Count(tiles=int(extent.tiles.sum()), km2=float(extent.km2.sum())), counts, states


def _sum_recent(ledger: Ledger) -> Recent:
    """Add up the newest batches of the last run: those of the time that the throughput is of, and not too many."""
    totals = ledger.totals
    first = max(totals.batches_before, totals.batches - _BATCHES_READ)
    records = [record for batch in range(totals.batches, first, -1) for record in ledger.records_of(batch, items=False)]
    found = Totals().plus(*records)
    starts = [totals.at, *(record.started_at for record in records if record.started_at)]
    wall = max(0.0, (totals.at - min(starts)).total_seconds())
    share = found.device_share(wall)
    return Recent(
        tiles=found.attempted,
        seconds=wall,
        device_busy=share,
        bottleneck=name_bottleneck(found.seconds, device_share=share),
        workers=found.rank_workers(),
    )


def _failed_records(ledger: Ledger) -> Iterator[Record]:
    """Records of tiles that stand as failed, from the newest batches."""
    failed, writers = ledger.state == STATUS_CODES["failed"], ledger.writers
    for batch in islice(reversed(np.unique(writers[failed]).tolist()), _BATCHES_READ):
        for record in ledger.records_of(batch, items=False):
            at = record.tile.row, record.tile.col
            if failed[at] and writers[at] == batch:
                yield record


def _group(records: list[Record]) -> tuple[FailedTiles, ...]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(re.sub(r"\d+", "#", record.reason), []).append(record)
    ordered = sorted(groups.values(), key=lambda group: -len(group))
    return tuple(FailedTiles(reason=g[0].reason, tiles=tuple(sorted(r.tile for r in g))) for g in ordered)


def _price(
    prices: Prices, ledger: Ledger, description: Description, whole: Count, counts: dict[str, Count]
) -> Spending:
    done = [counts[name] for name in STATUS_CODES]
    tiles = sum(count.tiles for count in done)
    return price_totals(
        prices,
        ledger.totals,
        stored_bytes=counts["ok"].tiles * description.grid.tile_px**2 * description.pixel_bytes,
        tiles_done=tiles,
        km2_done=sum(count.km2 for count in done),
        share=tiles / whole.tiles,
    )
