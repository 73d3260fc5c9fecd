"""Running totals of a store: what all work on it took, kept with every commit, so that nobody has to add it up.

They are an attribute of the group ``ledger``. Reading them costs the same after one commit or ten thousand, and those
of an older version say how far the work was then. Batches of a mapper that kept none are added up from their records.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import zarr
from zarr.abc.store import Store

from mapper.store.ledger_arrays import read_blob
from mapper.store.parquet import load_records
from mapper.store.record import Record

_ATTRIBUTE = "totals"
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = ("at", "run_started")


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What all work up to a commit took; tiles that failed or were made again count each time."""

    batches: int = 0
    at: datetime = _LONG_AGO
    """When the last batch was put together."""
    tiles: dict[str, int] = field(default_factory=dict)
    """By status: ok, empty, failed."""
    pixels: int = 0
    """Valid target pixels."""
    requests: int = 0
    bytes_read: int = 0
    retries: dict[str, int] = field(default_factory=dict)
    """Requests that were put again, by reason."""
    seconds: dict[str, float] = field(default_factory=dict)
    """By stage: read, predict, wait, write."""
    gpu_s: float = 0.0
    """Those of predict that ran on a GPU."""
    wall_s: float = 0.0
    """From the begin of each run to its last commit."""
    runs: int = 0
    """Runs that committed: restarts count."""
    run_id: str = ""
    run_started: datetime = _LONG_AGO
    tiles_before: int = 0
    pixels_before: int = 0
    batches_before: int = 0
    """What earlier runs did."""

    @property
    def attempted(self) -> int:
        """Tiles of any status."""
        return sum(self.tiles.values())

    def plus(self, records: Sequence[Record], *, run_id: str, started: datetime, at: datetime) -> "Totals":
        """With one more batch, of a run that began at ``started``."""
        before = self if run_id == self.run_id and self.runs else self._begin_run(run_id, started)
        return replace(
            before,
            batches=self.batches + 1,
            at=at,
            tiles=_add(self.tiles, Counter[str](record.status for record in records)),
            pixels=self.pixels + sum(record.valid_px for record in records),
            requests=self.requests + sum(record.requests for record in records),
            bytes_read=self.bytes_read + sum(record.bytes_read for record in records),
            retries=_add(self.retries, Counter(retry.reason for record in records for retry in record.retries)),
            seconds=_add(self.seconds, _sum_stages(records)),
            gpu_s=self.gpu_s + sum(r.seconds.get("predict", 0.0) for r in records if r.device.startswith("cuda")),
            wall_s=self.wall_s + max(0.0, (at - max(before.at, before.run_started)).total_seconds()),
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {name: getattr(self, name).isoformat() for name in _TIMES}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Totals":
        """From JSON; what a newer mapper added is left out."""
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


def read_totals(store: Store) -> Totals:
    """The totals at one version of a store."""
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
    totals = totals.plus(records, run_id=run_id, started=started, at=datetime.now(UTC))
    group.attrs[_ATTRIBUTE] = totals.to_dict()


def _add_up(store: Store, totals: Totals, last: int) -> Totals:
    """Totals with the batches up to ``last`` that a mapper committed which kept none."""
    for batch in range(totals.batches + 1, last + 1):
        records = load_records(read_blob(store, batch), items=False)
        begins = [record.started_at for record in records if record.started_at]
        ends = [_end_of(record) for record in records if record.started_at]
        run_id = records[-1].run_id if records else totals.run_id
        started, at = min(begins, default=totals.at), max(ends, default=totals.at)
        totals = totals.plus(records, run_id=run_id, started=started, at=max(at, totals.at))
    return totals


def _end_of(record: Record) -> datetime:
    return (record.started_at or _LONG_AGO) + timedelta(seconds=sum(record.seconds.values()))


def _sum_stages(records: Iterable[Record]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for record in records:
        sums = _add(sums, record.seconds)
    return sums


def _add(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}
