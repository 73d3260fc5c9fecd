"""Records survive Parquet whole."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_maps import make_items, make_record

from mapper.catalog.uses import ItemUse
from mapper.grid import Tile
from mapper.store.parquet import SCHEMA, dump_records, load_record, load_records
from mapper.store.record import Record

EPOCH = datetime(1990, 1, 1, tzinfo=timezone(timedelta(hours=2)))

texts = st.text(max_size=20)
times = st.integers(0, 4 * 10**15).map(lambda us: EPOCH + timedelta(microseconds=us))
floats = st.floats(allow_nan=False, allow_infinity=False)
uses = st.builds(
    ItemUse, id=texts, collection=texts, role=st.sampled_from(["guide", "source"]), datetime=times, digest=texts,
    hrefs=st.lists(texts, max_size=3).map(tuple), calibration=texts, dropped=texts,
)  # fmt: skip
records = st.builds(
    Record, tile=st.builds(Tile, st.integers(0, 9999), st.integers(0, 9999)), task_id=texts,
    status=st.sampled_from(["ok", "empty", "failed"]), reason=texts, items=st.lists(uses, max_size=3).map(tuple),
    started_at=st.none() | times, seconds=st.dictionaries(texts, floats, max_size=3), attempts=st.integers(0, 9),
    valid_px=st.integers(0, 2**40), value_mean=st.none() | floats, consistency_residual=st.none() | floats,
)  # fmt: skip


@given(st.lists(records, min_size=1, max_size=4, unique_by=lambda record: record.tile))
def test_records_come_back_whole(originals):
    blob = dump_records(originals)
    assert load_records(blob) == originals
    assert [load_record(blob, record.tile) for record in originals] == originals
    assert load_record(blob, Tile(10_000, 0)) is None


def test_every_field_of_a_record_has_a_column():
    fields = set(Record.__dataclass_fields__) - {"tile"} | {"tile_row", "tile_col"}
    assert fields == set(SCHEMA.names)
    assert set(ItemUse.__dataclass_fields__) == {field.name for field in SCHEMA.field("items").type.value_type}


@pytest.mark.parametrize("count", [1, 200])
def test_repeated_items_cost_little(count):
    rows = [make_record(Tile(0, k), items=make_items() * 4) for k in range(count)]
    assert len(dump_records(rows)) < 16_000 + 100 * count
