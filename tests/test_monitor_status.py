"""How a map stands, from its store alone, also while somebody writes."""

import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from region import run_mapper
from store_maps import make_record, make_spec, make_tile

from mapper.cost.areas import measure_areas
from mapper.cost.prices import Prices
from mapper.monitor.status import read_status
from mapper.store.map_store import MapStore
from mapper.store.product import map_product

TESTS = Path(__file__).parent
PRICES = Prices(
    currency="EUR", date="2026-01-01", source="nobody", vcpu_hour=3600, gpu_hour=7200, read_gib=1024,
    requests_1000=1000, stored_gib_month=0,
)  # fmt: skip


@pytest.fixture
def spec(tmp_path):
    spec = make_spec(tmp_path / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    return spec


def write(spec, run_id, *batches):
    """Commit batches of (tile, status, changes of the record)."""
    with MapStore.open(spec.store).writer(map_product(spec), run_id=run_id) as writer:
        for batch in batches:
            for tile, status, changes in batch:
                begun = {"started_at": datetime.now(UTC), "run_id": run_id}
                fork, made = make_tile(writer.fork(), spec, tile)
                sha = made.content_sha256 if status == "ok" else ""
                record = make_record(tile, status=status, sha=sha, **(begun | changes))
                writer.add(fork if status == "ok" else None, record)
            writer.commit()


def write_some(spec):
    """Two runs: 4 tiles ok of two workers, 1 empty, 3 failed for two reasons; the rest is missing."""
    tiles = list(spec.map_grid.tiles())
    gpu = {"device": "cuda", "device_slots": 1, "device_s": 1e-6, "requests": 5, "bytes_read": 1 << 20}
    bad = {"seconds": {"read": 1.0}, "valid_px": 0, "device": ""}
    first = [(tiles[0], "ok", gpu | {"worker": "a:1"}), (tiles[1], "ok", gpu | {"worker": "b:1"})]
    write(spec, "one", first)
    write(
        spec, "two",
        [(tiles[2], "ok", gpu | {"worker": "a:2"}), (tiles[3], "empty", bad | {"reason": "no value"})],
        [(tiles[k], "failed", bad | {"reason": f"OSError: S2_{k}: gone"}) for k in (4, 5)],
        [(tiles[6], "failed", bad | {"reason": "AssetError: truncated"}), (tiles[7], "ok", gpu | {"worker": "b:2"})],
    )  # fmt: skip
    return tiles


def test_tiles_are_counted_with_their_land(spec):
    tiles = write_some(spec)
    status = read_status(spec.store)
    entries = MapStore.open(spec.store).ledger.entries
    expected = Counter(entries[tile].status if tile in entries else "missing" for tile in tiles)
    assert {name: count.tiles for name, count in status.counts.items()} == dict(expected)
    assert status.whole.tiles == len(tiles)
    assert sum(count.km2 for count in status.counts.values()) == pytest.approx(status.whole.km2)
    assert status.whole.km2 == pytest.approx(1.434 * 1.335, rel=0.01)


def test_the_extent_is_that_of_the_grid(spec):
    extent = measure_areas(spec.map_grid)
    assert {(tile.row, tile.col) for tile in spec.map_grid.tiles()} == set(zip(*extent.tiles.nonzero(), strict=True))


def test_runs_work_and_failures_are_told(spec):
    tiles = write_some(spec)
    status = read_status(spec.store)
    assert (status.totals.runs, status.totals.batches, status.throughput.tiles) == (2, 4, 6)
    assert status.totals.seconds["read"] == pytest.approx(4 * 1.5 + 4 * 1.0)
    reasons = [(each.reason, each.tiles) for each in status.failures]
    assert reasons == [("OSError: S2_4: gone", (tiles[4], tiles[5])), ("AssetError: truncated", (tiles[6],))]
    assert {use.worker: use.tiles for use in status.recent.workers} == {"a:2": 1, "b:2": 1, "host:1": 4}
    assert status.recent.device_share == pytest.approx(2e-6 / (2 * status.recent.seconds))
    assert status.state == "stopped"
    assert status.eta_s == pytest.approx(status.throughput.seconds / 6 * status.counts["missing"].tiles)
    assert json.loads(json.dumps(status.to_dict(), default=str))["failed"] == 3


def test_cost_is_that_of_all_work_and_the_whole_is_extrapolated(spec):
    write_some(spec)
    status = read_status(spec.store, prices=PRICES)
    spending, attempted = status.spending, 8
    cpu_s = 4 * (1.5 + 0.125) + 4 * 1.0
    assert spending.parts == pytest.approx(
        {"vCPU": cpu_s, "GPU": 4 * 0.25 * 2, "reading": 4.0, "requests": 20.0, "storage": 0.0}
    )
    assert spending.total == pytest.approx(sum(spending.parts.values()))
    assert spending.per_tile == pytest.approx(spending.total / attempted)
    assert spending.whole == pytest.approx(spending.total * status.whole.tiles / attempted)
    done = status.whole.km2 - status.counts["missing"].km2
    assert spending.per_mkm2 == pytest.approx(spending.total / done * 1e6)


def test_a_store_without_a_commit_is_new(spec):
    status = read_status(spec.store, prices=PRICES)
    assert (status.state, status.eta_s, status.spending.whole) == ("new", None, None)
    code, text = run_mapper("status", spec.store)
    assert code == 0
    assert "no commit yet; nobody writes" in text


def test_a_run_may_be_watched_from_another_process_and_its_death_is_seen(spec):
    command = [sys.executable, str(TESTS / "store_maps.py"), spec.store]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=TESTS) as driver:
        seen = []
        for line in driver.stdout:
            seen.append(read_status(spec.store))
            if line.startswith("waiting"):
                break
        alive = seen[-1]
        late = read_status(spec.store, now=alive.now + timedelta(hours=3))
        assert alive.holder.pid == driver.pid
        driver.kill()
        driver.wait()
    dead = read_status(spec.store)
    done = [each.whole.tiles - each.counts["missing"].tiles for each in seen]
    assert done == sorted(done)
    assert all(each % 2 == 0 for each in done)  # two tiles in a commit: none is ever seen alone
    assert done[-1] >= alive.whole.tiles - 1
    assert (alive.writer_alive, dead.writer_alive) == (True, False)
    if alive.counts["missing"].tiles:
        assert (alive.state, late.state, dead.state) == ("running", "stalled", "stopped")


def test_status_says_it_in_plain_words(spec):
    tiles = write_some(spec)
    prices = TESTS.parent / "deploy" / "prices.yaml"
    code, text = run_mapper("status", spec.store, "--prices", prices)
    assert code == 0
    share = 100 * 8 / len(tiles)
    for part in (
        f"{share:.1f} %", "4 ok", "3 failed", "nobody writes", "tiles/h", "of work at that pace", "bottleneck: read",
        "20 requests, 4.0 MiB", f"2 x OSError: S2_4: gone (tiles {tiles[4]} {tiles[5]})", "a Mkm2, whole map",
    ):  # fmt: skip
        assert part in text, part
    assert max(map(len, text.splitlines())) < 260


def test_watching_and_json_do_not_go_together(spec):
    assert run_mapper("status", spec.store, "--watch", "--json")[0] == 2
