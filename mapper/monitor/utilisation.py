"""How busy devices were, and which stage holds a run back.

A device is held while a window is on it; waiting for it is counted apart. A GPU is a device for each worker process; a
CPU is one for each host, however many processes share it, and takes as many windows at once as it has cores.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_BUSY = 0.8
"""A device, or a committer, that is busy for so much of the time holds everything else back."""


@dataclass(frozen=True, kw_only=True)
class WorkerUse:
    """What one worker process did."""

    worker: str
    tiles: int
    seconds: float
    """At work on its tiles, all stages but waiting for a device."""
    device_s: float
    """Holding its device."""


@dataclass
class DeviceUse:
    """What devices did, tile by tile."""

    tiles: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    device_s: Counter[str] = field(default_factory=Counter)
    """Each by worker."""
    stages: Counter[str] = field(default_factory=Counter)
    """Seconds by stage."""
    slots: dict[str, int] = field(default_factory=dict)
    """By device."""

    def add(
        self, *, worker: str, device: str, seconds: Mapping[str, float], device_s: float, device_slots: int
    ) -> None:
        """Count one tile; of one that no worker is known for, the seconds alone."""
        self.stages.update(seconds)
        if not worker:
            return
        self.tiles[worker] += 1
        self.seconds[worker] += sum(seconds.values()) - seconds.get("wait", 0.0)  # type: ignore[assignment]
        self.device_s[worker] += device_s  # type: ignore[assignment]
        if device and device_slots:
            self.slots[device_place(worker, device)] = device_slots

    @property
    def total_s(self) -> float:
        """Seconds that devices were held, all together."""
        return float(sum(self.device_s.values()))

    @property
    def total_slots(self) -> int:
        """Windows that all devices take at once."""
        return sum(self.slots.values())

    def share(self, wall_s: float) -> float | None:
        """Part of some wall time that devices were held, 0 to 1; None where nothing was predicted."""
        possible = wall_s * self.total_slots
        return self.total_s / possible if possible else None

    def workers(self) -> tuple[WorkerUse, ...]:
        """Every worker, the least busy first."""
        names = sorted(self.tiles, key=lambda name: (self.seconds[name], name))
        return tuple(
            WorkerUse(worker=n, tiles=self.tiles[n], seconds=self.seconds[n], device_s=self.device_s[n]) for n in names
        )


def device_place(worker: str, device: str) -> str:
    """What tells a device from others: its host for a CPU, its worker for a GPU."""
    return f"{worker.rpartition(':')[0] if device == 'cpu' else worker} {device}"


def name_bottleneck(
    seconds: Mapping[str, float], *, device_busy: float | None = None, commit_busy: float | None = None
) -> str:
    """The stage that holds a run back; empty before the first tile.

    That is ``commit`` or ``predict`` if the committer or the devices are busy for four fifths of the time, however
    much work goes on beside; else the stage with most seconds of work. Waiting for a device is no work.

    Args:
        seconds: Of work, by stage.
        device_busy: Part of the wall time that devices were held.
        commit_busy: Part of the wall time that the driver committed.
    """
    if commit_busy is not None and commit_busy >= _BUSY:
        return "commit"
    if device_busy is not None and device_busy >= _BUSY:
        return "predict"
    return max(working(seconds), key=lambda stage: seconds[stage], default="")


def working(stages: Iterable[str]) -> list[str]:
    """Stages in which something is done."""
    return [stage for stage in stages if stage != "wait"]
