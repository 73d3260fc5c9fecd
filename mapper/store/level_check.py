"""Whether the levels of a pyramid hold what they say, and what the map is now."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from zarr.abc.store import Store

from mapper.store.faults import DAMAGE
from mapper.store.levels import LevelTile, count_levels
from mapper.store.pyramid import State, read_state
from mapper.store.tiles import digest_bands, read_bands

_THREADS = 4


@dataclass(frozen=True, kw_only=True)
class LevelReport:
    """What was found in the levels; every tile of them is in one list only, the worst that applies."""

    levels: int
    """Above the map."""
    ok: tuple[LevelTile, ...] = ()
    missing: tuple[LevelTile, ...] = ()
    """Something lies below them, and they were never made."""
    stale: tuple[LevelTile, ...] = ()
    """What lies below them is no longer what they were made from."""
    corrupt: Mapping[LevelTile, str] = field(default_factory=dict)
    """How their pixels differ from what was written."""

    @property
    def is_complete(self) -> bool:
        """True if every tile is there, up to date and unharmed."""
        return not (self.missing or self.stale or self.corrupt)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {
            "levels": self.levels,
            "ok": len(self.ok),
            "missing": [str(tile) for tile in self.missing],
            "stale": [str(tile) for tile in self.stale],
            "corrupt": {str(tile): reason for tile, reason in self.corrupt.items()},
        }

    def to_text(self) -> str:
        """The report for a terminal: counts, one line for each damaged tile, and what mends them."""
        found = {"ok": self.ok, "missing": self.missing, "stale": self.stale, "corrupt": self.corrupt}
        counts = ", ".join(f"{len(tiles)} {kind}" for kind, tiles in found.items())
        lines = [f"pyramid of {self.levels} levels: {counts}"]
        lines += [f"corrupt {tile} of the pyramid: {reason}" for tile, reason in self.corrupt.items()]
        if not self.is_complete:
            option = " --check" if self.corrupt else ""
            lines.append(f"`mapper pyramid{option}` mends the pyramid, and so does `mapper verify MAP.yaml --repair`")
        return "\n".join(lines)


def verify_levels(store: Store) -> LevelReport | None:
    """Check every tile of every level at one version of a store; None if it has no pyramid.

    Raises:
        StoreError: If the store was not made by mapper.
    """
    if not count_levels(store):
        return None
    state = read_state(store)
    made = state.made()
    with ThreadPoolExecutor(_THREADS) as threads:
        faults = dict(zip(made, threads.map(partial(_compare_pixels, store, state), made), strict=True))
    corrupt = {tile: fault for tile, fault in faults.items() if fault}
    due = [tile for tile in state.due() if tile not in corrupt]
    return LevelReport(
        levels=len(state.origins),
        ok=tuple(sorted(faults.keys() - corrupt.keys() - set(due))),
        missing=tuple(tile for tile in due if tile not in faults),
        stale=tuple(tile for tile in due if tile in faults),
        corrupt=corrupt,
    )


def _compare_pixels(store: Store, state: State, at: LevelTile) -> str:
    """How the pixels of a tile differ from what was written; empty if they do not."""
    grid, names = state.pyramid.levels[at.level].grid, state.pyramid.arrays(at.level)
    try:
        found = digest_bands(read_bands(store, grid=grid, names=names, tile=at.tile))
    except DAMAGE as error:
        return f"cannot be read: {str(error).strip().splitlines()[0]}"
    wanted = state.content_of(at).hex()
    return "" if found == wanted else f"content sha256 {found[:12]}, expected {wanted[:12]}"
