"""Estimates of all tasks at once: memory as for each alone, areas as on the ellipsoid."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
from catalog_fakes import make_item
from pyproj import Geod
from run_maps import make_items, make_spec, make_task, save_network

from mapper.catalog.items import freeze_items, item_datetime
from mapper.cost.estimate import estimate_tasks, explain_plan
from mapper.cube.pixel_positions import FRAME_PX
from mapper.errors import PlanError
from mapper.plan.context import RunOptions, make_context
from mapper.plan.memory import memory_bytes, tile_bytes
from mapper.plan.plan import Plan, make_plan
from mapper.plan.task_table import TaskTable
from mapper.store.identity import Identity


@pytest.fixture(scope="module")
def guided(tmp_path_factory):
    folder = tmp_path_factory.mktemp("estimate")
    items = make_items(folder)
    context = make_context(make_spec(folder, model=save_network(folder)))
    return context, make_plan(context.spec, items, context=context).tasks


def with_guide(task, days):
    items = [make_item(f"{day}-{platform}", when=f"2020-{day}T10:00:00Z", platform=platform) for day, platform in days]
    return replace(task, guide=freeze_items(items))


def test_memory_grows_with_the_images_of_the_fullest_season(guided):
    context, tasks = guided
    context = replace(context, options=RunOptions(patch_px=16, batch=1))  # the network needs next to nothing
    plane = np.prod(context.window(tasks[0].tile).shape) * 4
    days = [(f"{month:02d}-{day:02d}", sat) for month in (6, 7) for day in range(1, 21) for sat in ("a", "b")]
    winter = [(f"01-{day:02d}", "a") for day in range(1, 29)]
    made = [with_guide(tasks[0], chosen) for chosen in (days[:2], days + winter, days)]
    few, full, same = memory_bytes(context, TaskTable.of(made))
    frames = (FRAME_PX - plane // 4) * 4 * context.options.read_threads  # of files that declare no grid, any they have
    assert full == same == 2 * plane + 3 * len(days) * plane + frames
    assert few < full
    images = {(item_datetime(item).date(), item["properties"]["platform"]) for item in made[2].guide}
    assert len(images) == len(days)


def test_memory_holds_the_bands_that_are_decoded_together(guided):
    context, tasks = guided
    made = TaskTable.of([with_guide(tasks[0], [(f"06-{day:02d}", "a") for day in range(1, 6)])])
    (layer,) = context.spec.guide.layers
    rule = context.provider.rule(layer.collection)
    shared = rule.model_copy(update={"bands": {name: {"asset": "all", "band": name} for name in rule.bands}})
    collections = context.provider.collections | {layer.collection: shared}
    together = replace(context, provider=context.provider.model_copy(update={"collections": collections}))
    plane = np.prod(context.window(tasks[0].tile).shape) * 4
    more = memory_bytes(together, made) - memory_bytes(context, made)
    assert more == (len(layer.bands) - 1) * 5 * plane
    assert len(layer.bands) > 1


def test_memory_of_many_tasks_is_that_of_each_alone(guided):
    context, tasks = guided
    context = replace(context, options=RunOptions(patch_px=16, batch=1))
    made = [
        with_guide(task, [(f"06-{day:02d}", "a") for day in range(1, 3 + 9 * k)]) for k, task in enumerate(tasks[:3])
    ]
    together = memory_bytes(context, TaskTable.of(made))
    assert [memory_bytes(context, TaskTable.of([task]))[0] for task in made] == together.tolist()
    assert len(set(together.tolist())) > 1
    np.testing.assert_array_equal(estimate_tasks(context, TaskTable.of(made)).memory_bytes, together)


def test_a_model_without_guide_needs_little(guided):
    context, tasks = guided
    bare = replace(context, roles=("source",))
    assert memory_bytes(bare, tasks).max() < memory_bytes(context, tasks).min() / 4


def test_seconds_follow_pixels_bytes_and_device(guided):
    context, tasks = guided
    found = estimate_tasks(context, tasks)
    assert (found.read_s > 0).all()
    assert (found.write_s == found.write_s[0]).all()
    assert (found.predict_s("cuda") < found.predict_s("cpu") / 10).all()
    half = replace(found, window_px=found.window_px / 2)
    np.testing.assert_allclose(half.predict_s("cpu"), found.predict_s("cpu") / 2)


@pytest.mark.parametrize(
    "grid",
    [
        {"crs": "EPSG:3035", "resolution": 10, "tile": 400, "chunk": 400},
        {"crs": "EPSG:32633", "resolution": 10, "tile": 400, "chunk": 400},
        {"kind": "native", "crs": "EPSG:4326", "resolution": "1/11250", "tile": 400, "chunk": 400},
    ],
)
def test_areas_are_those_on_the_ellipsoid_on_every_grid(tmp_path, grid):
    source = {"collection": "esa-cci-biomass", "variable": "agb", "year": 2020}
    source["resolution"] = "1/1125" if grid["crs"] == "EPSG:4326" else 100
    spec = make_spec(tmp_path, area=(14.0, 52.0, 14.2, 52.1), grid=grid, source=source)
    context = make_context(spec)
    tasks = TaskTable.of([make_task(tile) for tile in context.grid.tiles()])
    areas = estimate_tasks(context, tasks).area_km2
    dense = shapely.segmentize(shapely.box(14.0, 52.0, 14.2, 52.1), 0.001)
    exact = abs(Geod(ellps="WGS84").geometry_area_perimeter(dense)[0]) / 1e6
    assert areas.sum() == pytest.approx(exact, rel=2e-4)
    assert areas.min() < areas.max()


def test_a_stored_tile_holds_value_deviation_flags_and_counts(guided):
    context, _ = guided
    assert tile_bytes(context) == 40 * 40 * (2 + 2 + 2 + 2)


def test_no_task_costs_nothing(guided):
    context, _ = guided
    found = estimate_tasks(context, TaskTable.of([]))
    assert found.scenes.shape == found.read_s.shape == found.memory_bytes.shape == found.area_km2.shape == (0,)
    assert found.distinct_scenes == 0
    nothing = TaskTable.of([])
    with pytest.raises(PlanError, match="no task"):
        explain_plan(Plan(identity=Identity(), tasks=nothing), context)
