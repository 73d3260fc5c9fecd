"""Records survive Parquet whole."""

import io
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_maps import make_items, make_record

from mapper.catalog.uses import ItemUse
from mapper.events import ReadRetry
from mapper.grid import Tile
from mapper.store.parquet import SCHEMA, dump_records, load_record, load_records
from mapper.store.record import BandStatistics, Record

EPOCH = datetime(1990, 1, 1, tzinfo=timezone(timedelta(hours=2)))

texts = st.text(max_size=20)
times = st.integers(0, 4 * 10**15).map(lambda us: EPOCH + timedelta(microseconds=us))
floats = st.floats(allow_nan=False, allow_infinity=False)
uses = st.builds(
    ItemUse, id=texts, collection=texts, role=st.sampled_from(["guide", "source"]), datetime=times, digest=texts,
    hrefs=st.lists(texts, max_size=3).map(tuple), calibration=texts, dropped=texts,
)  # fmt: skip
again = st.builds(
    ReadRetry, host=texts, item=texts, asset=texts, reason=texts, attempt=st.integers(1, 99), wait_s=floats
)
sums = st.builds(BandStatistics, band=texts, valid_px=st.integers(0, 2**40), mean=st.none() | floats, max=floats)
records = st.builds(
    Record, tile=st.builds(Tile, st.integers(0, 9999), st.integers(0, 9999)), task_id=texts,
    status=st.sampled_from(["ok", "empty", "failed"]), reason=texts, items=st.lists(uses, max_size=3).map(tuple),
    started_at=st.none() | times, seconds=st.dictionaries(texts, floats, max_size=3), attempts=st.integers(0, 9),
    requests=st.integers(0, 2**40), bytes_read=st.integers(0, 2**50), retries=st.lists(again, max_size=3).map(tuple),
    valid_px=st.integers(0, 2**40), value_mean=st.none() | floats, consistency_residual=st.none() | floats,
    statistics=st.lists(sums, max_size=3).map(tuple),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.lists(records, min_size=1, max_size=4, unique_by=lambda record: record.tile))
def test_records_come_back_whole(originals):
    blob = dump_records(originals)
    assert load_records(blob) == originals
    assert [load_record(blob, record.tile) for record in originals] == originals
    assert load_record(blob, Tile(10_000, 0)) is None
    bare = [replace(record, items=(), retries=()) for record in originals]
    assert load_records(blob, items=False) == bare


def test_every_field_of_a_record_has_a_column():
    fields = set(Record.__dataclass_fields__) - {"tile"} | {"tile_row", "tile_col"}
    assert fields == set(SCHEMA.names)
    assert set(ItemUse.__dataclass_fields__) == {field.name for field in SCHEMA.field("items").type.value_type}


def test_records_of_an_older_version_lack_what_it_did_not_write():
    record = replace(make_record(Tile(1, 2)), requests=7, bytes_read=9)
    table = pq.read_table(io.BytesIO(dump_records([record]))).drop_columns(["requests", "bytes_read", "retries"])
    blob = io.BytesIO()
    pq.write_table(table, blob, write_page_checksum=True)
    assert load_records(blob.getvalue()) == [replace(record, requests=0, bytes_read=0, retries=())]


@pytest.mark.parametrize("count", [1, 200])
def test_repeated_items_cost_little(count):
    rows = [make_record(Tile(0, k), items=make_items() * 4) for k in range(count)]
    assert len(dump_records(rows)) < 16_000 + 100 * count
