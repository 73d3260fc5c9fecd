"""What a map has cost, and will cost if it goes on like that: from the totals of its store and a price file.

Hours are those that workers were busy with tiles, a tile each, as in :mod:`mapper.run.forecast`; work that failed or
was done again is paid for like any other. Memory is left out: what a worker holds is not written in a store.
"""

from dataclasses import asdict, dataclass
from typing import Any

from mapper.run.prices import Prices
from mapper.store.totals import Totals

_GIB = 1 << 30
_HOUR = 3600


@dataclass(frozen=True, kw_only=True)
class Spending:
    """Money, in the currency of the price file."""

    currency: str
    parts: dict[str, float]
    """So far: vCPU, GPU, reading, requests, storage."""
    total: float
    per_tile: float | None
    """So far; None while no tile has come."""
    per_mkm2: float | None
    """So far, by million square kilometres."""
    whole: float | None
    """Of the whole map, by what the tiles so far took on average."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def price_totals(
    prices: Prices, totals: Totals, *, stored_bytes: int, tiles_done: int, km2_done: float, share: float
) -> Spending:
    """Price what was spent.

    Args:
        prices: Of everything.
        totals: Of the store.
        stored_bytes: Of pixels in the store, before compression.
        tiles_done: Tiles that stand, empty and failed ones too.
        km2_done: Their area.
        share: Part of all tiles that they are, 0 to 1.
    """
    cpu_s = sum(totals.seconds.get(stage, 0.0) for stage in ("read", "predict", "write")) - totals.gpu_s
    parts = {
        "vCPU": cpu_s / _HOUR * prices.vcpu_hour * prices.vcpus_per_worker,
        "GPU": totals.gpu_s / _HOUR * prices.gpu_hour,
        "reading": totals.bytes_read / _GIB * prices.read_gib,
        "requests": totals.requests / 1000 * prices.requests_1000,
        "storage": stored_bytes / _GIB * prices.stored_gib_month * prices.months_stored,
    }
    total = sum(parts.values())
    return Spending(
        currency=prices.currency,
        parts=parts,
        total=total,
        per_tile=total / tiles_done if tiles_done else None,
        per_mkm2=total / (km2_done / 1e6) if km2_done else None,
        whole=total / share if share else None,
    )
