"""Items are searched once, and again only for another question."""

import pytest
import shapely

from mapper.catalog.inventory import inventory_path, take_inventory
from mapper.catalog.query import searched_margin
from mapper.errors import SearchError
from mapper.spec import read_spec


def test_items_are_kept_beside_the_map_and_used_again(region):
    path = inventory_path(region.map)
    first = take_inventory(read_spec(region.map), path)
    for item in region.items("S2"):
        item.unlink()
    again = take_inventory(read_spec(region.map), path)
    assert again.digest == first.digest
    assert path.name == "map.items.parquet"


def test_another_question_is_asked_anew(region):
    path = inventory_path(region.map)
    first = take_inventory(read_spec(region.map), path)
    region.change(guide__seasons={"summer": [7]})
    assert len(take_inventory(read_spec(region.map), path)) < len(first)


def test_a_failing_search_leaves_what_was_kept(region):
    path = inventory_path(region.map)
    take_inventory(read_spec(region.map), path)
    content = path.read_bytes()
    region.change(period={"start": "1999-01-01", "end": "1999-12-31"})
    with pytest.raises(SearchError, match="1999"):
        take_inventory(read_spec(region.map), path)
    assert path.read_bytes() == content


def test_items_are_searched_again_where_windows_reach_farther_than_the_last_search(region):
    spec, path = read_spec(region.map), inventory_path(region.map)
    near = take_inventory(spec, path)
    assert take_inventory(spec, path, margin_px=160).query == near.query
    far = take_inventory(spec, path, margin_px=300)
    assert (searched_margin(near), searched_margin(far)) == (160, 300)
    areas = [shapely.box(*items.query["queries"][0]["bbox"]) for items in (near, far)]
    assert areas[1].contains_properly(areas[0])
    assert take_inventory(spec, path, margin_px=200).query == far.query
    assert take_inventory(spec, path).query == far.query
