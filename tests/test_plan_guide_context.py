"""A guide written first and a map made from it: the same map as in one go, checked before it starts."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import xarray as xr
from run_maps import assert_same_map, contents_of, make_items, make_spec, save_network
from shapely.geometry import box as shapely_box
from shapely.geometry import mapping

from mapper.catalog.items import Items, freeze_items
from mapper.cluster.local import local_cluster
from mapper.cube.composite import read_guide
from mapper.errors import ContractError, PlanError, StoreMismatchError
from mapper.execute.executors import DaskExecutor, SerialExecutor, ThreadExecutor
from mapper.grid import Tile
from mapper.plan.context import make_context
from mapper.plan.guide_context import make_guide_context, reach_of
from mapper.plan.pending import find_pending
from mapper.plan.plan import make_plan
from mapper.run import map_tile as task_module
from mapper.run.commit_loop import RunPolicy
from mapper.run.runner import run_plan
from mapper.run.stored_guide import attach_guide
from mapper.store.map_store import MapStore
from mapper.store.verify import verify_store
from mapper.store.why import why


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    return make_items(folder, hole=(slice(36, 43), slice(34, 42))), folder


def make_map(folder, *, architecture="msg", consistency="soft", tile=80, **changes):
    return make_spec(
        folder,
        tile=tile,
        model=save_network(folder, architecture=architecture) if architecture != "bicubic" else {"name": "bicubic"},
        consistency=consistency,
        **({"grid": {"crs": "EPSG:3035", "resolution": 10, "tile": tile, "chunk": 40}} | changes),
    )


def composite(spec, items, location, *, halo_px=None, executor=None, only=None, policy=None):
    context = make_guide_context(make_context(spec), halo_px=halo_px)
    plan = make_plan(spec, items, context=context, only=only)
    return run_plan(plan, context, str(location), executor or ThreadExecutor(2), policy=policy)


def sharpen(spec, items, location, *, guide=None, executor=None, only=None, policy=None):
    context = make_context(spec)
    plan = make_plan(spec, items, context=context, only=only)
    if guide is not None:
        context = attach_guide(context, plan.tasks, items, str(guide))
    return run_plan(plan, context, str(location), executor or ThreadExecutor(2), policy=policy)


def uses_of(location):
    return {record.tile: record.items for record in MapStore.open(str(location)).ledger.records()}


def cut_in_half(item, folder):
    """The same item without its east: no data there, and a footprint that says so."""
    assets = {}
    for key, asset in item["assets"].items():
        with rasterio.open(asset["href"]) as whole:
            values, profile = whole.read(), whole.profile
        values[:, :, 385:] = 0
        with rasterio.open(folder / f"{item['id']}_{key}_west.tif", "w", **profile) as west:
            west.write(values)
        assets[key] = {**asset, "href": str(folder / f"{item['id']}_{key}_west.tif")}
    west, south, east, north = item["bbox"]
    box = (west, south, west + (east - west) * 0.56, north)
    return {**item, "assets": assets, "bbox": list(box), "geometry": mapping(shapely_box(*box))}


@pytest.fixture(scope="module")
def written(scenes, tmp_path_factory):
    """A map made in one go, and the guide of the same map."""
    items, _ = scenes
    folder = tmp_path_factory.mktemp("written")
    spec = make_map(folder)
    assert sharpen(spec, items, folder / "fused").exit_code == 0
    assert composite(spec, items, folder / "guide").exit_code == 0
    return spec, folder


def test_two_phases_make_the_same_map_to_the_bit(scenes, written, tmp_path, monkeypatch):
    items, _ = scenes
    spec, folder = written
    monkeypatch.setattr(task_module, "read_guide", lambda *_, **__: pytest.fail("the archive was read"))
    report = sharpen(spec, items, tmp_path / "later", guide=folder / "guide")
    assert (report.exit_code, report.failed) == (0, 0)
    assert report.done > 3
    assert_same_map(contents_of(str(folder / "fused"), spec), contents_of(str(tmp_path / "later"), spec))
    assert uses_of(folder / "fused") == uses_of(tmp_path / "later")


def test_workers_of_a_cluster_make_the_same_map_with_and_without_a_guide_written_first(scenes, written, tmp_path):
    items, _ = scenes
    spec, folder = written
    with local_cluster(2, threads_per_worker=2) as client:
        executor = DaskExecutor(cluster=client)
        assert composite(spec, items, tmp_path / "guide", executor=executor).exit_code == 0
        assert sharpen(spec, items, tmp_path / "map", guide=tmp_path / "guide", executor=executor).exit_code == 0
        policy = RunPolicy(commit_tiles=2)
        assert sharpen(spec, items, tmp_path / "fused", executor=executor, policy=policy).exit_code == 0
    for name in ("map", "fused"):
        assert_same_map(contents_of(str(folder / "fused"), spec), contents_of(str(tmp_path / name), spec))
        assert len({record.worker for record in MapStore.open(str(tmp_path / name)).ledger.records()}) == 2
    checksums = [
        {r.tile: r.content_sha256 for r in MapStore.open(str(p / "guide")).ledger.records()} for p in (folder, tmp_path)
    ]
    assert checksums[0] == checksums[1]


def test_a_corrupt_item_is_left_out_flagged_and_named_alike(scenes, tmp_path):
    items, _ = scenes
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"no raster")
    lame = [dict(item) for item in items]
    for item in lame:
        if item["id"] == "S2_2020-07-08":
            item["assets"] = {key: {**asset, "href": str(broken)} if key == "B08" else asset
                              for key, asset in item["assets"].items()}  # fmt: skip
    lame = freeze_items(lame, query=items.query)
    spec = make_map(tmp_path, consistency="hard", area=(10.0, 52.0, 10.01, 52.006))
    sharpen(spec, lame, tmp_path / "fused")
    composite(spec, lame, tmp_path / "guide")
    sharpen(spec, lame, tmp_path / "later", guide=tmp_path / "guide")
    assert_same_map(contents_of(str(tmp_path / "fused"), spec), contents_of(str(tmp_path / "later"), spec))
    uses = uses_of(tmp_path / "later")
    assert uses == uses_of(tmp_path / "fused")
    assert any(use.dropped for use in next(iter(uses.values())))


def test_where_nothing_was_seen_is_the_same_too(scenes, tmp_path):
    """Items of half the map only: tiles without any, tiles with gaps."""
    items, _ = scenes
    cut = [cut_in_half(item, tmp_path) if item["collection"] == "sentinel-2-l2a" else item for item in items]
    cut = freeze_items(cut, query=items.query)
    spec = make_map(tmp_path)
    sharpen(spec, cut, tmp_path / "fused")
    report = composite(spec, cut, tmp_path / "guide")
    assert report.empty > 0
    assert report.done > 0
    sharpen(spec, cut, tmp_path / "later", guide=tmp_path / "guide")
    assert_same_map(contents_of(str(tmp_path / "fused"), spec), contents_of(str(tmp_path / "later"), spec))
    assert verify_store(str(tmp_path / "guide")).is_complete


def test_a_map_begun_in_one_way_is_finished_in_the_other(scenes, written, tmp_path):
    items, _ = scenes
    spec, folder = written
    sharpen(spec, items, tmp_path / "map", only="::2")
    report = sharpen(spec, items, tmp_path / "map", guide=folder / "guide")
    assert report.skipped > 0
    assert report.done > 0
    assert_same_map(contents_of(str(folder / "fused"), spec), contents_of(str(tmp_path / "map"), spec))
    context = make_context(spec)
    plan = make_plan(spec, items, context=context)
    assert not find_pending(plan, MapStore.open(str(tmp_path / "map")).ledger).todo
    named = {bool(record.guide_store) for record in MapStore.open(str(tmp_path / "map")).ledger.records()}
    assert named == {True, False}


def test_a_guide_is_verified_told_of_and_resumed_like_a_map(scenes, written, tmp_path):
    items, _ = scenes
    spec, _ = written
    composite(spec, items, tmp_path / "guide", only="::3", policy=RunPolicy(commit_tiles=2))
    with pytest.raises(PlanError, match=r"of \d+ tiles under the windows due, \d+ missing .*mapper composite"):
        sharpen(spec, items, tmp_path / "map", guide=tmp_path / "guide")
    assert not (tmp_path / "map").exists()
    assert composite(spec, items, tmp_path / "guide").skipped > 0
    assert composite(spec, items, tmp_path / "guide").tiles == 0
    context = make_guide_context(make_context(spec))
    expected = {task.tile: task.id for task in make_plan(spec, items, context=context).tasks}
    assert verify_store(str(tmp_path / "guide"), expected=expected).is_complete
    assert MapStore.open(str(tmp_path / "guide")).description.kind == "guide"
    corner = context.map_grid.geobox.boundingbox
    answer = why(str(tmp_path / "guide"), corner.left + 205, corner.top - 205, crs="EPSG:3035")
    assert set(answer.channels) == {"summer_B04", "summer_B08"}
    assert "summer_B08" in answer.to_text()
    assert answer.record.items


def test_stored_numbers_are_the_composites_within_half_a_step(scenes, written):
    items, _ = scenes
    spec, folder = written
    context = make_context(spec)
    guide = make_guide_context(context)
    task = next(t for t in make_plan(spec, items, context=guide).tasks if t.tile == Tile(2, 2))
    window = guide.grid.window(task.tile)
    fresh = read_guide(items, guide.grid.geobox_of(window), spec=spec, provider=guide.provider)
    stored = xr.open_zarr(MapStore.open(str(folder / "guide")).zarr, consolidated=False, decode_coords="all")
    for name, values in zip(("summer_B04", "summer_B08"), fresh.values, strict=True):
        np.testing.assert_allclose(stored[name].values[window.slices], values, atol=0.5001e-4, equal_nan=True)
    np.testing.assert_array_equal(stored["n_valid"].values[window.slices], fresh.n_valid)
    np.testing.assert_array_equal(stored["gaps"].values[window.slices], fresh.gaps)


def test_a_guide_of_other_items_is_refused(scenes, written, tmp_path):
    items, _ = scenes
    spec, folder = written
    changed = [{**item, "properties": {**item["properties"], "s2:processing_baseline": "04.00"}}
               if item["id"] == "S2_2020-07-08" else item for item in items]  # fmt: skip
    with pytest.raises(PlanError, match="made from other items"):
        sharpen(spec, freeze_items(changed, query=items.query), tmp_path / "map", guide=folder / "guide")


def test_a_model_that_looks_farther_is_told_the_halo_it_needs(scenes, tmp_path):
    items, _ = scenes
    spec = make_map(tmp_path)
    context = make_context(spec)
    composite(spec, items, tmp_path / "guide", halo_px=10, only="1,1")
    with pytest.raises(PlanError, match=f"with --halo {reach_of(context)}"):
        sharpen(spec, items, tmp_path / "map", guide=tmp_path / "guide")
    with pytest.raises(ContractError, match="a halo of at least 1 px"):
        make_guide_context(context, halo_px=0)


def test_another_map_or_no_guide_is_refused(scenes, written, tmp_path):
    items, _ = scenes
    spec, folder = written
    other = make_map(
        tmp_path,
        guide={"layers": [{"collection": "sentinel-2-l2a", "bands": ["B04", "B08"]}], "seasons": {"summer": [6]}},
    )
    with pytest.raises(StoreMismatchError, match="spec digest"):
        sharpen(other, items, tmp_path / "map", guide=folder / "guide")
    with pytest.raises(StoreMismatchError, match="a map, expected a guide"):
        sharpen(spec, items, tmp_path / "map", guide=folder / "fused")
    with pytest.raises(PlanError, match="without --guide"):
        sharpen(make_map(tmp_path, architecture="bicubic"), items, tmp_path / "map", guide=folder / "guide")


@pytest.mark.parametrize(("architecture", "consistency"), [("mtg", "none"), ("fdsr", "hard")])
def test_another_model_uses_the_same_guide(scenes, written, tmp_path, architecture, consistency):
    items, _ = scenes
    _, folder = written
    spec = make_map(tmp_path, architecture=architecture, consistency=consistency)
    assert sharpen(spec, items, tmp_path / "map", guide=folder / "guide", only="::2").done > 1
    assert sharpen(spec, items, tmp_path / "fused", only="::2").exit_code == 0
    assert_same_map(contents_of(str(tmp_path / "fused"), spec), contents_of(str(tmp_path / "map"), spec))


def test_a_run_keeps_to_the_version_it_began_with(scenes, written, tmp_path):
    items, _ = scenes
    spec, folder = written
    shutil.copytree(folder / "guide", tmp_path / "guide")
    context = make_context(spec)
    plan = make_plan(spec, items, context=context)
    context = attach_guide(context, plan.tasks, items, str(tmp_path / "guide"))
    fewer = Items(items=tuple(item for item in items if item["id"] != "S2_2020-07-08"), query=items.query)
    assert composite(spec, fewer, tmp_path / "guide", only="2,2").done == 1
    run_plan(plan, context, str(tmp_path / "map"), SerialExecutor())
    assert_same_map(contents_of(str(folder / "fused"), spec), contents_of(str(tmp_path / "map"), spec))


def test_the_grid_of_a_guide_covers_every_window_and_no_more(tmp_path):
    spec = make_map(tmp_path, tile=28, grid={"crs": "EPSG:3035", "resolution": 10, "tile": 28, "chunk": 28})
    context = make_context(spec)
    guide = make_guide_context(context)
    wanted = np.zeros(guide.grid.shape, bool)
    for tile in context.grid.tiles():
        window = context.grid.window(tile, halo_px=guide.halo_px)
        margin = guide.pad * 28
        wanted[window.top + margin : window.bottom + margin, window.left + margin : window.right + margin] = True
    found = np.zeros(guide.grid.shape, bool)
    for tile in guide.grid.tiles():
        window = guide.window(tile)
        assert wanted[window.slices].any()
        assert window == guide.grid.window(tile) or not wanted[guide.grid.window(tile).slices].all()
        found[window.slices] = True
    assert (found | ~wanted).all()
    whole = guide.grid.inside_area(
        replace(guide.grid.window(Tile(0, 0)), bottom=wanted.shape[0], right=wanted.shape[1])
    )
    np.testing.assert_array_equal(whole, wanted)
