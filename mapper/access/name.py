"""Which file is read."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AssetName:
    """Which file is read, for messages and provenance."""

    item: str
    asset: str
    href: str
    """Unsigned location."""
