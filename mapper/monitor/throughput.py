"""Throughput of a map, from its store alone: the same on any machine, and after a restart.

Work is counted between two moments: the last commit, and the commit an hour before it or the begin of the run.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from mapper.store.ledger import Ledger
from mapper.store.totals import Totals

_WINDOW = timedelta(hours=1)
_QUIET_SECONDS = 300.0
_QUIET_COMMITS = 5
"""A run is stalled when it has been silent for so long, and for so many times its usual pause between commits."""


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Work in some time."""

    seconds: float
    tiles: int
    """Tiles of any status."""
    pixels: int
    commits: int

    @property
    def tiles_per_hour(self) -> float | None:
        """Tiles an hour; None before any time went by."""
        return self.tiles * 3600 / self.seconds if self.seconds else None

    @property
    def megapixels_per_second(self) -> float | None:
        """Valid target pixels; None before any time went by."""
        return self.pixels / 1e6 / self.seconds if self.seconds else None

    @property
    def quiet_limit(self) -> float:
        """Seconds without a commit after which something is wrong."""
        return max(_QUIET_SECONDS, _QUIET_COMMITS * self.seconds / self.commits if self.commits else 0.0)

    def seconds_for(self, tiles: int) -> float | None:
        """Return the seconds that so many tiles take at this throughput; None if nothing moves."""
        return tiles * self.seconds / self.tiles if self.tiles and self.seconds else None

    def to_dict(self) -> dict[str, Any]:
        """Return the throughput for JSON."""
        rates = {name: getattr(self, name) for name in ("tiles_per_hour", "megapixels_per_second")}
        return asdict(self) | rates


def overall_throughput(totals: Totals) -> Throughput:
    """Return the throughput of all runs together; the time between them is left out."""
    return Throughput(seconds=totals.wall_s, tiles=totals.attempted, pixels=totals.pixels, commits=totals.batches)


def recent_throughput(ledger: Ledger) -> Throughput:
    """Return the throughput of the hour before the last commit, or since the last run began if that is less."""
    totals = ledger.totals
    since = totals.at - _WINDOW
    if totals.run_started < since:
        first = _find_first(ledger, since)
        if first is not totals:
            return _between(first.at, first.attempted, first.pixels, first.batches, totals)
    return _between(totals.run_started, totals.tiles_before, totals.pixels_before, totals.batches_before, totals)


def _between(start: datetime, tiles: int, pixels: int, batches: int, totals: Totals) -> Throughput:
    return Throughput(
        seconds=max(0.0, (totals.at - start).total_seconds()),
        tiles=totals.attempted - tiles,
        pixels=totals.pixels - pixels,
        commits=totals.batches - batches,
    )


def _find_first(ledger: Ledger, since: datetime) -> Totals:
    """Find the totals of the first commit after a moment, by halving: few versions are opened, however many there are.

    Versions that have expired are the oldest ones, so what is not there was before.
    """
    found = ledger.totals
    low, high = 0, found.batches
    while high - low > 1:
        middle = (low + high) // 2
        then = ledger.totals_after(middle)
        if then is None or then.at < since:
            low = middle
        else:
            high, found = middle, then
    return found
