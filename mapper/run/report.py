"""What a run did."""

from dataclasses import asdict, dataclass, field
from typing import Any

from mapper.markup.cards import show_shares
from mapper.monitor.utilisation import WorkerUse, name_bottleneck, working
from mapper.text import describe_bytes, describe_seconds

_FAILURES_SHOWN = 10
_SHOWN_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class TileFailure:
    """A tile that failed, and why."""

    tile: tuple[int, int]
    reason: str

    def __str__(self) -> str:
        return f"{self.tile[0]},{self.tile[1]}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What a run did; durations in seconds."""

    run_id: str
    tiles: int
    """Tiles that were due."""
    skipped: int
    """Tiles that were up to date."""
    done: int
    """Tiles with pixels."""
    empty: int
    failed: int
    commits: int
    snapshot: str
    """The last commit of this run; empty if there was none."""
    seconds: float
    stage_seconds: dict[str, float] = field(default_factory=dict)
    """Sums over all tiles, by stage: read, predict, wait (for a device that was taken), write."""
    commit_s: float = 0.0
    """Of the driver, committing."""
    device_s: float = 0.0
    """That devices were held by predictions, all together."""
    device_slots: int = 0
    """Windows that all devices take at once: 1 for each GPU, 1 for each core of a CPU."""
    workers: tuple[WorkerUse, ...] = ()
    """The least busy first."""
    pixels: int = 0
    """Valid target pixels."""
    requests: int = 0
    """To archives, over the network."""
    bytes_read: int = 0
    retries: dict[str, int] = field(default_factory=dict)
    """Requests that were put again, by reason."""
    failures: tuple[TileFailure, ...] = ()
    stopped: str = ""
    """Why the run ended early; empty if it did not."""

    @property
    def exit_code(self) -> int:
        """0 done, 1 finished with failed tiles or stopped."""
        return 1 if self.failed or self.stopped else 0

    @property
    def megapixels_per_second(self) -> float:
        """Valid target pixels by wall time."""
        return self.pixels / 1e6 / self.seconds if self.seconds else 0.0

    @property
    def device_busy(self) -> float | None:
        """Part of the wall time that devices were held, 0 to 1; None if nothing was predicted."""
        possible = self.seconds * self.device_slots
        return self.device_s / possible if possible else None

    @property
    def bottleneck(self) -> str:
        """The stage that held the run back, see :func:`mapper.monitor.utilisation.name_bottleneck`."""
        commit_busy = self.commit_s / self.seconds if self.seconds else None
        return name_bottleneck(self.stage_seconds, device_busy=self.device_busy, commit_busy=commit_busy)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("megapixels_per_second", "device_busy", "bottleneck")
        rates = {name: getattr(self, name) for name in names}
        return {**asdict(self), **rates, "exit_code": self.exit_code}

    def summary(self) -> str:
        """For people."""
        if not self.tiles:
            return f"nothing to do: {self.skipped} tiles are up to date"
        rate = f"{self.seconds:.1f} s, {self.megapixels_per_second:.2f} Mpx/s, {self.commits} commits"
        counts = f"{self.done} tiles done, {self.empty} empty, {self.failed} failed, {self.skipped} were up to date"
        lines = [f"{counts} ({rate})"]
        if self.stage_seconds:
            lines += self._say_work()
        if self.requests:
            lines.append(f"read: {self.requests} requests, {self.bytes_read / 1e6:.1f} MB{self._say_retries()}")
        if self.stopped:
            lines.append(f"stopped: {self.stopped}; what was done is committed, run again to go on")
        lines += [f"failed: tile {failure}" for failure in self.failures[:_FAILURES_SHOWN]]
        if len(self.failures) > _FAILURES_SHOWN:
            lines.append(f"failed: {len(self.failures) - _FAILURES_SHOWN} more, see `mapper status`")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        facts = {
            "with pixels": self.done,
            "empty": self.empty,
            "failed": self.failed,
            "up to date before": self.skipped,
            "took": describe_seconds(self.seconds),
            "valid pixels": f"{self.pixels:,} ({self.megapixels_per_second:.2f} M a second)",
            "commits": self.commits,
            "bottleneck": self.bottleneck,
            "devices busy": None if self.device_busy is None else _percent(self.device_busy),
            "read": f"{self.requests:,} requests, {describe_bytes(self.bytes_read)}" if self.requests else None,
            "stopped": self.stopped,
            "snapshot": self.snapshot,
            **{f"tile {each.tile[0]},{each.tile[1]}": each.reason for each in self.failures[:_FAILURES_SHOWN]},
        }
        return show_shares(f"Run of {self.tiles:,} tiles", facts, self.stage_seconds)

    def _say_work(self) -> list[str]:
        stages = [f"{name} {self.stage_seconds[name]:.1f} s" for name in working(self.stage_seconds)]
        if self.stage_seconds.get("wait", 0.0) >= _SHOWN_SECONDS:
            stages.append(f"waiting for a device {self.stage_seconds['wait']:.1f} s")
        busy = "" if self.device_busy is None else f"; devices busy {_percent(self.device_busy)} of the time"
        lines = [f"seconds of work: {', '.join(stages)}{busy}; bottleneck: {self.bottleneck}"]
        if len(self.workers) > 1:
            shares = [f"{use.worker} {use.seconds:.1f} s" for use in (self.workers[0], self.workers[-1])]
            lines.append(f"{len(self.workers)} workers: least at work {shares[0]}, most {shares[1]}")
        return lines

    def _say_retries(self) -> str:
        if not self.retries:
            return ""
        reasons = sorted(self.retries.items(), key=lambda pair: -pair[1])
        return f"; put again: {', '.join(f'{count} {reason}' for reason, count in reasons)}"


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"
