"""Tiles that are out much longer than the others, and what is done about them.

What a worker does not answer within may be slow, or never come: a host that hangs keeps its connections. Writing a tile
twice does no harm, since each attempt writes into a fork of its own and the first answer is the only one that is kept.
"""

from collections import deque
from dataclasses import dataclass, field

_REMEMBERED = 1000
"""Tiles whose times are compared with; the latest ones, since tiles differ from place to place."""


@dataclass(frozen=True, kw_only=True)
class StragglerPolicy:
    """When a tile is given out again although nobody said that it is lost."""

    least: float = 60.0
    """Seconds; nothing that is out for less is late."""
    factor: float = 5.0
    """A tile is late that is out so many times longer than nearly all others were ..."""
    share: float = 0.95
    """... nearly all: this part of the tiles that came back."""
    unknown: float = 3600.0
    """Seconds after which a tile is late if none came back yet."""
    copies: int = 3
    """How often a tile is given out in all. If the last copy is late too, the tile has failed."""
    fetch: float = 30.0
    """Seconds in which a worker has to send a result that it has, a few kilobytes; after that it is lost."""


@dataclass(kw_only=True)
class Pace:
    """How long tiles are out, as a run learns it."""

    policy: StragglerPolicy = field(default_factory=StragglerPolicy)
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def note(self, seconds: float) -> None:
        """A tile came back after so long."""
        self._seconds.append(seconds)

    @property
    def limit(self) -> float:
        """Seconds after which a tile is late."""
        if not self._seconds:
            return self.policy.unknown
        ordered = sorted(self._seconds)
        usual = ordered[min(int(self.policy.share * len(ordered)), len(ordered) - 1)]
        return max(self.policy.least, self.policy.factor * usual)
