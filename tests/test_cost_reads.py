"""Counting reads from metadata: against the blocks of real files, and against the reader itself."""

import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from file_server import FileServer
from pyproj import CRS, Transformer
from rasterio.warp import transform_bounds
from rasterio.windows import Window, intersect
from run_maps import make_spec, make_task

from mapper.access.files import Access, AssetName
from mapper.access.rules import AccessRule
from mapper.catalog.items import freeze_items
from mapper.cost.reads import count_reads
from mapper.cube.resample import Sampler, SourceGrid
from mapper.plan.context import make_context
from mapper.plan.memory import Pairs
from mapper.plan.task_table import TaskTable
from mapper.plan.window_rules import HaloRule

EAST, NORTH = 4_300_000, 3_230_000


def make_item(name, collection, crs, origin, step, shape, assets, **properties):
    west, north = origin
    box = transform_bounds(crs, "EPSG:4326", west, north - shape[0] * step, west + shape[1] * step, north)
    place = {"proj:shape": list(shape), "proj:transform": [step, 0, west, 0, -step, north]}
    return {
        "type": "Feature",
        "id": name,
        "collection": collection,
        "geometry": json.loads(shapely.to_geojson(shapely.box(*box))),
        "bbox": list(box),
        "properties": {"datetime": "2020-06-03T10:00:00Z", "platform": "sentinel-2a", "proj:code": crs, **properties},
        "assets": {key: {"href": href, **place} for key, href in assets.items()},
        "links": [],
    }


def remote(*keys):
    return {key: f"https://archive.test/{key}.tif" for key in keys}


def guide_item(name="S2", crs="EPSG:3035", origin=(EAST, NORTH), step=10, shape=(5000, 5000), assets=None, **more):
    keys = assets or remote("B04", "B08", "SCL")
    return make_item(name, "sentinel-2-l2a", crs, origin, step, shape, keys, **more)


def source_item(assets=None):
    keys = assets or remote("agb", "agb_sd")
    return make_item("cci", "esa-cci-biomass", "EPSG:3035", (EAST, NORTH), 100, (500, 500), keys)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return make_spec(tmp_path_factory.mktemp("reads"), tile=400, area=(10.0, 52.0, 10.1, 52.06))


@pytest.fixture(scope="module")
def context(spec):
    """As if the model had a guide and a halo of 32 px."""
    context = make_context(spec)
    halo = 32 + context.grid.scale
    return replace(context, roles=("guide", "source"), halo_px=halo, window_rule=HaloRule(halo_px=halo, step_px=10))


def count(context, *items):
    frozen = freeze_items(items)
    guide, source = frozen.of("sentinel-2-l2a"), frozen.of("esa-cci-biomass")
    tasks = []
    for tile in context.grid.tiles():
        geobox = context.grid.geobox_of(context.window(tile))
        tasks.append(make_task(tile, guide=guide.touching(geobox), source=source.touching(geobox)))
    return tasks, count_tasks(context, tasks)


def count_tasks(context, tasks):
    table = TaskTable.of(tasks)
    return count_reads(context, table, {"guide": Pairs.of(table, "guide"), "source": Pairs.of(table, "source")})


