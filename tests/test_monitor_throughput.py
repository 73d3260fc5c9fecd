"""The throughput of a map, from the totals of a few versions."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mapper.events import TileResult
from mapper.monitor.throughput import Throughput, overall_throughput, recent_throughput
from mapper.store.totals import Totals

BEGIN = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)


class Commits:
    """A ledger of which only the totals are known; counts how many versions are opened."""

    def __init__(self, runs, *, expired=0):
        """Runs are lists of (seconds since the begin, tiles); the first of each is when it starts."""
        self.history, self.expired, self.opened = [], expired, 0
        totals = Totals()
        for number, ((start, _), *commits) in enumerate(runs):
            for at, tiles in commits:
                results = [TileResult(status="ok", valid_px=1_000_000)] * tiles
                run = {"run_id": f"run-{number}", "started": BEGIN + timedelta(seconds=start)}
                totals = totals.plus_batch(results, at=BEGIN + timedelta(seconds=at), **run)
                self.history.append(totals)

    @property
    def totals(self):
        return self.history[-1]

    def totals_after(self, batch):
        self.opened += 1
        return None if batch <= self.expired else self.history[batch - 1]


def commits_every(seconds, count, *, tiles=10, start=0):
    return [(start, 0), *((start + seconds * (k + 1), tiles) for k in range(count))]


def test_a_run_of_minutes_counts_from_its_begin_whatever_was_before():
    ledger = Commits([commits_every(60, 50), commits_every(30, 10, tiles=4, start=500_000)])
    pace = recent_throughput(ledger)
    assert (pace.seconds, pace.tiles, pace.commits) == (300.0, 40, 10)
    assert pace.tiles_per_hour == pytest.approx(480)
    assert pace.megapixels_per_second == pytest.approx(40 / 300)
    assert overall_throughput(ledger.totals).seconds == 50 * 60 + 300


@pytest.mark.parametrize("expired", [0, 500, 990])
def test_a_long_run_counts_its_last_hour_and_few_versions_are_opened(expired):
    rng = np.random.default_rng(5)
    times = np.cumsum(rng.uniform(10, 120, 1000))
    ledger = Commits([[(0, 0), *((float(t), int(n)) for t, n in zip(times, rng.integers(1, 50, 1000), strict=True))]],
                     expired=expired)  # fmt: skip
    pace = recent_throughput(ledger)
    known = [t for k, t in enumerate(ledger.history) if k >= expired]
    first = next(t for t in known if t.at >= ledger.totals.at - timedelta(hours=1))
    assert pace.tiles == ledger.totals.attempted - first.attempted
    assert pace.seconds == pytest.approx((ledger.totals.at - first.at).total_seconds())
    assert ledger.opened <= 10


def test_one_commit_after_hours_counts_from_the_begin_of_its_run():
    pace = recent_throughput(Commits([[(0, 0), (10_000, 5)]]))
    assert (pace.seconds, pace.tiles) == (10_000.0, 5)


def test_what_is_usual_goes_by_the_pauses_between_commits():
    assert Throughput(seconds=600, tiles=60, pixels=0, commits=10).quiet_limit == 300
    assert Throughput(seconds=3600, tiles=60, pixels=0, commits=2).quiet_limit == 9000
    assert Throughput(seconds=600, tiles=60, pixels=0, commits=10).seconds_for(6) == 60
    assert Throughput(seconds=0, tiles=0, pixels=0, commits=0).seconds_for(6) is None
