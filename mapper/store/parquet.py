"""Records as Parquet: one blob for each commit, readable by any Parquet tool once taken out of the store."""

import io
from dataclasses import asdict, fields
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mapper.catalog.uses import ItemUse
from mapper.events import ReadRetry
from mapper.grid import Tile
from mapper.store.record import Record

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
    ]
)
"""Columns of the ledger: the fields of :class:`Record`, the tile as two columns."""


def dump_records(records: list[Record]) -> bytes:
    """Records as one Parquet file."""
    buffer = io.BytesIO()
    table = pa.Table.from_pylist([_to_row(record) for record in records], schema=SCHEMA)
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def load_records(blob: bytes) -> list[Record]:
    """All records of one Parquet file."""
    return [_from_row(row) for row in _read_table(blob).to_pylist()]


def load_record(blob: bytes, tile: Tile) -> Record | None:
    """The record of one tile; None if the file has none."""
    table = _read_table(blob)
    here = (table["tile_row"].to_numpy() == tile.row) & (table["tile_col"].to_numpy() == tile.col)
    if not here.any():
        return None
    return _from_row(table.slice(int(here.argmax()), 1).to_pylist()[0])


def _read_table(blob: bytes) -> pa.Table:
    return pq.ParquetFile(io.BytesIO(blob), page_checksum_verification=True).read()


def _to_row(record: Record) -> dict[str, Any]:
    row = asdict(record)
    row.pop("tile")
    return row | {"tile_row": record.tile.row, "tile_col": record.tile.col, "seconds": list(record.seconds.items())}


def _from_row(row: dict[str, Any]) -> Record:
    """A record; a column that an older version did not write leaves the field at its default."""
    known = {field.name for field in fields(Record)}
    content = {name: value for name, value in row.items() if name in known}
    content["tile"] = Tile(row["tile_row"], row["tile_col"])
    content["items"] = tuple(ItemUse(**(item | {"hrefs": tuple(item["hrefs"])})) for item in row["items"])
    content["retries"] = tuple(ReadRetry(**retry) for retry in row.get("retries", ()))
    content["seconds"] = dict(row["seconds"])
    return Record(**content)
