"""Items are searched once, and again only for another question."""

import pytest

from mapper.catalog.inventory import inventory_path, take_inventory
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
