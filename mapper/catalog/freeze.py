"""Frozen searches in one file: stac-geoparquet, so that a map can be made again from exactly the same items.

The columns are for other tools (rustac, DuckDB, GeoPandas). They cannot hold an item exactly: times lose their
microseconds, integers become floats, and nulls and absent keys are one. The column ``mapper:item`` therefore holds
each item as JSON, and that is what :func:`load_items` reads, so that digests survive.
"""

import base64
import hashlib
import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import rustac
from rustac.store import LocalStore

from mapper.catalog.compressed_items import CompressedItems, seal_texts
from mapper.catalog.items import ItemDict, Items, freeze_items
from mapper.catalog.references import base_of, resolve
from mapper.errors import SearchError

_ITEM_COLUMN = "mapper:item"
_QUERY_KEY = b"mapper:query"
_QUERY_SEAL_KEY = b"mapper:query-seal"
"""Metadata key of the sha256 of the query."""
_SEAL_KEY = b"mapper:seal"
"""Metadata key of the seal of the items, in the order that :func:`save_items` gave them."""
_DRAFT = "draft.parquet"
_ROWS_READ = 4096
_PLAIN_PROPERTIES = ("datetime", "start_datetime", "end_datetime", "platform", "eo:cloud_cover", "sat:orbit_state")
_PLAIN_ASSET = ("href", "type", "title")

_UNREADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, pa.ArrowException, rustac.RustacError,
)  # fmt: skip
"""Errors of a file that is damaged, or holds something else."""

_log = logging.getLogger(__name__)


def save_items(items: Items, path: Path | str) -> None:
    """Write items and their query to a stac-geoparquet file, which appears whole or not at all.

    Raises:
        ValueError: If there are no items.
    """
    if not items:
        raise ValueError("there are no items to save")
    path = Path(path).absolute()  # what has a colon in its first part would be taken for an address
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        draft = Path(folder) / _DRAFT
        table, metadata = _tabulate(items.items, draft)
        texts = {(item["collection"], item["id"]): _to_json(item) for item in items}
        keys = list(zip(table["collection"].to_pylist(), table["id"].to_pylist(), strict=True))
        column = pa.array([texts[key] for key in keys], pa.string())
        table = table.append_column(_ITEM_COLUMN, column)
        seal = seal_texts([column]) if keys == list(texts) else ""
        query = _to_json(dict(items.query))
        own = {_QUERY_KEY: query, _QUERY_SEAL_KEY: hashlib.sha256(query.encode()).hexdigest(), _SEAL_KEY: seal}
        table = table.replace_schema_metadata({**metadata, **own})
        pq.write_table(table, draft, compression="zstd", write_page_checksum=True)
        draft.replace(path)


def load_items(path: Path | str) -> Items:
    """Read items from a stac-geoparquet file; one that other software wrote is read too, as far as it is exact.

    Raises:
        SearchError: If the file is missing, damaged, or no stac-geoparquet.
    """
    try:
        with _open(path) as file:
            metadata = file.schema_arrow.metadata or {}
            if _ITEM_COLUMN not in file.schema_arrow.names:
                features = rustac.from_arrow(file.read())["features"]
                return freeze_items([_resolve(item, str(path)) for item in features], query={"endpoint": str(path)})
            column = file.read([_ITEM_COLUMN])[_ITEM_COLUMN].cast(pa.string())
        items = freeze_items(map(json.loads, column.to_pylist()), query=_read_query(metadata))
        _check_seal(items, column, metadata)
    except _UNREADABLE as error:
        raise SearchError(f"frozen items {path} cannot be read: {' '.join(str(error).split())}") from error
    return items


