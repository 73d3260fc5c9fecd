"""The memory that planning expects of the source pixels of a window: no more where they are as fine as the map."""

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


PLACE = {"proj:transform": [100, 0, EAST, 0, -100, NORTH], "proj:shape": [70, 70], "proj:epsg": 3035}


@pytest.mark.parametrize("resolution", [100, 50])
def test_a_map_as_fine_as_its_sources_needs_nothing_for_frames(tmp_path, items, resolution, monkeypatch):
    told = declaring(items, **PLACE)
    expected = need(tmp_path, told, resolution)
    monkeypatch.setattr("mapper.plan.memory._frame_bytes", lambda *_: 0)
    assert need(tmp_path, told, resolution) == expected


@pytest.mark.parametrize(
    "stated",
    [
        # files of 5 * 10^9 pixels of 10 cm, the map of 100 m
        {"proj:transform": [0.1, 0, EAST, 0, -0.1, NORTH], "proj:shape": [70000, 70000]},
        # files of any size
        {"proj:transform": None},
    ],
)
def test_a_coarse_map_needs_a_frame_for_each_file_read_at_a_time_and_no_more(tmp_path, items, stated):
    # 4 million pixels of the one file of a source map, each twice 2 bytes
    assert need(tmp_path, declaring(items, **PLACE | stated), 100) == pytest.approx(4 * 4 * MIB, rel=0.1)


def test_a_small_file_needs_no_more_than_it_has(tmp_path, items):
    small = {"proj:transform": [14, 0, EAST, 0, -14, NORTH], "proj:shape": [500, 500]}
    same, fine = declaring(items, **PLACE), declaring(items, **PLACE | small)
    assert need(tmp_path, fine, 100) - need(tmp_path, same, 100) < 4 * 500 * 500


def need_of_dates(folder, items, model, *, dates, bands=("B04", "B08"), resolution=5):
    stack = {"kind": "stack", "collection": "sentinel-2-l2a", "bands": list(bands), "resolution": 10, "dates": dates}
    grid = {"kind": "projected", "crs": "EPSG:3035", "resolution": resolution, "tile": 120, "chunk": 40}
    spec = make_spec(folder, preset="sentinel2-multi", guide={}, source=stack, grid=grid, model={"name": model})
    context = make_context(spec)
    found = freeze_items(items, query={"provider": "demo", "margin_px": 1000})
    return memory_bytes(context, make_plan(spec, found, context=context).tasks).max()


@pytest.mark.parametrize("model", ["median", "burst"])
def test_each_date_and_each_band_of_a_stack_needs_memory(tmp_path, items, model):
    two, eight = (need_of_dates(tmp_path, items, model, dates=dates) for dates in (2, 8))
    one_band = need_of_dates(tmp_path, items, model, dates=8, bands=["B04"])
    assert two < eight
    assert one_band < eight


def test_a_wide_halo_is_part_of_what_a_patch_needs(tmp_path, items):
    # 15 rounds look 214 source pixels far: no patch is smaller than 1000 x 1000 px, 600 bytes each
    assert need_of_dates(tmp_path, items, "burst", dates=4) > 600 * 1000**2
    assert need_of_dates(tmp_path, items, "median", dates=4) < 150 * MIB
