"""An archive that throttles, breaks and refuses: the map is the one of a quiet day, and the log says what happened."""

import json
from collections import Counter
from dataclasses import asdict

import pytest
import yaml
from fault_server import serve_faults
from region import Region, run_json, run_mapper, write_weights

from mapper.access.retry import Backoff, Patience
from mapper.execute.executors import ThreadExecutor
from mapper.monitor.progress import EventLog
from mapper.plan.context import RunOptions
from mapper.plan.job import prepare_job
from mapper.predict.quality import mask_of
from mapper.run.runner import run_plan
from mapper.store.ledger import read_ledger
from mapper.store.repository import open_map
from mapper.synthetic.scenes import write_scenes

TOKEN_LIFE = 1.0
"""Seconds; short, so that a short run outlives several."""
CHANNELS = {"summer_B04": ("1", 0.06), "summer_B08": ("1", 0.3), "summer_vv": ("dB", -11.0)}
REASONS = {
    "429": "HTTP 429", "503": "HTTP 503", "reset": "connection reset", "stall": "timed out", "cut": "short body",
    "short": "short body", "403": "HTTP 403, signed anew",
}  # fmt: skip
FAULTS = ("--share", 0.1, "--seed", 11, "--stall", 2, "--token-life", TOKEN_LIFE, "--kinds", *REASONS)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Two dates of a summer, with a small network to read them."""
    folder = tmp_path_factory.mktemp("faults")
    write_scenes(folder / "catalog", size_px=200, seed=11, tile_px=128, chunk_px=64, dates=2, margin_px=100)
    write_weights(folder, channels=CHANNELS)
    region = Region(folder)
    layers = [
        {"collection": "sentinel-2-l2a", "bands": ["B04", "B08"]}, {"collection": "sentinel-1-rtc", "bands": ["vv"]}
    ]  # fmt: skip
    region.change(guide={"layers": layers, "seasons": {"summer": [6, 7, 8]}})
    return region.change(model={"name": "tiny", "weights": "tiny.safetensors"})


@pytest.fixture
def region(scenes, tmp_path):
    return scenes.copy(tmp_path)


def move_to(region, address):
    """Let the items of a region name files of a server that wants tokens; a new store."""
    for path in (region.folder / "catalog").rglob("*.json"):
        item = json.loads(path.read_text())
        for asset in item.get("assets", {}).values():
            file = (path.parent / asset["href"]).resolve().relative_to(region.folder.resolve())
            asset["href"] = f"{address}/{file}"
        path.write_text(json.dumps(item))
    signing = {"kind": "token-service", "tokens": f"{address}/token", "hosts": [".0.0.1"]}
    limits = {"requests_per_second": 500, "burst": 50}
    provider = {"extends": "demo", "name": "faulty", "access": {"signing": signing, "limits": limits}}
    (region.folder / "faulty.yaml").write_text(yaml.safe_dump(provider))
    return region.change(catalog__provider="faulty.yaml", store="faulty.icechunk")


def run_faulty(region):
    """Make the map from the server; the report and the events."""
    options = RunOptions(patience=Patience(first=0.05, ceiling=0.2, read=1.0))
    job = prepare_job(region.map, refresh=True, options=options)
    log = EventLog(region.folder / "run.jsonl")
    report = run_plan(job.plan, job.context, job.spec.store, ThreadExecutor(3), callbacks=[log])
    return report, [json.loads(line) for line in log.path.read_text().splitlines()]


def checksums(store):
    return {record.tile: record.content_sha256 for record in read_ledger(store).records()}


def test_the_map_is_the_same_and_every_retry_is_told_with_its_reason(region):
    run_mapper("run", region.map)
    quiet = checksums(region.store)
    with serve_faults(region.folder, *FAULTS) as server:
        report, events = run_faulty(move_to(region, server.address))
        served = server.log()
    store = region.folder / "faulty.icechunk"
    assert report.exit_code == 0
    assert report.seconds > 2 * TOKEN_LIFE
    assert checksums(store) == quiet
    assert any(quiet.values())

    files = [entry for entry in served if entry["fault"] != "token"]
    assert len(files) < len(served) - 2, "tokens were renewed"
    met = Counter(REASONS[entry["fault"]] for entry in files if entry["fault"] in REASONS)
    assert set(met) == set(REASONS.values())
    told = Counter(event["reason"] for event in events if event["event"] == "ReadRetried")
    assert told == report.totals.retries
    # a busy machine may be slow enough for a timeout, or a token that expires on its way, that nobody injected
    assert {r: told[r] for r in ("HTTP 429", "HTTP 503")} == {r: met[r] for r in ("HTTP 429", "HTTP 503")}
    assert all(told[reason] >= met[reason] for reason in met)
    assert report.totals.requests == len(files)

    records = list(read_ledger(store).records())
    assert sum(record.requests for record in records) == report.totals.requests
    assert sum(len(record.retries) for record in records) == told.total()
    for record in records:
        own = [k for k, event in enumerate(events) if event.get("tile") == [record.tile.row, record.tile.col]]
        assert [events[k]["event"] for k in own] == ["ReadRetried"] * len(record.retries) + ["TileFinished"]
    assert "put again: " in report.summary()
    assert "sig=" not in (region.folder / "run.jsonl").read_text()

    answer = run_json("why", store, 12.0, 51.417)["record"]
    (record,) = (record for record in records if asdict(record.tile) == answer["tile"])
    assert (answer["requests"], answer["bytes_read"]) == (record.requests, record.bytes_read)
    assert f"{record.requests} requests, " in run_mapper("why", store, 12.0, 51.417)[1]


def test_an_archive_that_stays_down_fails_tiles_and_says_what_was_tried(region):
    with serve_faults(region.folder, "--share", 1, "--kinds", 503) as server:
        move_to(region, server.address)
        patience, backoff = Patience(first=0.01, attempts=2), Backoff(first=0.01, attempts=2)
        job = prepare_job(region.map, refresh=True, options=RunOptions(patience=patience, backoff=backoff))
        report = run_plan(job.plan, job.context, job.spec.store, ThreadExecutor(3))
        requests = len([entry for entry in server.log() if entry["fault"] == "503"])
    assert (report.failed, report.exit_code) == (report.tiles, 1)
    assert report.totals.requests == requests
    for record in read_ledger(job.spec.store).records():
        assert "HTTP 503, 2 attempts" in record.reason
        assert {retry.reason for retry in record.retries} == {"HTTP 503"}
        assert record.requests >= 2 * record.attempts == 4


def test_a_truncated_file_is_named_dropped_and_flagged_and_the_rest_of_the_map_is_as_it_would_be(region):
    asset = next(path for path in sorted((region.folder / "catalog").rglob("*B04*.tif")))
    asset.write_bytes(asset.read_bytes()[: asset.stat().st_size // 3])
    run_mapper("run", region.map)
    local = checksums(region.store)
    with serve_faults(region.folder, "--token-life", TOKEN_LIFE) as server:
        report, _ = run_faulty(move_to(region, server.address))
        address = f"{server.address}/{asset.relative_to(region.folder)}"
    store = region.folder / "faulty.icechunk"
    assert report.exit_code == 0
    assert checksums(store) == local
    dropped = [(record, use) for record in read_ledger(store).records() for use in record.items if use.dropped]
    assert dropped
    for _, use in dropped:
        assert use.id == asset.parent.name or use.id in asset.name
        assert "B04" in use.dropped
        assert "truncated" in use.dropped
        assert address in use.dropped
    qa = open_map(store)["qa"].load()
    assert ((qa & mask_of("item_dropped")) > 0).any()
    assert {record.status for record, _ in dropped} == {"ok"}
