"""Sums over tiles: the one module that adds up what they took, for a run, its workers, its metrics and its price.

The totals of a store are kept with every commit, as an attribute of the group ``ledger``, so that nobody adds them
up: reading them costs the same after one commit or ten thousand, and those of an older version say how far the work was
then. Batches of a mapper that kept none are added up from their records.

A device is held while a window is on it; waiting for it is counted apart. A GPU is a device for each worker process; a
CPU is one for each host, however many processes share it, and takes as many windows at once as it has cores.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import zarr
from zarr.abc.store import Store

from mapper.events import TileResult
from mapper.store.ledger_arrays import read_blob
from mapper.store.parquet import load_records
from mapper.store.record import Record

_ATTRIBUTE = "totals"
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = ("at", "run_started")
_NOT_STORED = ("workers", "devices")
"""Fields that grow with the cluster: of a run while it works, never in the store."""


@dataclass(frozen=True, kw_only=True)
class WorkerUse:
    """Work of one worker process."""

    worker: str
    tiles: int = 0
    seconds: float = 0.0
    """Seconds at work on its tiles, all stages but waiting for a device."""
    device_s: float = 0.0
    """Seconds that it held its device."""

    def plus(self, result: TileResult) -> "WorkerUse":
        """Return the work with one more tile."""
        worked = sum(result.seconds.values()) - result.seconds.get("wait", 0.0)
        return WorkerUse(
            worker=self.worker,
            tiles=self.tiles + 1,
            seconds=self.seconds + worked,
            device_s=self.device_s + result.device_s,
        )


@dataclass(frozen=True, kw_only=True)
class DeviceUse:
    """Use of one device."""

    slots: int
    """Windows that it takes at once."""
    seconds: float
    """Seconds that it was held."""


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Sums over tiles, up to a commit; tiles that failed or were made again count each time."""

    batches: int = 0
    at: datetime = _LONG_AGO
    """Time at which the last batch was assembled."""
    tiles: dict[str, int] = field(default_factory=dict)
    """Tiles by status: ok, empty, failed."""
    pixels: int = 0
    """Valid target pixels."""
    requests: int = 0
    bytes_read: int = 0
    retries: dict[str, int] = field(default_factory=dict)
    """Requests that were repeated, by reason."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds by stage: read, predict, wait, write."""
    gpu_s: float = 0.0
    """Seconds of predict that ran on a GPU."""
    wall_s: float = 0.0
    """Seconds from the begin of each run to its last commit."""
    runs: int = 0
    """Runs that committed: restarts count."""
    run_id: str = ""
    run_started: datetime = _LONG_AGO
    tiles_before: int = 0
    pixels_before: int = 0
    batches_before: int = 0
    """Tiles, pixels and batches of earlier runs."""
    workers: Mapping[str, WorkerUse] = field(default_factory=dict)
    """Work by worker; of tiles that name none, the seconds alone are known."""
    devices: Mapping[str, DeviceUse] = field(default_factory=dict)
    """Use by device."""

    @property
    def attempted(self) -> int:
        """Tiles of any status."""
        return sum(self.tiles.values())

    @property
    def device_s(self) -> float:
        """Seconds that devices were held, all together."""
        return float(sum(use.device_s for use in self.workers.values()))

    @property
    def device_slots(self) -> int:
        """Windows that all devices take at once."""
        return sum(device.slots for device in self.devices.values())

    def device_share(self, wall_s: float) -> float | None:
        """Return the part of some wall time that devices were held, 0 to 1; None where nothing was predicted."""
        possible = wall_s * self.device_slots
        return self.device_s / possible if possible else None

    def rank_workers(self) -> tuple[WorkerUse, ...]:
        """Return every worker, the least used first."""
        return tuple(sorted(self.workers.values(), key=lambda use: (use.seconds, use.worker)))

    def plus(self, *results: TileResult) -> "Totals":
        """Return the totals with some more tiles."""
        predicted = [result for result in results if result.device.startswith("cuda")]
        seconds = dict(self.seconds)
        for result in results:
            seconds = _add(seconds, result.seconds)
        return replace(
            self,
            tiles=_add(self.tiles, Counter[str](result.status for result in results)),
            pixels=self.pixels + sum(result.valid_px for result in results),
            requests=self.requests + sum(result.requests for result in results),
            bytes_read=self.bytes_read + sum(result.bytes_read for result in results),
            retries=_add(self.retries, Counter(retry.reason for result in results for retry in result.retries)),
            seconds=seconds,
            gpu_s=self.gpu_s + sum(result.seconds.get("predict", 0.0) for result in predicted),
            workers=_add_workers(self.workers, results),
            devices=_add_devices(self.devices, results),
        )

    def plus_batch(self, records: Sequence[Record], *, run_id: str, started: datetime, at: datetime) -> "Totals":
        """Return the totals with one more batch, of a run that began at ``started``."""
        before = self if run_id == self.run_id and self.runs else self._begin_run(run_id, started)
        return replace(
            before.plus(*records),
            batches=self.batches + 1,
            at=at,
            wall_s=self.wall_s + max(0.0, (at - max(before.at, before.run_started)).total_seconds()),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what is stored, for JSON."""
        content = asdict(replace(self, workers={}, devices={}))
        for name in _NOT_STORED:
            del content[name]
        return content | {name: getattr(self, name).isoformat() for name in _TIMES}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Totals":
        """Return the totals that JSON holds; what a newer mapper added is left out."""
        known = {each.name for each in fields(cls)}
        times = {name: datetime.fromisoformat(content[name]) for name in _TIMES}
        return cls(**({name: value for name, value in content.items() if name in known} | times))

    def _begin_run(self, run_id: str, started: datetime) -> "Totals":
        return replace(
            self,
            runs=self.runs + 1,
            run_id=run_id,
            run_started=started,
            tiles_before=self.attempted,
            pixels_before=self.pixels,
            batches_before=self.batches,
        )


def name_device(worker: str, device: str) -> str:
    """Return what tells a device from others: its host for a CPU, its worker for a GPU."""
    return f"{worker.rpartition(':')[0] if device == 'cpu' else worker} {device}"


def read_totals(store: Store) -> Totals:
    """Read the totals at one version of a store."""
    attributes = zarr.open_group(store, path="ledger", mode="r").attrs
    totals = Totals.of(attributes[_ATTRIBUTE]) if _ATTRIBUTE in attributes else Totals()  # type: ignore[arg-type]
    return _add_up(store, totals, zarr.open_array(store, path="ledger/blobs", mode="r").shape[0])


def add_totals(store: Store, records: Sequence[Record], *, batch: int, run_id: str, started: datetime) -> None:
    """Add one batch to the totals, in the session that is to commit it.

    Args:
        store: Zarr store of the session; it holds the batch already.
        records: Of the batch.
        batch: Its number.
        run_id: Who commits it.
        started: When that run began.
    """
    group = zarr.open_group(store, path="ledger", mode="r+")
    totals = Totals.of(group.attrs[_ATTRIBUTE]) if _ATTRIBUTE in group.attrs else Totals()  # type: ignore[arg-type]
    totals = _add_up(store, totals, batch - 1)
    totals = totals.plus_batch(records, run_id=run_id, started=started, at=datetime.now(UTC))
    group.attrs[_ATTRIBUTE] = totals.to_dict()


def _add_up(store: Store, totals: Totals, last: int) -> Totals:
    """Return totals with the batches up to ``last`` that a mapper committed which kept none."""
    for batch in range(totals.batches + 1, last + 1):
        records = load_records(read_blob(store, batch), items=False)
        begins = [record.started_at for record in records if record.started_at]
        ends = [_end_of(record) for record in records if record.started_at]
        run_id = records[-1].run_id if records else totals.run_id
        started, at = min(begins, default=totals.at), max(ends, default=totals.at)
        totals = totals.plus_batch(records, run_id=run_id, started=started, at=max(at, totals.at))
    return totals


def _end_of(record: Record) -> datetime:
    return (record.started_at or _LONG_AGO) + timedelta(seconds=sum(record.seconds.values()))


def _add_workers(workers: Mapping[str, WorkerUse], results: Iterable[TileResult]) -> dict[str, WorkerUse]:
    found = dict(workers)
    for result in results:
        if result.worker:
            found[result.worker] = found.get(result.worker, WorkerUse(worker=result.worker)).plus(result)
    return found


def _add_devices(devices: Mapping[str, DeviceUse], results: Iterable[TileResult]) -> dict[str, DeviceUse]:
    found = dict(devices)
    for result in results:
        if result.worker and result.device and result.device_slots:
            name = name_device(result.worker, result.device)
            held = found[name].seconds if name in found else 0.0
            found[name] = DeviceUse(slots=result.device_slots, seconds=held + result.device_s)
    return found


def _add(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
