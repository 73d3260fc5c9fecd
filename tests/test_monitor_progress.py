"""What people and machines hear of a run."""

import io
import json

from rich.console import Console

from mapper.events import BatchCommitted, ReadRetried, RunFinished, RunStarted, TileFinished, TileResult
from mapper.monitor.progress import EventLog, ProgressBar
from mapper.run.report import RunReport, TileFailure
from mapper.store.totals import DeviceUse, Totals, WorkerUse

EVENTS = [
    RunStarted(run_id="r", tiles=3, skipped=1),
    ReadRetried(tile=(0, 0), host="h", item="i", asset="B04", reason="HTTP 429", attempt=1, wait_s=0.5),
    TileFinished(
        tile=(0, 0), result=TileResult(status="ok", seconds={"read": 3.0, "predict": 1.0}, valid_px=2_000_000)
    ),
    TileFinished(tile=(0, 1), result=TileResult(status="failed", reason="OSError: gone")),
    BatchCommitted(snapshot="S", tiles=2, seconds=0.1),
    RunFinished(done=1, empty=0, failed=1, seconds=4.0),
]


def test_the_bar_shows_tiles_rate_failures_and_the_stage_that_takes_most():
    out = io.StringIO()
    bar = ProgressBar(Console(file=out, width=160, force_terminal=True, color_system=None))
    for event in EVENTS:
        bar(event)
    last = out.getvalue()
    for text in ("3/4", "tiles/s", "Mpx/s", "mostly read", "1 failed"):
        assert text in last


def test_a_narrow_terminal_is_told_less_but_nothing_is_cut_off():
    out = io.StringIO()
    bar = ProgressBar(Console(file=out, width=80, force_terminal=True, color_system=None))
    for event in EVENTS:
        bar(event)
    last = [line for line in out.getvalue().splitlines() if "3/4" in line][-1]
    assert "…" not in last
    assert "Mpx/s" not in last
    assert "mostly read, 1 failed" in last


def test_a_run_with_nothing_to_do_shows_no_bar():
    out = io.StringIO()
    bar = ProgressBar(Console(file=out, force_terminal=True))
    bar(RunStarted(run_id="r", tiles=0, skipped=9))
    bar(RunFinished(done=0, empty=0, failed=0, seconds=0.0))
    assert out.getvalue().strip() == ""


def test_the_log_has_one_json_line_for_each_event_and_is_appended_to(tmp_path):
    path = tmp_path / "logs" / "run.jsonl"
    for _ in range(2):
        log = EventLog(path)
        for event in EVENTS:
            log(event)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == 2 * [type(event).__name__ for event in EVENTS]
    assert (lines[1]["tile"], lines[1]["reason"], lines[1]["wait_s"]) == ([0, 0], "HTTP 429", 0.5)
    assert lines[2]["tile"] == [0, 0]
    assert lines[2]["seconds"] == {"read": 3.0, "predict": 1.0}
    assert all(line["time"].endswith("+00:00") for line in lines)


def report(*, failed=0, stage_seconds=None, sums=None, **changes):
    """A report of nine tiles that took two seconds, with some of their sums."""
    sums = {"tiles": {"ok": 9, "failed": failed}, "pixels": 8_000_000, "seconds": stage_seconds or {}} | (sums or {})
    known = {"run_id": "r", "tiles": 9, "skipped": 1, "commits": 2, "snapshot": "S", "seconds": 2.0}
    return RunReport(totals=Totals(**sums), **(known | changes))


def held(seconds, *, slots):
    """Sums of one worker whose device was held for some seconds."""
    use = WorkerUse(worker="a:1", tiles=1, device_s=seconds)
    return {"workers": {"a:1": use}, "devices": {"a cpu": DeviceUse(slots=slots, seconds=seconds)}}


