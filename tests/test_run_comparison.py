"""At its end a run says what the map took against what was estimated; at its begin, where its cluster shows itself."""

from dataclasses import dataclass

from distributed import Client, LocalCluster
from run_maps import make_items, make_spec

from mapper.cost.forecast import compare, forecast_again
from mapper.cost.prices import Prices
from mapper.events import RunStarted
from mapper.execute.executors import DaskExecutor, ThreadExecutor
from mapper.plan.context import make_context
from mapper.plan.plan import make_plan
from mapper.run.runner import run_plan
from mapper.store.map_store import MapStore
from mapper.text import describe_amount

PRICES = Prices(
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
    line = compare(forecast_again(plan, context, PRICES))
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
