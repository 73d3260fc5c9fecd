"""Events of a run and what became of one tile, all frozen, and the protocol of those who receive them.

Durations are monotonic seconds. Callbacks must be quick: they are called in the thread that commits.
"""

from dataclasses import dataclass, field
from typing import Literal, Protocol

Status = Literal["ok", "empty", "failed"]


@dataclass(frozen=True, kw_only=True)
class ReadRetry:
    """One request for part of a file that was repeated."""

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
class TileResult:
    """The outcome of one tile, and what it took; all that sums over tiles are made of."""

    status: Status
    reason: str = ""
    """Why the tile is empty or failed."""
    worker: str = ""
    """Host and process."""
    device: str = ""
    device_s: float = 0.0
    """Seconds that the tile held its device; waiting for it is left out."""
    device_slots: int = 0
    """Tiles that the device takes at once: 1 for a GPU, a core each for a CPU; 0 where nothing was predicted."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds by stage: read, predict, write; wait is for a device that was taken."""
    attempts: int = 1
    """Attempts at the tile as a whole."""
    requests: int = 0
    """Requests to archives, over the network."""
    bytes_read: int = 0
    """Bytes from archives, as they travelled."""
    retries: tuple[ReadRetry, ...] = ()
    """Requests that were repeated, and why."""
    valid_px: int = 0
    """Valid target pixels."""


@dataclass(frozen=True, kw_only=True)
class RunStarted:
    """A run begins."""

    run_id: str
    tiles: int
    """Tiles to compute in this run."""
    skipped: int
    """Tiles that are already up to date."""
    name: str = ""
    """Name of the map."""
    dashboard: str = ""
    """Address at which the cluster shows what it does; empty if it has no such page."""


@dataclass(frozen=True, kw_only=True)
class TileFinished:
    """One tile came back from a worker; it is durable only after the next :class:`BatchCommitted`."""

    tile: tuple[int, int]
    result: TileResult


@dataclass(frozen=True, kw_only=True)
class TileRetried:
    """One tile failed for a passing reason and is tried again."""

    tile: tuple[int, int]
    attempt: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReadRetried(ReadRetry):
    """One repeated request of a tile; sent when the tile is back."""

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
    """A receiver of the events of a run."""

    def __call__(self, event: Event) -> None:
        """Receive one event."""
