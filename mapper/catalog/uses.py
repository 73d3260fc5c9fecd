"""Uses of items in tiles: the provenance of a pixel is made of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self

from mapper.catalog.items import ItemDict, item_datetime, item_digest
from mapper.redaction import redact

Role = Literal["guide", "source"]


@dataclass(frozen=True, kw_only=True)
class ItemUse:
    """Use of one item in one tile."""

    id: str
    collection: str
    role: Role
    datetime: datetime
    digest: str
    """Sha256 of the item's metadata."""
    hrefs: tuple[str, ...] = ()
    """Unsigned locations of the assets that were read."""
    calibration: str = ""
    """Calibration, and the reason for it, for example ``(DN - 1000) / 10000: processing baseline 05.10``."""
    dropped: str = ""
    """Reason why the item was left out of this tile; empty if it was used."""

    @classmethod
    def of(
        cls, item: ItemDict, *, role: Role, hrefs: tuple[str, ...] = (), calibration: str = "", dropped: str = ""
    ) -> Self:
        """Return the use of an item; id, datetime and digest are taken from it.

        Records are read by others: of addresses nothing secret enters them, of paths of this machine the names alone.
        """
        for asset in item["assets"].values():
            path = str(asset.get("href"))
            dropped = dropped.replace(path, redact(path, paths=True)) if dropped and path else dropped
        return cls(
            id=item["id"],
            collection=item["collection"],
            role=role,
            datetime=item_datetime(item),
            digest=item_digest(item),
            hrefs=tuple(redact(href, paths=True) for href in hrefs),
            calibration=calibration,
            dropped=redact(dropped, paths=True),
        )
