"""The memory that planning expects of the source pixels of a window: none in excess where they are as fine as the map."""

import pytest
from run_maps import EAST, NORTH, make_items, make_spec

from mapper.catalog.items import freeze_items
from mapper.plan.context import make_context
from mapper.plan.memory import memory_bytes
from mapper.plan.plan import make_plan

MIB = 1 << 20


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    return make_items(tmp_path_factory.mktemp("memory"))


def need(folder, items, resolution, source=1000, tile=40):
    grid = {"crs": "EPSG:3035", "resolution": resolution, "tile": tile, "chunk": tile}
    source = {"collection": "esa-cci-biomass", "variable": "agb", "sd": "agb_sd", "year": 2020, "resolution": source}
    spec = make_spec(folder, grid=grid, source=source, model={"name": "bicubic"})
    context = make_context(spec)
    return memory_bytes(context, make_plan(spec, items, context=context).tasks).max()


def declaring(items, **grid):
    """The items, what they say of their grids replaced."""
    return freeze_items(
        item | {"assets": {key: asset | grid for key, asset in item["assets"].items()}} for item in items
    )


def test_a_map_as_fine_as_its_sources_needs_nothing_for_frames(tmp_path, items):
    fine = declaring(items, **{"proj:transform": None})
    assert need(tmp_path, items, 100) < need(tmp_path, fine, 100)


def test_a_coarse_map_needs_a_frame_for_each_file_read_at_a_time_and_no_more(tmp_path, items):
    # files of 5 * 10^9 pixels of 10 cm, the map of 100 m: four at a time of 4 million pixels, twice 2 bytes each
    huge = {"proj:shape": [70000, 70000], "proj:transform": [0.1, 0, EAST, 0, -0.1, NORTH], "proj:epsg": 3035}
    fine = declaring(items, **huge)
    assert need(tmp_path, fine, 100) == pytest.approx(need(tmp_path, items, 100) + 4 * 4 * 4 * MIB, rel=0.2)
