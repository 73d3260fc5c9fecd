"""Keys of a version of a store as plain Zarr v3, and their content, for readers without Icechunk.

The ledger is left out: its arrays hold provenance and are no part of the map. Metadata of whole groups is
consolidated, since what is read over HTTP cannot be listed; a version never changes, so neither does that.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import zarr
from icechunk.session import Session
from zarr.abc.store import RangeByteRequest, Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from mapper.errors import StoreError
from mapper.redaction import redact
from mapper.store.checksums import check_object, explain_damage
from mapper.store.errors import BROKEN, explain_faults

_DOCUMENT = "zarr.json"
_PRIVATE = "ledger"
_DESCRIPTION = "mapper:spec"
_MOST_SIZES = 1 << 14
"""Sizes of chunks that are remembered: readers ask for many parts of each."""
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}")
"""A chunk index as Zarr writes it: no sign, no leading zero."""


@dataclass(frozen=True, kw_only=True)
class PlainZarr:
    """The keys of one version; open it with :func:`open_plain`."""

    store: Store
    documents: Mapping[str, bytes]
    """Metadata by key, that of groups consolidated."""
    chunk_grids: Mapping[str, tuple[int, ...]]
    """Objects of each array along its dimensions, by path of the array; a shard is one object."""
    _sizes: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def has_chunk(self, key: str) -> bool:
        """Check that a key is that of a chunk or shard of an array, written or not."""
        path, separator, index = f"{key}/".partition("/c/")
        grid = self.chunk_grids.get(path)
        if not separator or grid is None:
            return False
        parts = index.split("/")[:-1]
        return len(parts) == len(grid) and all(
            _INDEX.fullmatch(part) and int(part) < count for part, count in zip(parts, grid, strict=True)
        )

    def has_array(self, key: str) -> bool:
        """Check that the array is there, of which a key would be a chunk."""
        return f"{key}/".partition("/c/")[0] in self.chunk_grids

    async def size_of(self, key: str) -> int:
        """Return the bytes under the key of a chunk; 0 if it was never written and so holds the fill value."""
        known = self._sizes.get(key)
        if known is not None:
            return known
        with explain_faults("the store"):
            size = await self.store.getsize(key) if await self.store.exists(key) else 0
        if len(self._sizes) >= _MOST_SIZES:
            self._sizes.clear()
        self._sizes[key] = size
        return size

    async def read(self, key: str, start: int, stop: int) -> bytes:
        """Read bytes of a chunk that was written, from start up to but without stop.

        Raises:
            StoreError: If the storage fails, or holds less than was written.
        """
        with explain_faults("the store"):
            buffer = await self.store.get(key, default_buffer_prototype(), RangeByteRequest(start, stop))
        content = b"" if buffer is None else buffer.to_bytes()
        if len(content) != stop - start:
            found = f"{len(content)} bytes from byte {start} on, expected {stop - start}"
            raise StoreError(f"{key} is cut off: {found}; `mapper verify` says which tiles are damaged")
        return content

    def check(self, key: str, content: bytes) -> None:
        """Check the checksums of a whole chunk or shard, where it has any.

        Raises:
            StoreError: Naming the tile that is damaged.
        """
        path, _, index = key.rpartition("/c/")
        try:
            check_object(content, json.loads(self.documents[f"{path}/{_DOCUMENT}"]))
        except BROKEN as error:
            raise explain_damage(f"tile {index.replace('/', ',')} of {path}", error) from error


def open_plain(session: Session) -> PlainZarr:
    """Read all metadata of a version, the ledger's left out.

    Raises:
        StoreError: If the storage fails.
    """
    with explain_faults("the store"):
        nodes = sync(_read_documents(session.store))
    arrays = {path: node for path, node in nodes.items() if node["node_type"] == "array"}
    return PlainZarr(
        store=session.store,
        documents={
            f"{path}/{_DOCUMENT}".lstrip("/"): json.dumps(
                node if path in arrays else _consolidate(path, nodes), separators=(",", ":")
            ).encode()
            for path, node in nodes.items()
        },
        chunk_grids={path: _count_chunks(node) for path, node in arrays.items()},
    )


def is_private(key: str) -> bool:
    """Return True for a key, or a path, of what is no part of the map."""
    return key.split("/", maxsplit=1)[0] == _PRIVATE


async def _read_documents(store: Store) -> dict[str, dict[str, Any]]:
    """Read the metadata of every node by path, the root's being empty."""
    root = await zarr.api.asynchronous.open_group(store, mode="r", use_consolidated=False)
    paths = ["", *sorted([name async for name, _ in root.members(max_depth=None)])]
    documents = {}
    for path in paths:
        if not is_private(path):
            buffer = await store.get(f"{path}/{_DOCUMENT}".lstrip("/"), default_buffer_prototype())
            if buffer is not None:
                documents[path] = json.loads(buffer.to_bytes())
    about = documents.get("", {}).get("attributes", {})
    if _DESCRIPTION in about:  # stores of before hold it as it was written, with folders and keys
        about[_DESCRIPTION] = redact(str(about[_DESCRIPTION]), paths=True)
    return documents


def _consolidate(path: str, nodes: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the metadata of a group with that of all below it, by path relative to the group."""
    prefix = f"{path}/" if path else ""
    below = {name.removeprefix(prefix): node for name, node in nodes.items() if name and name.startswith(prefix)}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": below}
    return nodes[path] | {"consolidated_metadata": consolidated}


def _count_chunks(node: Mapping[str, Any]) -> tuple[int, ...]:
    chunk_shape = node["chunk_grid"]["configuration"]["chunk_shape"]
    return tuple(-(-size // edge) for size, edge in zip(node["shape"], chunk_shape, strict=True))
