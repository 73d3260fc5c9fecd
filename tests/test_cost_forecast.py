"""Forecasts: rough before a pilot, calibrated by one, and held against what came."""

import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from distributed import Client, LocalCluster
from run_maps import make_items, make_spec, save_network

from mapper.cost.estimate import PREDICT_SECONDS, estimate_tasks
from mapper.cost.forecast import compare, forecast_again, make_forecast
from mapper.cost.prices import Prices
from mapper.events import RunStarted
from mapper.execute.executors import DaskExecutor, SerialExecutor, ThreadExecutor
from mapper.plan.context import make_context
from mapper.plan.plan import make_plan
from mapper.run.runner import run_plan
from mapper.store.map_store import MapStore
from mapper.store.record import Record
from mapper.text import describe_amount

START = datetime(2026, 1, 1, tzinfo=UTC)
PRICES = Prices(
    currency="EUR", date="2026-01-01", source="a test", vcpu_hour=1, gpu_hour=20, memory_gib_hour=0.5, read_gib=3,
    requests_1000=7, stored_gib_month=11, vcpus_per_worker=2, months_stored=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A map whose files are said to be remote."""
    folder = tmp_path_factory.mktemp("forecast")
    items = make_items(folder)
    for item in items:
        for asset in item["assets"].values():
            asset["href"] = f"https://archive.test{asset['href']}"
    context = make_context(make_spec(folder, model=save_network(folder)))
    plan = make_plan(context.spec, items, context=context)
    return plan, context, estimate_tasks(context, plan.tasks)


def ledger_of(planned, tiles, *, noise=0.0, device="cpu", run="pilot", times=2.0, **changes):
    """Records that took a multiple of what was estimated."""
    plan, _, estimate = planned
    rng = np.random.default_rng(5)
    records = []
    for k in tiles:
        took = times * (1 + noise * rng.standard_normal())
        record = Record(
            tile=plan.tasks[k].tile,
            task_id=plan.tasks[k].id,
            status="ok",
            run_id=run,
            device=device,
            started_at=START + timedelta(days=run != "pilot", seconds=k),
            seconds={
                "read": took * estimate.read_s[k],
                "predict": took * estimate.predict_s("cuda" if device.startswith("cuda") else "cpu")[k],
                "write": took * estimate.write_s[k],
            },
            requests=round(took * estimate.reads.requests[k]),
            bytes_read=round(took * estimate.reads.bytes_read[k]),
        )
        records.append(replace(record, **changes))
    return records


def forecast(planned, records=(), **options):
    plan, context, estimate = planned
    return make_forecast(plan, context, estimate, ledger=SimpleNamespace(records=lambda **_: iter(records)), **options)


def line(found, name, part="quantities"):
    return next(each for each in getattr(found, part) if each.name == name)


def test_without_a_tile_there_is_an_estimate_and_no_more(planned):
    plan, context, estimate = planned
    found = make_forecast(plan, context, estimate)
    assert (found.state, found.done, found.pilot, found.device) == ("new", 0, 0, "cpu")
    assert line(found, "requests").estimated == estimate.reads.requests.sum() > 0
    assert line(found, "bytes read").estimated == estimate.reads.bytes_read.sum() > 0
    assert line(found, "reading").estimated == pytest.approx(estimate.read_s.sum() / 3600)
    assert all(each.calibrated is None and each.actual is None for each in found.quantities)
    assert "0 tiles have run, 3 are needed" in found.summary()
    assert "--every 3" in found.summary()
    assert found.cost == ()


def test_hours_of_prediction_belong_to_the_device(planned):
    on_cpu, on_cuda = forecast(planned), forecast(planned, device="cuda")
    assert line(on_cpu, "GPU-hours").estimated == 0
    assert line(on_cuda, "GPU-hours").estimated == line(on_cuda, "prediction").estimated > 0
    stages = [line(on_cpu, name).estimated for name in ("reading", "prediction", "writing")]
    assert line(on_cpu, "CPU-hours").estimated == pytest.approx(sum(stages))
    ratio = line(on_cpu, "prediction").estimated / line(on_cuda, "prediction").estimated
    assert ratio == pytest.approx(PREDICT_SECONDS["cpu", True] / PREDICT_SECONDS["cuda", True])


def test_a_pilot_calibrates_every_quantity(planned):
    found = forecast(planned, ledger_of(planned, range(0, 16, 3)))
    assert (found.state, found.done, found.pilot) == ("pilot", 6, 6)
    for each in found.quantities:
        if each.estimated:
            assert each.calibrated == pytest.approx(2 * each.estimated, rel=2e-3)
            assert each.low <= each.calibrated <= each.high
            assert each.error == pytest.approx(-0.5, rel=2e-3)
    assert "calibrated by 6 tiles" in found.summary()
    assert "actual, 6 of 16 tiles" in found.summary()


def test_noisy_pilots_have_wider_ranges(planned):
    calm, noisy = (forecast(planned, ledger_of(planned, range(6), noise=noise)) for noise in (0.01, 0.3))
    widths = [line(found, "CPU-hours").high - line(found, "CPU-hours").low for found in (calm, noisy)]
    assert widths[1] > 10 * widths[0] > 0


def test_two_tiles_are_compared_but_do_not_calibrate(planned):
    found = forecast(planned, ledger_of(planned, range(2)))
    assert (found.done, found.pilot) == (2, 0)
    assert line(found, "reading").calibrated is None
    assert line(found, "reading").error == pytest.approx(-0.5)


def test_failed_and_stale_tiles_tell_nothing(planned):
    stale = ledger_of(planned, range(4), task_id="another")
    failed = ledger_of(planned, range(4, 9), status="failed")
    assert forecast(planned, [*stale, *failed]).done == 0


def test_empty_tiles_make_the_rest_cheaper(planned):
    full = ledger_of(planned, range(4))
    empty = ledger_of(planned, range(4, 8), status="empty", device="", seconds={"read": 0.0}, requests=4)
    found = forecast(planned, full + empty)
    assert found.pilot == 8
    assert line(found, "prediction").calibrated == pytest.approx(
        line(forecast(planned, full), "prediction").calibrated / 2
    )


def test_a_pilot_on_another_device_calibrates_all_but_prediction(planned):
    records = ledger_of(planned, range(6), device="cuda:1")
    assert forecast(planned, records).device == "cuda"
    found = forecast(planned, records, device="cpu")
    assert not found.predict_calibrated
    assert line(found, "reading").calibrated == pytest.approx(2 * line(found, "reading").estimated)
    assert line(found, "prediction").calibrated is None
    assert "no pilot ran on cpu" in found.summary()


def test_a_complete_map_is_held_against_its_pilot(planned):
    rest = [k for k in range(16) if k % 3]
    records = ledger_of(planned, range(0, 16, 3)) + ledger_of(planned, rest, run="main", times=2.2)
    found = forecast(planned, records)
    assert (found.state, found.done, found.pilot) == ("complete", 16, 6)
    reading = line(found, "reading")
    assert reading.calibrated == pytest.approx(2 * reading.estimated)
    assert reading.actual == pytest.approx(reading.estimated * 2.125, rel=0.02)
    assert reading.error == pytest.approx(1 / 2.125 - 1, abs=0.01)
    text = found.summary()
    assert "calibrated by 6 tiles of the first run" in text
    assert re.search(r"reading +[\d.]+ h +-53 % +[\d.]+ h +[\d.]+ - [\d.]+ h +-6 % +[\d.]+ h", text)


def test_a_map_made_in_one_run_has_no_pilot(planned):
    found = forecast(planned, ledger_of(planned, range(16)))
    assert (found.state, found.pilot) == ("complete", 0)
    assert line(found, "reading").error == pytest.approx(-0.5)
    assert "made in one run" in found.summary()


def test_the_cost_is_the_sum_of_what_is_used_at_its_price(planned):
    plan, _, estimate = planned
    found = forecast(planned, prices=PRICES, device="cuda")
    gib, hours = 1 << 30, {name: line(found, name).estimated for name in ("reading", "writing", "prediction")}
    memory = estimate.memory_bytes.max() / gib
    expected = {
        "vCPU": 2 * (hours["reading"] + hours["writing"]),
        "GPU": 20 * hours["prediction"],
        "memory": 0.5 * memory * sum(hours.values()),
        "reading": 3 * estimate.reads.bytes_read.sum() / gib,
        "requests": 7 * estimate.reads.requests.sum() / 1000,
        "storage": 11 * 4 * 16 * 40 * 40 * 8 / gib,
    }
    for name, cost in expected.items():
        assert line(found, name, "cost").estimated == pytest.approx(cost)
    total = sum(expected.values())
    assert line(found, "total", "cost").estimated == pytest.approx(total)
    assert line(found, "per tile", "cost").estimated == pytest.approx(total / len(plan))
    assert line(found, "per Mkm2", "cost").estimated == pytest.approx(total / estimate.area_km2.sum() * 1e6)
    assert {each.unit for each in found.cost} == {"EUR"}
    assert "prices of 2026-01-01: a test" in found.summary()


def test_the_cost_of_a_pilot_is_told_by_tile_of_the_pilot(planned):
    found = forecast(planned, ledger_of(planned, range(0, 16, 3)), prices=PRICES)
    total, per_tile = line(found, "total", "cost"), line(found, "per tile", "cost")
    assert per_tile.actual == pytest.approx(total.actual / 6)
    assert per_tile.calibrated == pytest.approx(total.calibrated / 16)
    assert total.low <= total.calibrated <= total.high
    assert line(found, "storage", "cost").calibrated is None


def test_a_forecast_is_json(planned):
    found = json.loads(json.dumps(forecast(planned, ledger_of(planned, range(4)), prices=PRICES).to_dict()))
    assert found["prices"]["currency"] == "EUR"
    assert {"name", "unit", "estimated", "calibrated", "low", "high", "actual", "expected", "error"} == set(
        found["quantities"][0]
    )


def test_a_real_pilot_foretells_a_real_run(tmp_path):
    items, spec = make_items(tmp_path), make_spec(tmp_path)
    context = make_context(spec)
    plan = make_plan(spec, items, context=context)
    estimate = estimate_tasks(context, plan.tasks)
    run_plan(make_plan(spec, items, context=context, only="::4"), context, spec.store, SerialExecutor())
    pilot = make_forecast(plan, context, estimate, ledger=MapStore.open(spec.store).ledger)
    run_plan(plan, context, spec.store, SerialExecutor())
    whole = make_forecast(plan, context, estimate, ledger=MapStore.open(spec.store).ledger)
    assert (pilot.state, pilot.pilot, whole.state, whole.pilot) == ("pilot", 4, "complete", 4)
    foretold, came = line(pilot, "CPU-hours"), line(whole, "CPU-hours")
    assert came.calibrated == pytest.approx(foretold.calibrated)
    assert came.actual > foretold.actual > 0
    assert line(whole, "requests").actual == 0


DEAR = Prices(
    currency="EUR", date="2026-01-01", source="nobody", vcpu_hour=3600, gpu_hour=0, read_gib=0, requests_1000=0,
    stored_gib_month=0,
)  # fmt: skip


@dataclass(frozen=True)
class Shown(ThreadExecutor):
    """Threads that have a page."""

    dashboard: str = "http://scheduler:8787/status"


def test_actual_stands_beside_estimated_for_the_tiles_that_have_run(tmp_path):
    spec = make_spec(tmp_path, tile=100)
    context = make_context(spec)
    plan = make_plan(spec, make_items(tmp_path), context=context)
    MapStore.create(spec.store, context.product)
    assert compare(forecast_again(plan, context)) == ""
    told = []
    report = run_plan(plan, context, spec.store, Shown(2), callbacks=[told.append])
    line = compare(forecast_again(plan, context, DEAR))
    seconds = MapStore.open(spec.store).ledger.totals.seconds
    cost = seconds["read"] + seconds["predict"] + seconds["write"]
    assert line.startswith(f"took (estimated), {report.tiles} tiles: CPU-hours {describe_amount(cost / 3600, 'h')} (")
    assert f"cost in EUR: total {describe_amount(cost, 'EUR')} (" in line
    assert f"per tile {describe_amount(cost / report.tiles, 'EUR')} (" in line
    assert "per Mkm2" in line
    begin = next(event for event in told if isinstance(event, RunStarted))
    assert (begin.name, begin.dashboard) == ("little-map", "http://scheduler:8787/status")


def test_a_dask_cluster_tells_its_page_by_client_and_by_address():
    options = {"dashboard_address": "127.0.0.1:0", "host": "127.0.0.1", "protocol": "tcp"}
    with (
        LocalCluster(n_workers=0, processes=False, **options) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        page = f"http://127.0.0.1:{cluster.scheduler.http_server.port}/status"
        assert DaskExecutor(cluster=client).dashboard == page
        assert DaskExecutor(cluster=cluster.scheduler_address).dashboard == page