def test_blocks_and_rows_of_blocks_are_those_of_a_tiled_file(context, tmp_path):
    path = tmp_path / "blocks.tif"
    profile = {"width": 5000, "height": 5000, "count": 1, "dtype": "uint8", "crs": "EPSG:3035"}
    with rasterio.open(
        path, "w", driver="GTiff", tiled=True, blockxsize=512, blockysize=512, sparse_ok=True,
        transform=Affine(10, 0, EAST, 0, -10, NORTH), **profile,
    ):  # fmt: skip
        pass
    tasks, reads = count(context, guide_item(assets=remote("B04", "SCL")), source_item(remote("nothing")))
    with rasterio.open(path) as dataset:
        for k, task in enumerate(tasks):
            window = context.window(task.tile)
            bounds = context.grid.geobox_of(window).boundingbox.bbox
            inner = dataset.window(*bounds)
            read = Window(inner.col_off - 2, inner.row_off - 2, inner.width + 4, inner.height + 4)
            blocks = [(at, block) for at, block in dataset.block_windows(1) if intersect(read, block)]
            pixels = sum(block.width * block.height for _, block in blocks)
            assert reads.block_bytes[k] == pixels * (2 + 1)
            assert reads.window_bytes[k] == read.width * read.height * (2 + 1)
            assert reads.requests[k] == 2 * (1 + len({row for (row, _), _ in blocks}))
            assert reads.files[k] == 2


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:32633", "EPSG:4326"])
def test_windows_in_other_projections_are_as_large_as_what_the_reader_reads(context, crs):
    step = 1 / 8000 if crs == "EPSG:4326" else 20
    middle = shapely.box(*context.grid.geobox.boundingbox.bbox).centroid
    x, y = Transformer.from_crs("EPSG:3035", crs, always_xy=True).transform(middle.x, middle.y)
    origin = (round(x / step) * step - 4000 * step, round(y / step) * step + 4000 * step)
    item = guide_item(crs=crs, origin=origin, step=step, shape=(8000, 8000), assets=remote("B04", "SCL"))
    tasks, reads = count(context, item, source_item(remote("nothing")))
    grid = SourceGrid(crs=CRS(crs).to_wkt(), step=(step, -step), phase=(0.0, 0.0))
    for task, found in zip(tasks, reads.window_bytes, strict=True):
        frame = Sampler().positions(context.grid.geobox_of(context.window(task.tile)), grid).shape
        assert found / 3 == pytest.approx(frame[0] * frame[1], rel=0.01)


