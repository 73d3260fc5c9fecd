"""What a run did."""

from dataclasses import asdict, dataclass, field
from typing import Any

_FAILURES_SHOWN = 10


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
    """Sums over all tiles, by stage: read, predict, write."""
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
    def bottleneck(self) -> str:
        """The stage that took most; empty before the first tile."""
        return max(self.stage_seconds, key=lambda stage: self.stage_seconds[stage], default="")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        rates = {"megapixels_per_second": self.megapixels_per_second, "bottleneck": self.bottleneck}
        return {**asdict(self), **rates, "exit_code": self.exit_code}

    def summary(self) -> str:
        """For people."""
        if not self.tiles:
            return f"nothing to do: {self.skipped} tiles are up to date"
        rate = f"{self.seconds:.1f} s, {self.megapixels_per_second:.2f} Mpx/s, {self.commits} commits"
        counts = f"{self.done} tiles done, {self.empty} empty, {self.failed} failed, {self.skipped} were up to date"
        lines = [f"{counts} ({rate})"]
        if self.stage_seconds:
            stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.stage_seconds.items())
            lines.append(f"seconds of work: {stages}; bottleneck: {self.bottleneck}")
        if self.requests:
            lines.append(f"read: {self.requests} requests, {self.bytes_read / 1e6:.1f} MB{self._say_retries()}")
        if self.stopped:
            lines.append(f"stopped: {self.stopped}; what was done is committed, run again to go on")
        lines += [f"failed: tile {failure}" for failure in self.failures[:_FAILURES_SHOWN]]
        if len(self.failures) > _FAILURES_SHOWN:
            lines.append(f"failed: {len(self.failures) - _FAILURES_SHOWN} more, see `mapper status`")
        return "\n".join(lines)

    def _say_retries(self) -> str:
        if not self.retries:
            return ""
        reasons = sorted(self.retries.items(), key=lambda pair: -pair[1])
        return f"; put again: {', '.join(f'{count} {reason}' for reason, count in reasons)}"