def test_a_report_knows_its_exit_code_rate_and_bottleneck():
    good = report(stage_seconds={"read": 1.0, "predict": 3.0})
    assert (good.exit_code, good.megapixels_per_second, good.bottleneck) == (0, 4.0, "predict")
    assert json.loads(json.dumps(good.to_dict()))["exit_code"] == 0
    assert report(stopped="interrupted by SIGTERM").exit_code == 1
    failures = tuple(TileFailure(tile=(0, k), reason="OSError: gone") for k in range(12))
    bad = report(failed=12, failures=failures)
    assert bad.exit_code == 1
    assert "failed: tile 0,0: OSError: gone" in bad.summary()
    assert "failed: 2 more" in bad.summary()
    busy = report(sums={"requests": 17, "bytes_read": 12_345_678, "retries": {"timed out": 1, "HTTP 429": 2}})
    assert "read: 17 requests, 12.3 MB; put again: 2 HTTP 429, 1 timed out" in busy.summary()
    assert "put again" not in report(sums={"requests": 17}).summary()
    assert "read:" not in good.summary()
    assert report(tiles=0, skipped=9).summary() == "nothing to do: 9 tiles are up to date"


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_run_that_goes_on_begins_where_the_last_one_ended():
    out = io.StringIO()
    bar = ProgressBar(Console(file=out, width=160, force_terminal=True, color_system=None))
    bar(RunStarted(run_id="r", tiles=4, skipped=6))
    bar(RunFinished(done=0, empty=0, failed=0, seconds=0.0))
    assert "6/10 60 %" in out.getvalue()


def log_of(events, *, skipped=0, tiles=100):
    """Lines of a run without a terminal; events are seconds that pass before a tile comes."""
    out, clock = io.StringIO(), Clock()
    result = TileResult(status="ok", seconds={"read": 3.0, "wait": 9.0}, valid_px=2_000_000)
    bar = ProgressBar(Console(file=out, width=80, force_terminal=False), clock=clock)
    bar(RunStarted(run_id="r", tiles=tiles, skipped=skipped, dashboard="http://scheduler:8787/status"))
    for seconds in events:
        clock.now += seconds
        bar(TileFinished(tile=(0, 0), result=result))
    bar(RunFinished(done=1, empty=0, failed=1, seconds=4.0))
    return out.getvalue().splitlines()


def test_without_a_terminal_there_is_a_line_a_minute_with_rate_and_time_left():
    link, begin, *lines = log_of([6.0] * 40, skipped=100)
    assert link == "dashboard of the cluster: http://scheduler:8787/status"
    assert begin.endswith("Z 100 of 200 tiles (50.0 %)")
    assert [line.partition("Z ")[2] for line in lines] == [
        f"{100 + n} of 200 tiles ({(100 + n) / 2:.1f} %), 0.167 tiles/s, 0.333 Mpx/s, {left} left, mostly read"
        for n, left in ((10, "9 min 0 s"), (20, "8 min 0 s"), (30, "7 min 0 s"), (40, "6 min 0 s"))
    ]


def test_the_last_line_of_a_log_says_how_far_the_run_came():
    *_, last = log_of([1.0] * 7, tiles=7)
    assert "7 of 7 tiles (100.0 %)" in last
    assert "left" not in last


def test_a_rate_follows_the_last_lines():
    *_, last = log_of([60.0] * 30 + [6.0] * 100, tiles=1000)
    assert "0.167 tiles/s" in last


def test_waiting_is_told_apart_from_work_and_devices_by_their_share():
    stages = {"read": 1.0, "predict": 3.0, "wait": 60.0}
    one = report(stage_seconds=stages, sums=held(3.0, slots=2))
    assert (one.bottleneck, one.device_share) == ("predict", 0.75)
    text = one.summary()
    assert "seconds of work: read 1.0 s, predict 3.0 s, waiting for a device 60.0 s; devices busy 75 % of" in text
    assert report(stage_seconds=stages | {"read": 9.0}, sums=held(3.9, slots=2)).bottleneck == "predict"
    assert report(stage_seconds=stages | {"read": 9.0}, commit_s=1.9).bottleneck == "commit"
    assert report(stage_seconds=stages | {"read": 9.0}).bottleneck == "read"
    assert json.loads(json.dumps(one.to_dict()))["device_busy"] == 0.75
