"""The running totals of a store say what its records say."""

from dataclasses import replace

import numpy as np
import pytest
import zarr
from store_maps import make_record, make_spec, make_tile

from mapper.events import ReadRetry, TileResult
from mapper.store.ledger import read_ledger
from mapper.store.product import map_product
from mapper.store.repository import create_store, open_repository
from mapper.store.totals import Totals, read_totals
from mapper.store.writer import open_writer

RETRY = ReadRetry(host="h", item="i", asset="B04", reason="HTTP 429", attempt=1, wait_s=0.5)
FACTS = [
    {"requests": 10, "bytes_read": 100, "retries": (RETRY, RETRY), "run_id": "run-1"},
    {"requests": 3, "bytes_read": 7, "device": "cuda", "run_id": "run-2"},
    {"status": "failed", "seconds": {"read": 2.0}, "valid_px": 0, "retries": (RETRY,), "run_id": "run-2"},
    {"status": "empty", "seconds": {"read": 1.0}, "device": "", "valid_px": 0, "run_id": "run-3"},
]
RUNS = [[0], [1, 2], [3]]


@pytest.fixture
def written(tmp_path):
    """A store of three runs with a commit for each tile, and the records."""
    spec = make_spec(tmp_path / "map.icechunk")
    create_store(spec.store, product=map_product(spec))
    tiles, records = list(spec.map_grid.tiles()), []
    for number, run in enumerate(RUNS):
        with open_writer(spec.store, product=map_product(spec), run_id=f"run-{number + 1}") as writer:
            for k in run:
                fork, made = make_tile(writer.fork(), spec, tiles[k])
                ok = FACTS[k].get("status", "ok") == "ok"
                record = make_record(tiles[k], sha=made.content_sha256 if ok else "", **FACTS[k])
                writer.add(fork if ok else None, record)
                writer.commit()
                records.append(record)
    return spec, records


def expected(records):
    stages = {stage: sum(r.seconds.get(stage, 0) for r in records) for stage in ("read", "predict", "write")}
    return {
        "batches": len(records),
        "tiles": {s: sum(r.status == s for r in records) for s in {r.status for r in records}},
        "pixels": sum(r.valid_px for r in records),
        "requests": sum(r.requests for r in records),
        "bytes_read": sum(r.bytes_read for r in records),
        "seconds": stages,
        "gpu_s": sum(r.seconds["predict"] for r in records if r.device == "cuda"),
    }


def check(totals, records, runs):
    for name, value in expected(records).items():
        assert getattr(totals, name) == pytest.approx(value), name
    assert (totals.runs, totals.attempted) == (runs, len(records))


def test_totals_are_the_sums_of_the_records_after_every_commit(written):
    spec, records = written
    ledger = read_ledger(spec.store)
    check(ledger.totals, records, 3)
    assert ledger.totals.retries == {"HTTP 429": 3}
    for batch, runs in ((1, 1), (2, 2), (3, 2), (4, 3)):
        check(ledger.totals_after(batch), records[:batch], runs)


def test_a_run_knows_what_earlier_ones_did_and_the_time_between_runs_is_no_work(written):
    spec, _ = written
    ledger = read_ledger(spec.store)
    after = [ledger.totals_after(batch) for batch in (1, 2, 3, 4)]
    assert [t.batches_before for t in after] == [0, 1, 1, 3]
    assert [t.tiles_before for t in after] == [0, 1, 1, 3]
    runs = [after[0], after[2], after[3]]
    assert after[3].wall_s == pytest.approx(sum((t.at - t.run_started).total_seconds() for t in runs))
    assert after[1].run_started == after[2].run_started > after[0].at


def test_batches_of_a_mapper_that_kept_no_totals_are_added_up(written):
    spec, records = written
    session = open_repository(spec.store).writable_session("main")
    whole = read_totals(session.store)
    group = zarr.open_group(session.store, path="ledger", mode="r+")
    del group.attrs["totals"]
    check(read_totals(session.store), records, 3)
    group.attrs["totals"] = Totals.of(read_ledger(spec.store).totals_after(2).to_dict()).to_dict()
    check(read_totals(session.store), records, 3)
    session.commit("as an older mapper leaves it")
    with open_writer(spec.store, product=map_product(spec), run_id="run-4") as writer:
        tile = list(spec.map_grid.tiles())[4]
        writer.add(*make_tile(writer.fork(), spec, tile))
        writer.commit()
    now = read_ledger(spec.store).totals
    check(now, [*records, make_record(tile)], 4)
    assert now.pixels == whole.pixels + make_record(tile).valid_px


def test_a_version_that_has_expired_has_no_totals(written):
    spec, _ = written
    ledger = read_ledger(spec.store)
    session = open_repository(spec.store).writable_session("main")
    snapshots = zarr.open_array(session.store, path="ledger/snapshots", mode="r+")
    snapshots[0] = np.frombuffer(b"A" * 20, np.uint8)  # no such version
    session.commit("another")
    assert ledger.totals_after(1) is not None
    assert read_ledger(spec.store).totals_after(1) is None


def test_totals_survive_json_and_what_a_newer_mapper_adds():
    totals = Totals(batches=3, tiles={"ok": 2}, seconds={"read": 1.5})
    assert Totals.of(totals.to_dict() | {"of_tomorrow": 1}) == totals


def totals_of(*tiles):
    """Totals of tiles: of each worker, device, seconds that it was held, and slots."""
    results = [
        TileResult(
            status="ok",
            worker=worker,
            device=device,
            seconds={"read": 4.0, "predict": held, "wait": 9.0},
            device_s=held,
            device_slots=slots,
        )
        for worker, device, held, slots in tiles
    ]
    one_by_one = Totals()
    for result in results:
        one_by_one = one_by_one.plus(result)
    assert one_by_one == Totals().plus(*results)
    return one_by_one


def test_each_worker_has_a_gpu_but_processes_of_one_host_share_its_cores():
    gpus = totals_of(("a:1", "cuda", 3.0, 1), ("a:2", "cuda", 1.0, 1), ("a:1", "cuda", 2.0, 1))
    assert gpus.device_slots == 2
    assert gpus.device_share(6.0) == pytest.approx(6 / 12)
    cpus = totals_of(("a:1", "cpu", 3.0, 8), ("a:2", "cpu", 1.0, 8), ("b:1", "cpu", 4.0, 4))
    assert cpus.device_slots == 12
    assert cpus.device_share(2.0) == pytest.approx(8 / 24)


def test_a_run_without_prediction_has_no_share_of_devices():
    assert totals_of(("a:1", "", 0.0, 0)).device_share(5.0) is None


def test_workers_come_the_least_used_first_and_waiting_is_no_work():
    totals = totals_of(("a:1", "cuda", 3.0, 1), ("a:2", "cuda", 1.0, 1), ("a:1", "cuda", 2.0, 1))
    assert [(w.worker, w.tiles, w.seconds, w.device_s) for w in totals.rank_workers()] == [
        ("a:2", 1, 5.0, 1.0),
        ("a:1", 2, 13.0, 5.0),
    ]


def test_workers_and_devices_are_not_stored():
    totals = totals_of(("a:1", "cuda", 3.0, 1))
    assert {"workers", "devices"}.isdisjoint(totals.to_dict())
    assert Totals.of(totals.to_dict()) == replace(totals, workers={}, devices={})