def test_requests_are_those_that_a_server_sees(context, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    pixels = np.random.default_rng(1).integers(0, 4000, (2600, 2600), np.uint16)
    profile = {"width": 2600, "height": 2600, "count": 1, "dtype": "uint16", "crs": "EPSG:3035", "compress": "deflate"}
    transform = Affine(10, 0, EAST, 0, -10, NORTH)
    with rasterio.open(tmp_path / "B04.tif", "w", driver="COG", blocksize=512, transform=transform, **profile) as file:
        file.write(pixels, 1)
    with FileServer(tmp_path) as server:
        href = server.url(tmp_path / "B04.tif")
        item = guide_item(shape=(2600, 2600), assets={"B04": href, "SCL": "/local.tif"})
        size = (tmp_path / "B04.tif").stat().st_size
        item["assets"]["B04"] |= {"file:size": size, "type": "image/tiff; application=geotiff"}
        tasks, reads = count(context, item, source_item(remote("nothing")))
        access, off = Access(), []
        for task, expected in zip(tasks, reads.requests, strict=True):
            bounds = context.grid.geobox_of(context.window(task.tile)).boundingbox.bbox
            before = access.tally.requests
            name = AssetName(item="S2", asset="B04", href=href)
            access.read(name, AccessRule(), lambda file, bounds=bounds: _read_around(file, bounds))
            off.append(access.tally.requests - before - expected)
    assert set(off) == {0}
    assert access.tally.bytes_read == pytest.approx(reads.bytes_read.sum(), rel=0.05)


def _read_around(file, bounds):
    whole = Window(0, 0, file.width, file.height)
    inner = file.window(*bounds)
    read = Window(inner.col_off - 2, inner.row_off - 2, inner.width + 4, inner.height + 4)
    return file.read(1, window=read.intersection(whole)) if intersect(read, whole) else None


def test_a_window_off_the_side_of_a_file_costs_its_opening(context):
    # the footprint claims a little more than the file has
    _, _, right, _ = context.grid.geobox.boundingbox.bbox
    item = guide_item(shape=(5000, 5000), origin=(right + 1000, NORTH))
    outline = shapely.geometry.shape(item["geometry"]).bounds
    item["geometry"] = json.loads(shapely.to_geojson(shapely.box(outline[0] - 0.07, *outline[1:])))
    tasks, reads = count(context, item, source_item(remote("nothing")))
    assert (reads.files == 3).all()
    assert reads.requests[-1] == 3  # their headers
    assert reads.block_bytes[-1] == 0
    assert 0 < reads.bytes_read[-1] < 100_000
    assert len(tasks) > 1


def test_local_files_cost_no_request_and_no_transfer(context, tmp_path):
    local = {key: str(tmp_path / f"{key}.tif") for key in ("B04", "B08", "SCL")}
    _, reads = count(context, guide_item(assets=local), source_item({"agb": "file:///data/agb.tif"}))
    assert not reads.requests.any()
    assert not reads.bytes_read.any()
    assert (reads.block_bytes > 0).all()


def test_a_stated_file_size_goes_before_the_usual_compression(context):
    def travelled(**stated):
        item = guide_item(assets={"B04": "https://archive.test/B04.jp2", "SCL": "/local/SCL.tif"})
        item["assets"]["B04"] |= stated
        return count(context, item, source_item({"agb": "/local/agb.tif"}))[1].bytes_read - (32 << 10)

    decoded = 5000 * 5000 * 2
    usual, tenth, tiff = travelled(), travelled(**{"file:size": decoded // 10}), travelled(
        **{"file:size": decoded // 10, "type": "image/tiff; application=geotiff"}
    )  # fmt: skip
    np.testing.assert_allclose(tenth, usual / 6)
    np.testing.assert_allclose(tiff, 0.75 * tenth)
    np.testing.assert_allclose(travelled(**{"file:size": 50 * decoded}), usual / 0.6)


def test_only_what_enters_a_channel_is_read_and_nothing_of_an_item_without_mask(context):
    _, whole = count(context, guide_item(), source_item())
    _, masked = count(context, guide_item(assets=remote("B04", "B08")), source_item())
    assert (whole.files == 3 + 2).all()
    assert (masked.files == 2).all()
    other_year = source_item()
    other_year["properties"]["datetime"] = "2018-01-01T00:00:00Z"
    assert (count(context, guide_item(), other_year)[1].files == 3).all()


def test_items_that_declare_no_place_cost_about_the_same(context):
    bare, nothing = guide_item(), guide_item()
    for item in (bare, nothing):
        item["properties"].pop("proj:code")
        for asset in item["assets"].values():
            asset.pop("proj:transform")
            if item is nothing:
                asset.pop("proj:shape")
    exact, *guesses = (count(context, item, source_item())[1] for item in (guide_item(), bare, nothing))
    for guess in guesses:
        assert guess.window_bytes.sum() == pytest.approx(exact.window_bytes.sum(), rel=0.15)
        assert guess.files.tolist() == exact.files.tolist()


def test_a_hundred_tasks_count_as_each_of_them_alone(context):
    items = [guide_item(), guide_item("S2-b", origin=(EAST + 15_000, NORTH - 9_000)), source_item()]
    tasks, together = count(context, *items)
    for k, task in enumerate(tasks):
        alone = count_tasks(context, [task])
        for name in ("files", "requests", "bytes_read", "window_bytes", "block_bytes"):
            assert getattr(alone, name)[0] == pytest.approx(getattr(together, name)[k])


@pytest.mark.parametrize("first", [0, -180, -360])
def test_a_file_in_any_turn_of_longitudes_costs_the_same(context, first):
    step = 1 / 40
    item = make_item(
        "S2", "sentinel-2-l2a", "EPSG:4326", (first, 60), step, (800, round(360 / step)), remote("B04", "B08", "SCL")
    )
    item |= {"geometry": json.loads(shapely.to_geojson(shapely.box(-180, 40, 180, 60)))}
    _, reads = count(context, item, source_item(remote("nothing")))
    assert (reads.window_bytes > 0).all()
    assert (reads.window_bytes < 1000 * 5).all()


def test_a_tile_across_180_degrees_costs_what_another_does(tmp_path):
    grid = {"crs": "EPSG:32760", "resolution": 10, "tile": 400, "chunk": 400}
    costs = []
    for west in (178.0, 179.98):
        made = make_context(make_spec(tmp_path, area=(west, -16.6, west + 0.02, -16.58), grid=grid))
        item = make_item(
            "S2", "sentinel-2-l2a", "EPSG:4326", (0, 0), 1 / 8000, (160000, 360 * 8000), remote("B04", "SCL")
        )
        item |= {"geometry": json.loads(shapely.to_geojson(shapely.box(-180, -20, 180, 0)))}
        made = replace(made, roles=("guide", "source"))
        items = freeze_items([item])
        tasks = [make_task(tile, guide=items, source=freeze_items([])) for tile in made.grid.tiles()]
        costs.append(count_tasks(made, tasks).window_bytes.mean())
    assert costs[1] == pytest.approx(costs[0], rel=0.05)
