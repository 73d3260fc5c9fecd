"""What a run reports while it works: frozen events, and the protocol of those who listen.

Durations are monotonic seconds. Listeners must be quick: they are called in the thread that commits.
"""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class RunStarted:
    """A run begins."""

    run_id: str
    tiles: int
    """Tiles to compute in this run."""
    skipped: int
    """Tiles that are already up to date."""
    name: str = ""
    """Of the map."""
    dashboard: str = ""
    """Where the cluster shows what it does; empty if it has no such page."""


@dataclass(frozen=True, kw_only=True)
class TileFinished:
    """One tile came back from a worker; it is durable only after the next :class:`BatchCommitted`."""

    tile: tuple[int, int]
    status: str
    """ok, empty or failed."""
    reason: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds by stage: read, predict, write; wait is for a device that was taken."""
    pixels: int = 0
    """Valid target pixels."""
    worker: str = ""
    """Host and process."""
    device: str = ""
    device_s: float = 0.0
    """Seconds that the tile held its device."""
    device_slots: int = 0
    """Tiles that the device takes at once."""
    requests: int = 0
    bytes_read: int = 0


@dataclass(frozen=True, kw_only=True)
class TileRetried:
    """One tile failed for a passing reason and is tried again."""

    tile: tuple[int, int]
    attempt: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReadRetry:
    """One request for part of a file that was put again."""

    host: str
    item: str
    asset: str
    reason: str
    """For example ``HTTP 429`` or ``timed out``."""
    attempt: int
    """Attempts so far: 1 for the first failure."""
    wait_s: float
    """Pause before the next attempt."""


@dataclass(frozen=True, kw_only=True)
class ReadRetried(ReadRetry):
    """The same, of one tile; told when the tile is back."""

    tile: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class BatchCommitted:
    """Tiles and their records became visible to readers, together."""

    snapshot: str
    tiles: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RunFinished:
    """A run ended."""

    done: int
    empty: int
    failed: int
    seconds: float


Event = RunStarted | TileFinished | TileRetried | ReadRetried | BatchCommitted | RunFinished


class Callback(Protocol):
    """Anything that wants to hear of a run."""

    def __call__(self, event: Event) -> None:
        """Receive one event."""
