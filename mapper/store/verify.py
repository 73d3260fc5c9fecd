"""Verification of a store: its pixels against its ledger, and its ledger against a plan."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from zarr.abc.store import Store

from mapper.errors import StoreError
from mapper.grid import MapGrid, Tile
from mapper.store.contents import are_checked
from mapper.store.description import Description
from mapper.store.errors import DAMAGE
from mapper.store.ledger import Ledger
from mapper.store.levels import LevelTile, count_levels
from mapper.store.map_store import MapStore
from mapper.store.pyramid import State, read_state
from mapper.store.record import Record
from mapper.store.staleness import Expected, explain_stale
from mapper.store.tiles import blank_bands, digest_bands, read_bands

_THREADS = 4
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class LevelReport:
    """State of the levels; every tile of them is in one list only, the worst that applies."""

    levels: int
    """Above the map."""
    ok: tuple[LevelTile, ...] = ()
    missing: tuple[LevelTile, ...] = ()
    """Something lies below them, and they were never made."""
    stale: tuple[LevelTile, ...] = ()
    """Tiles made from what no longer lies below them."""
    corrupt: Mapping[LevelTile, str] = field(default_factory=dict)
    """Tiles whose pixels differ from what was written, and how."""

    @property
    def is_complete(self) -> bool:
        """Return True if every tile is there, up to date and unharmed."""
        return not (self.missing or self.stale or self.corrupt)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return {
            "levels": self.levels,
            "ok": len(self.ok),
            "missing": [str(tile) for tile in self.missing],
            "stale": [str(tile) for tile in self.stale],
            "corrupt": {str(tile): reason for tile, reason in self.corrupt.items()},
        }

    def to_text(self) -> str:
        """Return the report for a terminal: counts, one line for each damaged tile, and what mends them."""
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
        faults = dict(zip(made, threads.map(partial(_compare_level_pixels, store, state), made), strict=True))
    corrupt = {tile: fault for tile, fault in faults.items() if fault}
    due = [tile for tile in state.due() if tile not in corrupt]
    return LevelReport(
        levels=len(state.origins),
        ok=tuple(sorted(faults.keys() - corrupt.keys() - set(due))),
        missing=tuple(tile for tile in due if tile not in faults),
        stale=tuple(tile for tile in due if tile in faults),
        corrupt=corrupt,
    )


def check_contents(store: MapStore, tiles: Collection[Tile], *, levels: bool = False) -> None:
    """Check what is to leave a store, where reading a chunk does not check it: against the ledger, tile by tile.

    Args:
        store: Version that is read.
        tiles: Tiles of the map.
        levels: Check all tiles of all levels as well.

    Raises:
        StoreError: Naming the first tile that is not what was written.
    """
    grid, names, wanted = store.description.grid, store.description.band_names, frozenset(tiles)
    with store.explain_faults():
        if not are_checked(store.zarr, names):
            records = {record.tile: record for record in store.ledger.records(items=False) if record.tile in wanted}
            compare = partial(_compare_pixels, store.zarr, grid, names)
            _refuse_first(records, lambda tile: compare(records[tile]))
        if levels and count_levels(store.zarr):
            state = read_state(store.zarr)
            unchecked = {
                level.number
                for level in state.pyramid.levels[1:]
                if not are_checked(store.zarr, state.pyramid.arrays(level.number))
            }
            made = [tile for tile in state.made() if tile.level in unchecked]
            _refuse_first(made, partial(_compare_level_pixels, store.zarr, state))


def _refuse_first(tiles: Iterable[_T], compare: Callable[[_T], str]) -> None:
    """Compare tiles, a few at a time, and refuse the first that differs."""
    with ThreadPoolExecutor(_THREADS) as threads:
        todo = list(tiles)
        try:
            for tile, fault in zip(todo, threads.map(compare, todo), strict=True):
                if fault:
                    raise StoreError(
                        f"tile {tile} is damaged: {fault}; `mapper verify` says which tiles are, and makes them anew "
                        "(--repair)"
                    )
        finally:
            threads.shutdown(cancel_futures=True)


def _compare_level_pixels(store: Store, state: State, at: LevelTile) -> str:
    """Describe how the pixels of a tile differ from what was written; empty if they do not."""
    grid, names = state.pyramid.levels[at.level].grid, state.pyramid.arrays(at.level)
    try:
        found = digest_bands(read_bands(store, grid=grid, names=names, tile=at.tile))
    except DAMAGE as error:
        return f"cannot be read: {str(error).strip().splitlines()[0]}"
    wanted = state.content_of(at).hex()
    return "" if found == wanted else f"content sha256 {found[:12]}, expected {wanted[:12]}"


"""Decoding and hashing release the interpreter, reading waits for the storage."""


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """State of a store; every tile is in one list only, the worst that applies."""

    snapshot: str
    """Version of the store that was checked."""
    ok: tuple[Tile, ...] = ()
    empty: tuple[Tile, ...] = ()
    failed: Mapping[Tile, str] = field(default_factory=dict)
    """Reason of the last attempt."""
    missing: tuple[Tile, ...] = ()
    """Tiles of the map that were never attempted."""
    stale: Mapping[Tile, str] = field(default_factory=dict)
    """Tiles made from other inputs, and what changed."""
    corrupt: Mapping[Tile, str] = field(default_factory=dict)
    """Tiles whose pixels differ from the record, and how."""
    pyramid: LevelReport | None = None
    """State of the levels; None if the store has no pyramid."""

    @property
    def is_complete(self) -> bool:
        """Return True if every tile, those of the pyramid included, is there, up to date and unharmed."""
        tiles = not (self.failed or self.missing or self.stale or self.corrupt)
        return tiles and (self.pyramid is None or self.pyramid.is_complete)

    @property
    def due(self) -> tuple[Tile, ...]:
        """Return the tiles to compute (again), in order."""
        return tuple(sorted({*self.failed, *self.missing, *self.stale, *self.corrupt}))

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return {
            "snapshot": self.snapshot,
            "complete": self.is_complete,
            "ok": len(self.ok),
            "empty": [str(tile) for tile in self.empty],
            "missing": [str(tile) for tile in self.missing],
            **{
                name: {str(tile): reason for tile, reason in tiles.items()}
                for name, tiles in (("failed", self.failed), ("stale", self.stale), ("corrupt", self.corrupt))
            },
            "pyramid": self.pyramid and self.pyramid.to_dict(),
        }

    def to_text(self) -> str:
        """Return the report for a terminal: counts, then one line for each tile with a fault, then the pyramid."""
        kinds = ("ok", "empty", "failed", "missing", "stale", "corrupt")
        counts = ", ".join(f"{len(getattr(self, kind))} {kind}" for kind in kinds)
        faults = [(kind, tile, reason) for kind in kinds[2:] for tile, reason in _pairs(getattr(self, kind))]
        lines = [f"{kind} {tile}{f': {reason}' if reason else ''}" for kind, tile, reason in faults]
        levels = [self.pyramid.to_text()] if self.pyramid else []
        return "\n".join([f"{counts} (snapshot {self.snapshot})", *lines, *levels])


def verify_store(
    location: str | Path, *, expected: Mapping[Tile, str | Expected] | None = None, ref: str = "main"
) -> VerifyReport:
    """Check every tile of a store: its pixels against its record, its record against what is expected.

    Tiles of a pyramid are checked against what was written, and against what the map is now.

    Args:
        location: Directory, or s3://, gs://, az:// location.
        expected: Task id of each tile, or all it would be made from (then the report gives the reason).
            None checks against the area of the map alone.
        ref: Branch, tag or snapshot id.

    Raises:
        StoreError: If the store or the version does not exist.
    """
    store = MapStore.open(location, ref)
    ledger, description = store.ledger, store.description
    with store.explain_faults():
        judged = dict(_judge_tiles(ledger, description, expected or {}))
        pyramid = verify_levels(store.zarr)
    wanted: Iterable[Tile] = description.grid.tiles() if expected is None else expected
    return VerifyReport(
        snapshot=ledger.session.snapshot_id,
        ok=tuple(sorted(tile for tile, (kind, _) in judged.items() if kind == "ok")),
        empty=tuple(sorted(tile for tile, (kind, _) in judged.items() if kind == "empty")),
        missing=tuple(sorted(tile for tile in wanted if tile not in judged)),
        failed=_reasons(judged, "failed"),
        stale=_reasons(judged, "stale"),
        corrupt=_reasons(judged, "corrupt"),
        pyramid=pyramid,
    )


def _judge_tiles(
    ledger: Ledger, description: Description, expected: Mapping[Tile, str | Expected]
) -> Iterator[tuple[Tile, tuple[str, str]]]:
    """Yield kind and reason of every tile in the ledger."""
    store, grid, names = ledger.session.store, description.grid, description.band_names

    def judge(record: Record) -> tuple[Tile, tuple[str, str]]:
        fault = _compare_pixels(store, grid, names, record)
        if fault:
            return record.tile, ("corrupt", fault)
        if record.status == "failed":
            return record.tile, ("failed", record.reason)
        stale = _compare_task(record, expected.get(record.tile))
        return record.tile, ("stale", stale) if stale else (record.status, record.reason)

    seen = set()
    with ThreadPoolExecutor(_THREADS) as threads:
        for tile, verdict in threads.map(judge, _readable_records(ledger)):
            seen.add(tile)
            yield tile, verdict
    for tile in ledger.entries.keys() - seen:
        yield tile, ("corrupt", "its record cannot be read")


def _readable_records(ledger: Ledger) -> Iterator[Record]:
    """Yield the current records of the tiles; a batch that is damaged is left out."""
    for batch in sorted({entry.batch for entry in ledger.entries.values()}):
        try:
            records = ledger.records_of(batch)
        except (StoreError, *DAMAGE):
            continue
        yield from (r for r in records if r.tile in ledger.entries and ledger.entries[r.tile].batch == batch)


def _compare_task(record: Record, expected: str | Expected | None) -> str:
    if expected is None:
        return ""
    if isinstance(expected, str):
        return "" if record.task_id == expected else f"task id {record.task_id}, expected {expected}"
    return explain_stale(record, expected)


def _compare_pixels(store: Store, grid: MapGrid, names: tuple[str, ...], record: Record) -> str:
    """Describe how the pixels of a tile differ from its record; empty if they do not."""
    try:
        found = digest_bands(read_bands(store, grid=grid, names=names, tile=record.tile))
    except DAMAGE as error:
        return f"cannot be read: {str(error).strip().splitlines()[0]}"
    wanted = record.content_sha256 or digest_bands(blank_bands(store, grid=grid, names=names))
    return "" if found == wanted else f"content sha256 {found[:12]}, its record says {wanted[:12]}"


def _pairs(tiles: Mapping[Tile, str] | tuple[Tile, ...]) -> list[tuple[Tile, str]]:
    return list(tiles.items()) if isinstance(tiles, Mapping) else [(tile, "") for tile in tiles]


def _reasons(judged: Mapping[Tile, tuple[str, str]], kind: str) -> dict[Tile, str]:
    return {tile: reason for tile, (found, reason) in sorted(judged.items()) if found == kind}
