"""Finding items for all windows at once finds what each window finds for itself."""

import json

import numpy as np
import pytest
import shapely
from catalog_fakes import make_item
from run_maps import make_spec

from mapper.catalog.items import freeze_items
from mapper.run.context import make_context
from mapper.run.touching import find_touching

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


@pytest.mark.parametrize("crs", GRIDS)
def test_every_window_gets_the_items_it_touches(tmp_path, crs):
    source = {"collection": "esa-cci-biomass", "variable": "agb", "year": 2020}
    source["resolution"] = "1/1125" if crs == "EPSG:4326" else 100
    spec = make_spec(tmp_path, area=(14.0, 52.0, 14.2, 52.1), grid=GRIDS[crs], source=source)
    context, tiles = make_context(spec), list(spec.map_grid.tiles())
    items = freeze_items(scatter("sentinel-2-l2a", 300) + scatter("esa-cci-biomass", 40), query={"provider": "demo"})
    collections = items.of("sentinel-2-l2a"), items.of("esa-cci-biomass")
    found = list(find_touching(context, tiles, collections))
    geoboxes = [context.grid.geobox_of(context.window(tile)) for tile in tiles]
    assert found == [[each.touching(geobox) for each in collections] for geobox in geoboxes]
    assert any(len(guide) for guide, _ in found)


def test_a_window_without_items_gets_none(tmp_path):
    context = make_context(make_spec(tmp_path))
    tiles = list(context.grid.tiles())
    far = freeze_items([make_item("far", bounds=(-60, -10, -59, -9))])
    assert list(find_touching(context, tiles, (far, freeze_items([])))) == [[freeze_items([])] * 2] * len(tiles)
    assert list(find_touching(context, [], (far,))) == []
