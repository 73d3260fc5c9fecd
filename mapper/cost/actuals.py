"""What the tiles of a plan took that have run and are up to date: as arrays, however many there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import numpy.typing as npt

from mapper.arrays import BoolArray, Float64Array
from mapper.cost.estimate import Device
from mapper.cost.ratio_estimator import FEWEST_TILES
from mapper.plan.plan import Plan
from mapper.store.ledger import Ledger
from mapper.store.record import Record

QUANTITIES = ("requests", "bytes", "read", "predict_cpu", "predict_cuda", "write", "stored")
"""Requests, bytes, seconds by stage and device, bytes stored before compression: columns of arrays."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Actuals:
    """What was spent on each task of a plan; the arrays are filled by :func:`read_actuals` only."""

    spent: Float64Array
    """(task, quantity)."""
    known: BoolArray
    """(task,): whether it has run and did not fail."""
    ok: BoolArray
    """Of those, the ones that are not empty."""
    device: npt.NDArray[np.int8]
    """-1: none was named, 0: cpu, 1: cuda."""
    in_first_run: BoolArray
    """Whether it stands as the first of all runs left it."""

    @property
    def done(self) -> int:
        """Tasks that have run."""
        return int(self.known.sum())

    def common_device(self) -> Device:
        """What most ran on; the CPU if none did."""
        cpu, cuda = (int((self.device == kind).sum()) for kind in (0, 1))
        return "cuda" if cuda > cpu else "cpu"

    def choose_pilot(self, device: Device) -> tuple[BoolArray, BoolArray, bool]:
        """Tiles that are known, those of them that calibrate, and whether these ran on the right kind of device.

        Empty tiles are part of a pilot: the rest will have its share of them.
        """
        known = self.known
        if known.all() and len(known):
            known = self.in_first_run
        if known.all() or (known & self.ok).sum() < FEWEST_TILES:
            return known, np.zeros(len(known), bool), False
        on_device = known & (self.device != (0 if device == "cuda" else 1))
        if (on_device & self.ok).sum() >= FEWEST_TILES:
            return known, on_device, True
        return known, known, False


def device_kind(device: str) -> Device:
    """The kind of a device that a record names."""
    return "cuda" if device.startswith("cuda") else "cpu"


def read_actuals(plan: Plan, ledger: Ledger | None, *, stored: int) -> Actuals:
    """Go through the records of a store, one commit after the other.

    Args:
        plan: Records of other tasks at its tiles do not count.
        ledger: None if there is no store yet.
        stored: Bytes of one tile in the store, before compression.
    """
    tasks = len(plan)
    found = Actuals(
        spent=np.zeros((tasks, len(QUANTITIES))),
        known=np.zeros(tasks, bool),
        ok=np.zeros(tasks, bool),
        device=np.full(tasks, -1, np.int8),
        in_first_run=np.zeros(tasks, bool),
    )
    if ledger is None:
        return found
    numbers = {place: number for number, place in enumerate(map(tuple, plan.tasks.indices.tolist()))}
    ids, runs, begins = plan.tasks.ids, np.zeros(tasks, np.int32), _Begins()
    for record in ledger.records(items=False):
        number = numbers.get((record.tile.row, record.tile.col))
        if number is None or record.status == "failed" or str(UUID(bytes=ids[number].tobytes())) != record.task_id:
            continue
        found.spent[number] = _spent(record, stored)
        found.known[number], found.ok[number] = True, record.status == "ok"
        found.device[number] = -1 if not record.device else int(device_kind(record.device) == "cuda")
        runs[number] = begins.note(record)
    found.in_first_run[:] = found.known & (runs == begins.first)
    return found


class _Begins:
    """Numbers of runs, and which began first; a run that names no time began before all others."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._earliest: tuple[bool, float] | None = None
        self.first = -1

    def note(self, record: Record) -> int:
        number = self._numbers.setdefault(record.run_id, len(self._numbers))
        begun = record.started_at is not None, record.started_at.timestamp() if record.started_at else 0.0
        if self._earliest is None or begun < self._earliest:
            self._earliest, self.first = begun, number
        return number


def _spent(record: Record, stored: int) -> Sequence[float]:
    """What a tile took, by quantity."""
    spent = {
        "requests": record.requests,
        "bytes": record.bytes_read,
        "read": record.seconds.get("read", 0.0),
        f"predict_{device_kind(record.device)}": record.seconds.get("predict", 0.0),
        "write": record.seconds.get("write", 0.0),
        "stored": stored,
    }
    return [float(spent.get(name, 0.0)) for name in QUANTITIES]
