"""Finding items for all windows at once finds what each window finds for itself."""

import json

import numpy as np
import pytest
import shapely
from catalog_fakes import make_item
from run_maps import make_spec

from mapper.catalog.footprint import footprint
from mapper.catalog.items import freeze_items
from mapper.plan.context import make_context
from mapper.plan.footprints import intersect_items
from mapper.plan.task_table import to_indices
from mapper.plan.windows import bounds_at, windows_at

GRIDS = {
    "EPSG:3035": {"crs": "EPSG:3035", "resolution": 10, "tile": 400, "chunk": 400},
    "EPSG:32633": {"crs": "EPSG:32633", "resolution": 10, "tile": 400, "chunk": 400},
    "EPSG:4326": {"kind": "native", "crs": "EPSG:4326", "resolution": "1/11250", "tile": 400, "chunk": 400},
}


def scatter(collection, number):
    """Footprints of all sizes in and around the area, some that only just touch a window."""
    rng = np.random.default_rng(len(collection))
    items = []
    for k in range(number):
        west, south = rng.uniform(13.6, 14.4), rng.uniform(51.8, 52.3)
        width, turn = rng.choice([0.0005, 0.02, 0.3]), rng.uniform(0, 90)
        item = make_item(f"{k:03d}", collection)
        shape = shapely.affinity.rotate(shapely.box(west, south, west + width, south + width), turn)
        items.append(item | {"geometry": json.loads(shapely.to_geojson(shape)), "bbox": list(shape.bounds)})
    return items


def outlines_of(items):
    return np.array([footprint(item) for item in items], object)


@pytest.mark.parametrize("crs", GRIDS)
def test_every_window_gets_the_items_it_touches(tmp_path, crs):
    source = {"collection": "esa-cci-biomass", "variable": "agb", "year": 2020}
    source["resolution"] = "1/1125" if crs == "EPSG:4326" else 100
    spec = make_spec(tmp_path, area=(14.0, 52.0, 14.2, 52.1), grid=GRIDS[crs], source=source)
    context, tiles = make_context(spec), list(spec.map_grid.tiles())
    items = freeze_items(scatter("sentinel-2-l2a", 300) + scatter("esa-cci-biomass", 40), query={"provider": "demo"})
    names = ("sentinel-2-l2a", "esa-cci-biomass")
    roles = [np.array([item["collection"] == name for item in items]) for name in names]
    found = intersect_items(context, to_indices(tiles), outlines_of(items), roles)
    geoboxes = [context.grid.geobox_of(context.window(tile)) for tile in tiles]
    for name, members in zip(names, found, strict=True):
        assert [items.pick(members.of(k)) for k in range(len(tiles))] == [
            items.of(name).touching(geobox) for geobox in geoboxes
        ]
        assert len(members.item)


def test_a_window_without_items_gets_none(tmp_path):
    context = make_context(make_spec(tmp_path))
    indices = context.grid.tile_indices()
    far = outlines_of([make_item("far", bounds=(-60, -10, -59, -9))])
    for outlines, where in ((far, indices), (far, indices[:0]), (far[:0], indices)):
        (members,) = intersect_items(context, where, outlines, [np.ones(len(outlines), bool)])
        assert members.counts.tolist() == [0] * len(where)


@pytest.mark.parametrize("crs", GRIDS)
def test_windows_of_all_tiles_are_those_of_each(tmp_path, crs):
    source = {"collection": "esa-cci-biomass", "variable": "agb", "year": 2020}
    source["resolution"] = "1/1125" if crs == "EPSG:4326" else 100
    context = make_context(make_spec(tmp_path, area=(14.0, 52.0, 14.2, 52.1), grid=GRIDS[crs], source=source))
    tiles = list(context.grid.tiles())
    boxes = [context.grid.geobox_of(context.grid.window(tile)).boundingbox.bbox for tile in tiles]
    step = context.contract.step(context.grid.scale)
    windows = [context.grid.window(tile, halo_px=context.halo_px, step=step) for tile in tiles]
    assert [context.window(tile) for tile in tiles] == windows
    assert windows_at(context, to_indices(tiles)).tolist() == [[w.top, w.left, w.bottom, w.right] for w in windows]
    np.testing.assert_allclose(bounds_at(context, to_indices(tiles), halo=False), boxes, rtol=1e-12)
    halos = [context.grid.geobox_of(window).boundingbox.bbox for window in windows]
    np.testing.assert_allclose(bounds_at(context, to_indices(tiles), halo=True), halos, rtol=1e-12)


def test_windows_across_180_degrees_get_what_they_touch_and_nothing_from_round_the_world(tmp_path):
    grid = {"crs": "EPSG:32760", "resolution": 100, "tile": 400, "chunk": 400}
    source = {"collection": "esa-cci-biomass", "variable": "agb", "year": 2020, "resolution": 1000}
    context = make_context(make_spec(tmp_path, area=(179.0, -17.0, 180.0, -16.0), grid=grid, source=source))
    tiles = list(context.grid.tiles())
    rng = np.random.default_rng(0)
    items = []
    for k in range(300):
        west, south = (
            rng.choice([178.5, 179.4, 179.9, -179.9, -179.5, 20.0, -70.0]) + rng.uniform(0, 0.3),
            rng.uniform(-18, -15),
        )
        box = [west, south, west + 0.2, south + 0.2]
        items.append(make_item(f"{k:03d}") | {"geometry": None, "bbox": [*box[:2], (box[2] + 180) % 360 - 180, box[3]]})
    items = freeze_items(items)
    (found,) = intersect_items(context, to_indices(tiles), outlines_of(items), [np.ones(len(items), bool)])
    far = {k for k, each in enumerate(items) if -100 < each["bbox"][0] < 100}
    assert not far & set(found.item.tolist())
    for k, tile in enumerate(tiles):
        geobox = context.grid.geobox_of(context.window(tile))
        assert items.pick(found.of(k)) == items.touching(geobox)
    east = {k for k, each in enumerate(items) if -180 <= each["bbox"][0] < -179}
    assert east & set(found.item.tolist())
