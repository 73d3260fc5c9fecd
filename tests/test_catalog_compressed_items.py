"""Items that are kept compressed are the items, one by one and together, in little memory."""

import json
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catalog_fakes import make_item
from hypothesis import given, settings
from hypothesis import strategies as st

from mapper.catalog.compressed_items import CompressedItems, seal_texts
from mapper.catalog.freeze import load_items, open_items, save_items
from mapper.catalog.items import Items, freeze_items


def arrays_of(items, sizes):
    """Texts of items, cut into arrays."""
    texts, arrays = [json.dumps(item) for item in items], []
    for size in sizes:
        arrays.append(pa.array(texts[:size], pa.string()))
        texts = texts[size:]
    return [*arrays, pa.array(texts, pa.string())]


@settings(deadline=None)
@given(st.integers(0, 70), st.lists(st.integers(0, 40), max_size=4), st.randoms(use_true_random=False))
def test_kept_items_are_a_sequence_of_the_items(count, sizes, random):
    items = [{"id": f"é{number}", "value": [number, None]} for number in range(count)]
    kept = CompressedItems(arrays_of(items, sizes))
    assert (len(kept), list(kept), kept[3:9]) == (count, items, tuple(items[3:9]))
    assert kept == tuple(items)
    assert tuple(items) == kept
    assert kept != (*items, {})
    numbers = [random.randrange(-count, count) for _ in range(3 * count)]
    assert [kept[number] for number in numbers] == [items[number] for number in numbers]
    for beyond in (count, -count - 1):
        with pytest.raises(IndexError, match=f"of {count}"):
            kept[beyond]


@settings(deadline=None)
@given(st.lists(st.text(max_size=5), max_size=20), st.lists(st.integers(0, 9), max_size=3), st.data())
def test_a_seal_tells_texts_apart_and_not_how_they_come(texts, sizes, data):
    seal = seal_texts([pa.array(texts, pa.string())])
    cut, rest = [], texts
    for size in sizes:
        cut.append(pa.array(rest[:size], pa.string()))
        rest = rest[size:]
    assert seal_texts([*cut, pa.array(["before", *rest], pa.string())[1:]]) == seal
    other = data.draw(st.lists(st.text(max_size=5), max_size=20))
    assert (seal_texts([pa.array(other, pa.string())]) == seal) == (other == texts)
    if len("".join(texts)) > 1:  # the same characters, cut elsewhere
        assert seal_texts([pa.array(["".join(texts), ""], pa.string())]) != seal or texts == ["".join(texts), ""]


def test_items_of_a_file_are_opened_as_they_are_loaded(tmp_path):
    items = freeze_items([make_item(f"{k:04d}", note="x" * k) for k in range(300)], query={"provider": "demo"})
    save_items(items, tmp_path / "items.parquet")
    opened = open_items(tmp_path / "items.parquet")
    assert opened == load_items(tmp_path / "items.parquet") == items
    assert (opened.digest, opened.query) == (items.digest, items.query)
    assert opened.pick([7, 3]) == items.pick([7, 3])
    assert isinstance(opened.items, CompressedItems)


def test_a_file_that_was_changed_or_comes_from_elsewhere_has_another_seal_and_is_in_order(tmp_path):
    path = tmp_path / "items.parquet"
    items = freeze_items([make_item(f"{k:04d}") for k in range(30)])
    save_items(items, path)
    seal, table = open_items(path).seal, pq.read_table(path)
    pq.write_table(table.take(list(range(29, -1, -1))), path)  # its metadata says that nothing happened
    turned = open_items(path)
    assert turned == items
    assert turned.seal not in ("", seal)
    pq.write_table(table.drop_columns(["mapper:item"]), path)
    foreign = open_items(path)
    assert [item["id"] for item in foreign] == [item["id"] for item in items]
    assert foreign.seal not in ("", seal, turned.seal)


def test_kept_items_take_a_small_part_of_the_memory():
    items = [make_item(f"{k:05d}", links=["x" * 9] * 100, note=k) for k in range(3000)]
    texts = arrays_of(items, [])
    tracemalloc.start()
    try:
        kept = CompressedItems(texts)
        for number in range(3000):
            kept[number]
        small = tracemalloc.get_traced_memory()[0] + kept.nbytes
        whole = Items(items=tuple(kept))
        large = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(whole) == 3000
    assert small < large / 2
