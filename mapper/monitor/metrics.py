"""Metrics of a run for Prometheus: a callback that counts events, and a page on a port of the driver.

All names begin with ``mapper_``. Counters begin at 0 with each run: what a map took over all its runs is in its store,
see :mod:`mapper.monitor.status`. Needs prometheus-client, of the extra ``worker``.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Info, start_http_server

from mapper.errors import InputError
from mapper.events import (
    BatchCommitted,
    Event,
    ReadRetried,
    RunFinished,
    RunStarted,
    TileFinished,
    TileResult,
    TileRetried,
)
from mapper.store.totals import Totals

STATUSES = ("ok", "empty", "failed")
STAGES = ("read", "predict", "wait", "write")


class RunMetrics:
    """Counts the events of one run.

    Args:
        registry: Where the metrics live.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def count(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"mapper_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"mapper_{name}", text, labels, registry=registry)

        self._info = Info("mapper_run", "The run and its map.", registry=registry)
        self._running = gauge("running", "1 from the begin of the run to its end.")
        self._due = gauge("tiles_due", "Tiles that this run is to compute.")
        self._skipped = gauge("tiles_up_to_date", "Tiles that were up to date when this run began.")
        self._tiles = count("tiles", "Tiles that came back, by status.", "status")
        self._pixels = count("pixels", "Valid target pixels.")
        self._stages = count("stage_seconds", "Seconds of tiles by stage; wait is for a taken device.", "stage")
        self._device = count("device_seconds", "Seconds that devices were held by predictions.", "device")
        self._slots = gauge("device_slots", "Tiles that a device takes at once.", "device")
        self._requests = count("read_requests", "Requests to archives.")
        self._bytes = count("read_bytes", "Bytes from archives.")
        self._retries = count("read_retries", "Requests that were put again, by reason.", "reason")
        self._attempts = count("tile_retries", "Tiles that were tried again.")
        self._failures = count("failures", "Failed tiles, by kind of error.", "error")
        self._commits = count("commits", "Commits.")
        self._committed = count("committed_tiles", "Tiles in commits.")
        self._commit_s = count("commit_seconds", "Seconds of committing.")
        self._last = gauge("last_commit_timestamp_seconds", "Time of the last commit; of the begin before the first.")
        for status in STATUSES:  # so that a rate is there before the first of its kind
            self._tiles.labels(status)
        for stage in STAGES:
            self._stages.labels(stage)

    def __call__(self, event: Event) -> None:
        """Count one event."""
        if isinstance(event, RunStarted):
            self._begin(event)
        elif isinstance(event, TileFinished):
            self._count_tile(event.result)
        elif isinstance(event, TileRetried):
            self._attempts.inc()
        elif isinstance(event, ReadRetried):
            self._retries.labels(event.reason).inc()
        elif isinstance(event, BatchCommitted):
            self._commits.inc()
            self._committed.inc(event.tiles)
            self._commit_s.inc(event.seconds)
            self._last.set(time.time())
        elif isinstance(event, RunFinished):
            self._running.set(0)

    def _begin(self, event: RunStarted) -> None:
        self._info.info({"run_id": event.run_id, "map": event.name, "dashboard": event.dashboard})
        self._running.set(1)
        self._due.set(event.tiles)
        self._skipped.set(event.skipped)
        self._last.set(time.time())

    def _count_tile(self, result: TileResult) -> None:
        added = Totals().plus(result)
        self._tiles.labels(result.status).inc()
        self._pixels.inc(added.pixels)
        self._requests.inc(added.requests)
        self._bytes.inc(added.bytes_read)
        for stage, seconds in added.seconds.items():
            self._stages.labels(stage).inc(max(0.0, seconds))
        for name, device in added.devices.items():
            self._device.labels(name).inc(device.seconds)
            self._slots.labels(name).set(device.slots)
        if result.status == "failed":
            self._failures.labels(result.reason.partition(":")[0]).inc()


@contextmanager
def serve_metrics(port: int, address: str = "127.0.0.1") -> Iterator[tuple[RunMetrics, int]]:
    """Serve the metrics of one run on ``http://ADDRESS:PORT/metrics`` until the block ends.

    Args:
        port: 0 takes a free one.
        address: By default of this machine alone; ``0.0.0.0`` for whoever reaches it.

    Yields:
        The callback to give to the run, and the port.

    Raises:
        InputError: If the port is taken, or the address is not of this machine.
    """
    registry = CollectorRegistry()
    try:
        server, thread = start_http_server(port, addr=address, registry=registry)
    except OSError as error:
        raise InputError(
            f"metrics cannot be served on {address}:{port}: {error.strerror}; give another --metrics-port"
        ) from error
    try:
        yield RunMetrics(registry), int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
