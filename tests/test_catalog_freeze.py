"""Frozen items come back exactly, whatever a table cannot hold."""

import asyncio
import copy
import json

import pyarrow.parquet as pq
import pytest
import rustac
from catalog_fakes import make_item, make_items
from shared import SHARED, needs_shared

from mapper.catalog.freeze import load_items, save_items
from mapper.catalog.items import freeze_items, item_digest
from mapper.catalog.normalise import normalise_item
from mapper.catalog.provider import load_provider
from mapper.errors import SearchError

PLANETARY_COMPUTER = SHARED / "stac_items" / "planetary-computer"


def real_items():
    for path in sorted(PLANETARY_COMPUTER.rglob("*.json")):
        content = json.loads(path.read_text())
        for item in content if isinstance(content, list) else [content]:
            if isinstance(item, dict) and {"id", "collection", "geometry", "assets"} <= set(item):
                yield item


def awkward_items():
    """Items whose keys have no common type, or that no table can hold."""
    names = {"B04": {"href": "/a/B04.tif", "raster:bands": [{"nodata": "nan"}]}}
    numbers = {"B04": {"href": "/b/B04.tif", "raster:bands": [{"nodata": -9999, "scale": 1, "offset": 0.0}]}}
    return [
        make_item("names") | {"assets": names},
        make_item("numbers") | {"assets": numbers},
        make_item("nothing") | {"assets": {}},
        make_item("null", none=None, empty=[], nested={"a": [1, 2.0, "x"]}, big=2**60, tiny=1e-300, word="Ä"),
        make_item("text", none="text"),
    ]


def assert_round_trip(items, path):
    save_items(items, path)
    loaded = load_items(path)
    assert loaded == items
    assert loaded.digest == items.digest
    assert loaded.query == items.query
    assert [item_digest(item) for item in loaded] == [item_digest(item) for item in items]


@pytest.mark.parametrize("items", [make_items(), awkward_items()], ids=["plain", "awkward"])
def test_items_and_query_come_back_exactly(items, tmp_path):
    assert_round_trip(
        freeze_items(items, query={"provider": "demo", "superseded": []}), tmp_path / "a" / "items.parquet"
    )


@needs_shared
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "as kept"])
def test_real_items_come_back_exactly(whole, tmp_path):
    items = list(real_items())
    assert len(items) >= 17
    assets = load_provider("planetary-computer").assets
    if not whole:
        items = [normalise_item(i, assets=assets[i["collection"]]) for i in items if i["collection"] in assets]
    assert_round_trip(freeze_items(items), tmp_path / "items.parquet")


def test_a_frozen_file_is_stac_geoparquet_for_other_readers(tmp_path):
    items = freeze_items(make_items())
    save_items(items, tmp_path / "items.parquet")
    others = rustac.read_sync(str(tmp_path / "items.parquet"))["features"]
    assert [item["id"] for item in others] == [item["id"] for item in items]
    assert others[0]["assets"]["agb"]["href"] == items.items[0]["assets"]["agb"]["href"]
    metadata = pq.ParquetFile(tmp_path / "items.parquet").metadata.metadata
    assert {b"geo", b"stac-geoparquet"} <= set(metadata)


def test_items_without_common_columns_are_still_found_by_other_readers(tmp_path):
    save_items(freeze_items(awkward_items()[:2]), tmp_path / "items.parquet")
    assert {item["id"] for item in rustac.read_sync(str(tmp_path / "items.parquet"))["features"]} == {
        "names",
        "numbers",
    }


def test_a_file_that_others_wrote_is_read(tmp_path):
    items = make_items()
    rustac.write_sync(str(tmp_path / "items.parquet"), copy.deepcopy(items))
    assert [item["id"] for item in load_items(tmp_path / "items.parquet")] == [i["id"] for i in freeze_items(items)]


def test_items_can_be_saved_inside_a_running_event_loop(tmp_path):
    async def notebook():
        assert_round_trip(freeze_items(make_items()), tmp_path / "items.parquet")

    asyncio.run(notebook())


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "items.parquet"
    items = freeze_items(make_items())
    save_items(items, path)
    with pytest.raises(TypeError):
        save_items(freeze_items(make_items(), query={"unsayable": object()}), path)
    assert load_items(path) == items
    assert [p.name for p in tmp_path.iterdir()] == ["items.parquet"]


def test_no_items_are_not_saved(tmp_path):
    with pytest.raises(ValueError, match="no items"):
        save_items(freeze_items([]), tmp_path / "items.parquet")


def test_a_file_that_holds_no_items_is_an_error(tmp_path):
    (tmp_path / "items.parquet").write_text("nothing")
    for name in ("items.parquet", "missing.parquet"):
        with pytest.raises(SearchError, match=name) as error:
            load_items(tmp_path / name)
        assert "\n" not in str(error.value)
