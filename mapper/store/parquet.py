"""Records as Parquet: one blob for each commit, readable by any Parquet tool once taken out of the store."""

import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mapper.catalog.uses import ItemUse
from mapper.events import ReadRetry
from mapper.grid import Tile
from mapper.store.record import BandStatistics, DateShift, Record

_UTC = pa.timestamp("us", tz="UTC")

_ITEM = pa.struct(
    [
        ("id", pa.string()),
        ("collection", pa.string()),
        ("role", pa.string()),
        ("datetime", _UTC),
        ("digest", pa.string()),
        ("hrefs", pa.list_(pa.string())),
        ("calibration", pa.string()),
        ("dropped", pa.string()),
    ]
)

_RETRY = pa.struct(
    [
        ("host", pa.string()),
        ("item", pa.string()),
        ("asset", pa.string()),
        ("reason", pa.string()),
        ("attempt", pa.uint32()),
        ("wait_s", pa.float64()),
    ]
)

_SHIFT = pa.struct([("date", pa.date32()), ("down", pa.float64()), ("right", pa.float64()), ("trust", pa.float64())])
_STATISTICS = pa.struct(
    [
        ("band", pa.string()),
        ("valid_px", pa.uint64()),
        ("min", pa.float64()),
        ("mean", pa.float64()),
        ("max", pa.float64()),
    ]
)

SCHEMA = pa.schema(
    [
        ("tile_row", pa.uint32()),
        ("tile_col", pa.uint32()),
        ("task_id", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("run_id", pa.string()),
        ("items", pa.list_(_ITEM)),
        ("model", pa.string()),
        ("model_digest", pa.string()),
        ("spec_digest", pa.string()),
        ("grid_digest", pa.string()),
        ("items_digest", pa.string()),
        ("code_version", pa.string()),
        ("environment", pa.string()),
        ("worker", pa.string()),
        ("device", pa.string()),
        ("device_s", pa.float64()),
        ("device_slots", pa.uint32()),
        ("started_at", _UTC),
        ("seconds", pa.map_(pa.string(), pa.float64())),
        ("attempts", pa.uint32()),
        ("requests", pa.uint64()),
        ("bytes_read", pa.uint64()),
        ("retries", pa.list_(_RETRY)),
        ("valid_px", pa.uint64()),
        ("value_min", pa.float64()),
        ("value_mean", pa.float64()),
        ("value_max", pa.float64()),
        ("consistency_residual", pa.float64()),
        ("content_sha256", pa.string()),
        ("guide_store", pa.string()),
        ("dates", pa.list_(pa.date32())),
        ("anchor", pa.string()),
        ("shifts", pa.list_(_SHIFT)),
        ("statistics", pa.list_(_STATISTICS)),
    ]
)
"""Columns of the ledger: the fields of :class:`Record`, the tile as two columns."""

_RECORD_FIELDS = tuple(field.name for field in fields(Record) if field.name != "tile")
_Member = ItemUse | ReadRetry | BandStatistics | DateShift
_NESTED: Mapping[str, type[_Member]] = MappingProxyType(
    {"items": ItemUse, "retries": ReadRetry, "statistics": BandStatistics, "shifts": DateShift}
)
_RARE = ("dates", "anchor", "shifts", "statistics")
"""Columns that are written where they hold something."""
_SLIM = tuple(name for name in SCHEMA.names if name not in ("items", "retries"))
"""Columns that are read quickly."""


def dump_records(records: list[Record]) -> bytes:
    """Return records as one Parquet file."""
    buffer = io.BytesIO()
    table = pa.Table.from_pylist([_to_row(record) for record in records], schema=SCHEMA)
    # a map of one band, or of one date, does without their columns
    table = table.drop_columns([name for name in _RARE if not any(getattr(record, name) for record in records)])
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def load_records(blob: bytes, *, items: bool = True) -> list[Record]:
    """Return all records of one Parquet file.

    Args:
        blob: The file.
        items: False leaves out items and retries, which take nearly all of the time.
    """
    return _to_records(_read_table(blob, None if items else _SLIM))


def load_record(blob: bytes, tile: Tile) -> Record | None:
    """Return the record of one tile; None if the file has none."""
    table = _read_table(blob)
    here = (table["tile_row"].to_numpy() == tile.row) & (table["tile_col"].to_numpy() == tile.col)
    if not here.any():
        return None
    return _to_records(table.slice(int(here.argmax()), 1))[0]


def _read_table(blob: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    return pq.ParquetFile(io.BytesIO(blob), page_checksum_verification=True).read(columns=columns)


def _to_row(record: Record) -> dict[str, Any]:
    # not asdict, which copies every value of every item: 4 ms for a record of 50 items
    row = {name: getattr(record, name) for name in _RECORD_FIELDS}
    row["tile_row"], row["tile_col"] = record.tile.row, record.tile.col
    row["seconds"] = list(record.seconds.items())
    row["items"] = [vars(item) for item in record.items]
    row["retries"] = [vars(retry) for retry in record.retries]
    row["shifts"] = [vars(shift) for shift in record.shifts]
    row["statistics"] = [vars(each) for each in record.statistics]
    return row


def _to_records(table: pa.Table) -> list[Record]:
    """Return records; a field whose column was not read, or not written by an older version, has its default."""
    known = [name for name in table.column_names if name in _RECORD_FIELDS and name not in _NESTED]
    columns = {name: table[name].to_pylist() for name in known}
    for name, kind in _NESTED.items():
        if name in table.column_names:
            columns[name] = _to_members(table[name], kind)
    if "dates" in columns:
        columns["dates"] = [tuple(days or ()) for days in columns["dates"]]
    columns["tile"] = list(map(Tile, table["tile_row"].to_pylist(), table["tile_col"].to_pylist()))
    columns["seconds"] = [dict(pairs) for pairs in table["seconds"].to_pylist()]
    return [Record(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def _to_members(column: pa.ChunkedArray, kind: type[_Member]) -> list[tuple[Any, ...]]:
    """Return a column of lists of structs as tuples of objects: field by field, quicker than row by row."""
    lists = column.combine_chunks()
    structs = lists.flatten()
    names = [field.name for field in structs.type]
    columns = [_to_values(member) for member in structs.flatten()]
    members = [kind(**dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)]
    return _split(members, lists)


def _to_values(array: pa.Array) -> list[Any]:
    """Return Python values, made once for each distinct one: tiles beside each other share their items."""
    if pa.types.is_list(array.type):
        return _split(_to_values(array.flatten()), array)
    encoded = array.dictionary_encode()
    distinct = [*encoded.dictionary.to_pylist(), None]
    return [distinct[number] for number in encoded.indices.fill_null(-1).to_pylist()]


def _split(members: list[Any], lists: pa.ListArray) -> list[tuple[Any, ...]]:
    ends = np.cumsum(lists.value_lengths().to_numpy(zero_copy_only=False)).tolist()
    return [tuple(members[start:end]) for start, end in itertools.pairwise([0, *ends])]
