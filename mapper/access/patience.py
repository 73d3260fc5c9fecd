"""How long to wait for an archive: attempts, pauses, timeouts."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How one request is tried again, before the tile as a whole is; durations in seconds."""

    attempts: int = 8
    """How often one request is put."""
    first: float = 0.5
    """Longest pause after the first failure; doubled after each further one."""
    ceiling: float = 30.0
    """Longest pause, unless the server asks for more."""
    retry_after_limit: float = 120.0
    """Longest pause that a server may ask for."""
    signatures: int = 2
    """How often a location is signed anew that was refused with the last signature."""
    connect: float = 10.0
    """For a connection."""
    read: float = 30.0
    """For the next bytes of an answer."""
    request: float = 300.0
    """For a whole answer: one that trickles is given up."""

    def delay(self, failures: int) -> float:
        """A pause after so many failures: anything up to the nominal one, so that many workers spread out."""
        nominal = min(self.ceiling, self.first * 2.0 ** min(failures - 1, 30))
        return random.uniform(0.0, nominal)  # noqa: S311 - spreads workers in time, hides nothing

    def retry_after(self, header: str | None, *, now: datetime | None = None) -> float:
        """The pause that a server asks for in ``Retry-After``, in seconds or as a date; 0 if it does not."""
        if not header:
            return 0.0
        try:
            seconds = float(header)
        except ValueError:
            seconds = _seconds_until(header, now or datetime.now(UTC))
        return min(max(seconds, 0.0), self.retry_after_limit)


def _seconds_until(date: str, now: datetime) -> float:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now.timestamp()
