"""What Prometheus reads from a run: served over HTTP, in its own format, with the sums of the run's report."""

import sys
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from run_maps import make_items, make_spec

from mapper.cli.run_callbacks import open_callbacks
from mapper.errors import InputError
from mapper.events import BatchCommitted, ReadRetried, RunStarted, TileFinished, TileResult, TileRetried
from mapper.execute.executors import ThreadExecutor
from mapper.monitor.metrics import serve_metrics
from mapper.plan.context import make_context
from mapper.plan.plan import make_plan
from mapper.run.runner import run_plan


def scrape(port):
    """Value of every sample by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples
    }


def test_a_run_can_be_scraped_while_it_works_and_tells_what_its_report_tells(tmp_path):
    spec = make_spec(tmp_path, tile=100)
    context = make_context(spec)
    plan = make_plan(spec, make_items(tmp_path), context=context)
    during = []
    with serve_metrics(0, "127.0.0.1") as (metrics, port):

        def look(event):
            if isinstance(event, BatchCommitted):
                during.append(scrape(port))

        report = run_plan(plan, context, spec.store, ThreadExecutor(2), callbacks=[metrics, look])
        after = scrape(port)
        again = run_plan(plan, context, spec.store, ThreadExecutor(2), callbacks=[metrics])
        idle = scrape(port)
    assert during[0][("mapper_running",)] == 1
    assert after[("mapper_running",)] == 0
    assert after[("mapper_tiles_total", ("status", "ok"))] == report.done > 0
    assert after[("mapper_tiles_total", ("status", "failed"))] == 0
    assert after[("mapper_tiles_due",)] == report.tiles
    assert after[("mapper_pixels_total",)] == report.totals.pixels
    for stage in ("read", "predict", "wait", "write"):
        assert after[("mapper_stage_seconds_total", ("stage", stage))] == pytest.approx(report.totals.seconds[stage])
    assert sum(value for (name, *_), value in after.items() if name == "mapper_device_seconds_total") == (
        pytest.approx(report.totals.device_s)
    )
    assert after[("mapper_commits_total",)] == report.commits == len(during)
    assert after[("mapper_commit_seconds_total",)] == pytest.approx(report.commit_s)
    assert ("run_id", report.run_id) in next(labels for (name, *labels) in after if name == "mapper_run_info")
    assert idle[("mapper_tiles_up_to_date",)] == again.skipped == report.done


def test_retries_and_failures_are_counted_by_reason():
    result = TileResult(status="failed", reason="AssetError: a: gone", requests=3, bytes_read=10)
    failed = TileFinished(tile=(0, 0), result=result)
    with serve_metrics(0, "127.0.0.1") as (metrics, port):
        metrics(RunStarted(run_id="r", tiles=9, skipped=1, name="little"))
        for reason in ("HTTP 429", "HTTP 429", "timed out"):
            metrics(ReadRetried(tile=(0, 0), host="h", item="i", asset="a", reason=reason, attempt=1, wait_s=0.1))
        metrics(TileRetried(tile=(0, 0), attempt=2, reason="lost"))
        metrics(failed)
        seen = scrape(port)
    assert seen[("mapper_read_retries_total", ("reason", "HTTP 429"))] == 2
    assert seen[("mapper_read_retries_total", ("reason", "timed out"))] == 1
    assert seen[("mapper_tile_retries_total",)] == 1
    assert seen[("mapper_failures_total", ("error", "AssetError"))] == 1
    assert (seen[("mapper_read_requests_total",)], seen[("mapper_read_bytes_total",)]) == (3, 10)


def test_a_taken_port_is_said_before_the_run():
    with (
        serve_metrics(0, "127.0.0.1") as (_, port),
        pytest.raises(InputError, match=f"metrics cannot be served on 127.0.0.1:{port}"),
        serve_metrics(port, "127.0.0.1"),
    ):
        pass


def test_without_its_package_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mapper.monitor.metrics", None)
    with pytest.raises(InputError, match=r"pip install 'mapper\[worker\]'"), open_callbacks(None, 0):
        pass


def test_without_a_port_nothing_is_served(tmp_path):
    with open_callbacks(tmp_path / "run.jsonl", None) as callbacks:
        assert [type(each).__name__ for each in callbacks] == ["ProgressBar", "EventLog"]
