"""The dashboard is one that Grafana takes, and asks for nothing that nobody serves."""

import json
import re
import urllib.request
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from kustomized import kustomize, needs_kubectl
from prometheus_client.parser import text_string_to_metric_families

from mapper.events import BatchCommitted, ReadRetried, RunStarted, TileFinished, TileResult, TileRetried
from mapper.monitor.metrics import serve_metrics

FOLDER = Path(__file__).parents[1] / "deploy" / "grafana"
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
UNITS = {"short", "percentunit", "s", "Bps", "reqps", "bytes"}
EVENTS = [
    RunStarted(run_id="r", tiles=2, skipped=1, name="little"),
    ReadRetried(tile=(0, 0), host="h", item="i", asset="a", reason="HTTP 429", attempt=1, wait_s=0.1),
    TileRetried(tile=(0, 0), attempt=2, reason="lost"),
    TileFinished(tile=(0, 0), result=TileResult(status="failed", reason="OSError: gone")),
    TileFinished(
        tile=(0, 1),
        result=TileResult(status="ok", worker="a:1", device="cuda", device_s=1.0, device_slots=1, valid_px=9),
    ),
    BatchCommitted(snapshot="S", tiles=2, seconds=0.1),
]


def served_at(url):
    """Names and labels of all samples."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:  # noqa: S310 - of this test
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {(sample.name, frozenset(sample.labels)) for family in families for sample in family.samples}


@pytest.fixture(scope="module")
def served():
    """What a driver, a scheduler and a worker expose."""
    with serve_metrics(0, "127.0.0.1") as (metrics, port):
        for event in EVENTS:
            metrics(event)
        found = served_at(f"http://127.0.0.1:{port}")
    options = {"dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", **options) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.submit(sum, [1, 2]).result()
        found |= served_at(f"http://127.0.0.1:{cluster.scheduler.http_server.port}")
        found |= served_at(f"http://127.0.0.1:{next(iter(cluster.workers.values())).http_server.port}")
    return found


def queries():
    return [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]


@pytest.mark.parametrize(("title", "query"), queries())
def test_every_metric_of_a_query_is_served_with_the_labels_it_is_asked_by(served, title, query):
    names = set(re.findall(r"\b((?:mapper|dask)_\w+)", query))
    assert names, title
    assert names <= {name for name, _ in served}
    by_name = {name: {label for n, labels in served if n == name for label in labels} for name in names}
    labels = {label for group in re.findall(r"\bby \(([^)]*)\)", query) for label in re.split(r",\s*", group)}
    labels |= set(re.findall(r"[{,](\w+)=", query))
    assert labels - {"namespace", "instance"} <= set().union(*by_name.values())


def test_a_query_for_what_nobody_serves_would_be_seen(served):
    assert "mapper_tiles" not in {name for name, _ in served}
    assert "mapper_tiles_total" in {name for name, _ in served}


def test_every_panel_has_a_place_of_its_own_a_unit_and_the_chosen_source():
    taken = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        assert {panel["datasource"]["uid"], *(t["datasource"]["uid"] for t in panel["targets"])} == {"${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)


def test_variables_of_queries_are_declared():
    declared = {variable["name"]: variable["type"] for variable in DASHBOARD["templating"]["list"]}
    assert declared == {"datasource": "datasource", "namespace": "query"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD)))
    assert used == set(declared)


def test_parentheses_of_queries_are_closed():
    for _, query in queries():
        assert query.count("(") == query.count(")")
        assert query.count("{") == query.count("}")
        assert query.count('"') % 2 == 0


@needs_kubectl
def test_kustomize_makes_a_config_map_that_grafana_collects():
    (made,) = kustomize(FOLDER)
    assert made["kind"] == "ConfigMap"
    assert made["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert json.loads(made["data"]["dashboard.json"]) == DASHBOARD