def open_items(path: Path | str) -> Items:
    """Return the items of a file as :func:`load_items` reads them, in a fraction of the memory, with their seal.

    A file that is not as :func:`save_items` wrote it takes the memory of all items: its order may be another one.

    Raises:
        SearchError: If the file is missing, damaged, or no stac-geoparquet.
    """
    try:
        with _open(path) as file:
            metadata = file.schema_arrow.metadata or {}
            if _ITEM_COLUMN not in file.schema_arrow.names:
                return replace(load_items(path), seal=hashlib.sha256(Path(path).read_bytes()).hexdigest())
            batches = file.iter_batches(batch_size=_ROWS_READ, columns=[_ITEM_COLUMN])
            compressed = CompressedItems(batch.column(0).cast(pa.string()) for batch in batches)
        pa.default_memory_pool().release_unused()  # ten times the compressed items
        if compressed.seal != metadata.get(_SEAL_KEY, b"").decode():
            return replace(load_items(path), seal=compressed.seal)
        return Items(items=compressed, query=_read_query(metadata), seal=compressed.seal)
    except _UNREADABLE as error:
        raise SearchError(f"frozen items {path} cannot be read: {' '.join(str(error).split())}") from error


def _open(path: Path | str) -> pq.ParquetFile:
    """Open a file whose columns have the names that were given to them: nothing else protects the end of a file."""
    file = pq.ParquetFile(Path(path).absolute(), page_checksum_verification=True)
    stated = (file.metadata.metadata or {}).get(b"ARROW:schema")
    if stated and pa.ipc.read_schema(pa.BufferReader(base64.b64decode(stated))).names != file.schema_arrow.names:
        file.close()
        raise ValueError("its columns are not named as they were when it was written")
    return file


def _read_query(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    text, seal = metadata.get(_QUERY_KEY, b"{}"), metadata.get(_QUERY_SEAL_KEY)
    if seal is not None and hashlib.sha256(text).hexdigest().encode() != seal:
        raise ValueError("its query is not the one that was saved in it; search again")
    query: dict[str, Any] = json.loads(text)
    return query


def _check_seal(items: Items, texts: pa.ChunkedArray, metadata: dict[bytes, bytes]) -> None:
    """Check that items are those that were saved, in whatever order other software has put them.

    Raises:
        ValueError: If they are not.
    """
    stated = metadata.get(_SEAL_KEY, b"").decode()
    if stated in ("", seal_texts(texts.chunks)):
        return
    if seal_texts([pa.array(map(_to_json, items), pa.string())]) != stated:
        raise ValueError(f"its {len(items)} items are not those that were saved in it; search again")


def write_geoparquet(items: list[ItemDict], path: Path) -> None:
    """Write items as stac-geoparquet to a file, in a folder that holds nothing else.

    rustac takes a path for an address, in which ``#``, ``?`` and ``%`` mean something: it is given a folder and a name
    without any of them.

    Raises:
        RustacError: If the items do not fit one table.
    """
    rustac.write_sync(_DRAFT, items, format="geoparquet", store=LocalStore(path.parent.absolute()))
    (path.parent / _DRAFT).replace(path)


def _resolve(item: ItemDict, path: str) -> ItemDict:
    """Return an item of a file that others wrote, its locations absolute."""
    here = base_of(item, path)
    assets = {key: {**asset, "href": resolve(asset["href"], here)} for key, asset in item["assets"].items()}
    return {**item, "assets": assets}


def _tabulate(items: Sequence[ItemDict], draft: Path) -> tuple[pa.Table, dict[bytes, bytes]]:
    """Return items as rustac tabulates them, and the metadata of the file that make it stac-geoparquet."""
    try:
        write_geoparquet(list(items), draft)
    except rustac.RustacError as error:
        # a column has one type: where collections use one key for different things, only the plain ones get columns
        _log.info("items do not fit one table (%s): columns are limited to identity, time, footprint and files", error)
        write_geoparquet([_plain(item) for item in items], draft)
    with pq.ParquetFile(draft) as file:
        wanted = {key: value for key, value in file.metadata.metadata.items() if key in (b"geo", b"stac-geoparquet")}
        return file.read(), wanted


def _plain(item: ItemDict) -> ItemDict:
    properties = {key: value for key, value in item["properties"].items() if key in _PLAIN_PROPERTIES}
    assets = {
        name: {key: value for key, value in asset.items() if key in _PLAIN_ASSET}
        for name, asset in item["assets"].items()
    }
    return {**item, "properties": properties, "assets": assets}


def _to_json(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))
