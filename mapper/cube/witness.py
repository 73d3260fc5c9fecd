"""Memory of the files that one reader opened: headers, decisions, and bands that were decoded with another one."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import rasterio
from odc.geo.geobox import GeoBox

from mapper.access.remote import asset_error
from mapper.access.tally import AssetName
from mapper.catalog.items import ItemDict, name_asset
from mapper.cube.agreement import ContradictionError, Decision, decide_reading
from mapper.cube.belief import Belief
from mapper.cube.header import Header
from mapper.errors import CorruptAssetError

KEPT_BYTES = 256 * 2**20
"""Bytes of decoded bands that one reader keeps at most; what does not fit is decoded again."""
_PATIENCE = 1024
"""Number of reads after which a band that nobody came for makes room."""

KeptKey = tuple[AssetName, str, GeoBox, bool]
"""File, our name of the band, the pixels that were asked for, and True if those of the file have to be these."""


@dataclass(kw_only=True)
class Witness:
    """Memory of the files that one reader opened. May be shared by threads."""

    headers: dict[AssetName, Header] = field(default_factory=dict)
    decisions: dict[tuple[AssetName, str], Decision] = field(default_factory=dict)
    """Decisions by file and our name of the band."""
    _kept: dict[KeptKey, tuple[int, int, Any]] = field(default_factory=dict)
    """Number of the read, bytes, and what was decoded."""
    _bytes: int = 0
    _reads: int = 0
    _lock: Any = field(default_factory=threading.Lock)

    def decide(
        self, dataset: rasterio.DatasetReader, name: AssetName, beliefs: Sequence[Belief]
    ) -> list[tuple[str, Decision]]:
        """Hold an open file against beliefs; returns our names of the bands and the decisions on them.

        Args:
            dataset: The file.
            name: What it is, and where.
            beliefs: That in the band that is read, then those in others that are decoded with it: such a one is left
                out where it is refused, and meets its error when it is read itself.

        Raises:
            CorruptAssetError: If the file contradicts the first belief and no rule decides.
        """
        header = self.headers[name] = Header.of(dataset, name.href)
        found = []
        for belief in beliefs:
            try:
                decision = decide_reading(header, belief)
            except ContradictionError as error:
                if belief is beliefs[0]:
                    raise asset_error(CorruptAssetError, name, str(error)) from error
                continue
            self.decisions[name, belief.band] = decision
            found.append((belief.band, decision))
        return found

    def keep(self, key: KeptKey, decoded: Any, size: int) -> None:
        """Keep a decoded band until it is asked for, if there is room for so many bytes."""
        with self._lock:
            for old in list(self._kept):
                if self._bytes + size <= KEPT_BYTES or self._reads - self._kept[old][0] < _PATIENCE:
                    break
                self._bytes -= self._kept.pop(old)[1]
            if self._bytes + size <= KEPT_BYTES and key not in self._kept:
                self._kept[key] = self._reads, size, decoded
                self._bytes += size

    def take(self, key: KeptKey) -> Any:
        """Return a band that was decoded with another one, and forget it; None if it is not there."""
        with self._lock:
            self._reads += 1
            found = self._kept.pop(key, None)
            if found is None:
                return None
            self._bytes -= found[1]
            return found[2]

    def find_elsewhere(self, name: AssetName, band: str) -> Header | None:
        """Return the header of a file that was opened and lies elsewhere than its item declares; else None."""
        decision = self.decisions.get((name, band))
        return self.headers[name] if decision and {"CRS", "place"} & decision.notes.keys() else None

    def notes(self, item: ItemDict, bands: Mapping[str, str]) -> Iterator[str]:
        """Yield what was noted of the files of one item.

        Args:
            item: STAC item.
            bands: Asset keys by our names of the bands; the mask's is the empty name.
        """
        for band, asset in bands.items():
            decision = self.decisions.get((name_asset(item, asset), band)) if asset in item["assets"] else None
            yield from () if decision is None else decision.notes.values()
