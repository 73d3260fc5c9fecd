"""The report of a run."""

from dataclasses import asdict, dataclass
from typing import Any

from mapper.markup.cards import show_shares
from mapper.monitor.utilisation import name_bottleneck, working
from mapper.store.totals import Totals
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
    """Outcome of a run; durations in seconds."""

    run_id: str
    tiles: int
    """Tiles that were due."""
    skipped: int
    """Tiles that were up to date."""
    totals: Totals
    """Sums over the tiles that came back."""
    commits: int
    snapshot: str
    """The last commit of this run; empty if there was none."""
    seconds: float
    commit_s: float = 0.0
    """Seconds that the driver committed."""
    failures: tuple[TileFailure, ...] = ()
    stopped: str = ""
    """Why the run ended early; empty if it did not."""

    @property
    def done(self) -> int:
        """Tiles with pixels."""
        return self.totals.tiles.get("ok", 0)

    @property
    def empty(self) -> int:
        """Tiles without any pixel."""
        return self.totals.tiles.get("empty", 0)

    @property
    def failed(self) -> int:
        """Tiles that failed."""
        return self.totals.tiles.get("failed", 0)

    @property
    def exit_code(self) -> int:
        """0 done, 1 finished with failed tiles or stopped."""
        return 1 if self.failed or self.stopped else 0

    @property
    def megapixels_per_second(self) -> float:
        """Valid target pixels by wall time."""
        return self.totals.pixels / 1e6 / self.seconds if self.seconds else 0.0

    @property
    def device_share(self) -> float | None:
        """Part of the wall time that devices were held, 0 to 1; None if nothing was predicted."""
        return self.totals.device_share(self.seconds)

    @property
    def bottleneck(self) -> str:
        """The stage that held the run back, see :func:`mapper.monitor.utilisation.name_bottleneck`."""
        commit_share = self.commit_s / self.seconds if self.seconds else None
        return name_bottleneck(self.totals.seconds, device_share=self.device_share, commit_share=commit_share)

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        totals = self.totals
        return {
            "run_id": self.run_id,
            "tiles": self.tiles,
            "skipped": self.skipped,
            "done": self.done,
            "empty": self.empty,
            "failed": self.failed,
            "commits": self.commits,
            "snapshot": self.snapshot,
            "seconds": self.seconds,
            "stage_seconds": totals.seconds,
            "commit_s": self.commit_s,
            "device_s": totals.device_s,
            "device_slots": totals.device_slots,
            "workers": [asdict(use) for use in totals.rank_workers()],
            "pixels": totals.pixels,
            "requests": totals.requests,
            "bytes_read": totals.bytes_read,
            "retries": totals.retries,
            "failures": [asdict(failure) for failure in self.failures],
            "stopped": self.stopped,
            "megapixels_per_second": self.megapixels_per_second,
            "device_busy": self.device_share,
            "bottleneck": self.bottleneck,
            "exit_code": self.exit_code,
        }

    def summary(self) -> str:
        """Return the report for people."""
        if not self.tiles:
            return f"nothing to do: {self.skipped} tiles are up to date"
        rate = f"{self.seconds:.1f} s, {self.megapixels_per_second:.2f} Mpx/s, {self.commits} commits"
        counts = f"{self.done} tiles done, {self.empty} empty, {self.failed} failed, {self.skipped} were up to date"
        lines = [f"{counts} ({rate})"]
        if self.totals.seconds:
            lines += self._describe_work()
        if self.totals.requests:
            read = f"{self.totals.requests} requests, {self.totals.bytes_read / 1e6:.1f} MB"
            lines.append(f"read: {read}{self._describe_retries()}")
        if self.stopped:
            lines.append(f"stopped: {self.stopped}; what was done is committed, run again to go on")
        lines += [f"failed: tile {failure}" for failure in self.failures[:_FAILURES_SHOWN]]
        if len(self.failures) > _FAILURES_SHOWN:
            lines.append(f"failed: {len(self.failures) - _FAILURES_SHOWN} more, see `mapper status`")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        facts = {
            "with pixels": self.done,
            "empty": self.empty,
            "failed": self.failed,
            "up to date before": self.skipped,
            "took": describe_seconds(self.seconds),
            "valid pixels": f"{self.totals.pixels:,} ({self.megapixels_per_second:.2f} M a second)",
            "commits": self.commits,
            "bottleneck": self.bottleneck,
            "devices busy": None if self.device_share is None else _percent(self.device_share),
            "read": f"{self.totals.requests:,} requests, {describe_bytes(self.totals.bytes_read)}"
            if self.totals.requests
            else None,
            "stopped": self.stopped,
            "snapshot": self.snapshot,
            **{f"tile {each.tile[0]},{each.tile[1]}": each.reason for each in self.failures[:_FAILURES_SHOWN]},
        }
        return show_shares(f"Run of {self.tiles:,} tiles", facts, self.totals.seconds)

    def _describe_work(self) -> list[str]:
        stages = [f"{name} {self.totals.seconds[name]:.1f} s" for name in working(self.totals.seconds)]
        if self.totals.seconds.get("wait", 0.0) >= _SHOWN_SECONDS:
            stages.append(f"waiting for a device {self.totals.seconds['wait']:.1f} s")
        busy = "" if self.device_share is None else f"; devices busy {_percent(self.device_share)} of the time"
        lines = [f"seconds of work: {', '.join(stages)}{busy}; bottleneck: {self.bottleneck}"]
        workers = self.totals.rank_workers()
        if len(workers) > 1:
            shares = [f"{use.worker} {use.seconds:.1f} s" for use in (workers[0], workers[-1])]
            lines.append(f"{len(workers)} workers: least at work {shares[0]}, most {shares[1]}")
        return lines

    def _describe_retries(self) -> str:
        if not self.totals.retries:
            return ""
        reasons = sorted(self.totals.retries.items(), key=lambda pair: -pair[1])
        return f"; put again: {', '.join(f'{count} {reason}' for reason, count in reasons)}"


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %"
