"""How an item enters a tile: what the provenance of a pixel is made of."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ItemUse:
    """How one item entered one tile."""

    id: str
    collection: str
    role: Literal["guide", "source"]
    datetime: datetime
    digest: str
    """Sha256 of the item's metadata."""
    hrefs: tuple[str, ...]
    """Unsigned locations of the assets that were read."""
    calibration: str
    """What was decided, and from what, for example ``(DN - 1000) / 10000: processing baseline 05.10``."""
    dropped: str = ""
    """Why the item was left out of this tile; empty if it was used."""
