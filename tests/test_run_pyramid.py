"""Pyramids of stores: what levels hold, where they lie, and that only what changed is made."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rioxarray  # noqa: F401 - registers the accessor
import xarray as xr
import zarr
from pyramid_maps import WIDE, add_tiles, assert_levels_follow, make_map, stored_levels
from store_maps import NATIVE, PROJECTED, make_record, make_spec
from stored_objects import StoredObjects

from mapper.cluster.local import local_cluster
from mapper.errors import FailureBudgetError, StoreError, StoreLockedError
from mapper.events import BatchCommitted, TileFinished
from mapper.execute.executors import DaskExecutor, SerialExecutor, ThreadExecutor
from mapper.export.zarr_copy import copy_zarr
from mapper.grid import Tile
from mapper.run.commit_loop import RunPolicy
from mapper.run.pyramid import build_pyramid, find_damage
from mapper.store.levels import LevelTile, make_levels
from mapper.store.location import parse_location
from mapper.store.lock import hold_lock
from mapper.store.map_store import MapStore, open_map
from mapper.store.product import NO_GUIDE as NOT_GUIDED
from mapper.store.product import NOT_WRITTEN, guide_product, map_product
from mapper.store.pyramid import read_state
from mapper.store.verify import verify_levels, verify_store
from mapper.store.writer import write_encoded
from mapper.store.zarr_keys import open_plain

ODD = PROJECTED | {"tile": 35, "chunk": 35}
SOME = {"missing": [Tile(0, 1), Tile(2, 2)], "empty": [Tile(1, 0)]}


@pytest.fixture(scope="module")
def wide_made(tmp_path_factory):
    """A map of 3 x 5 tiles; read only."""
    return make_map(tmp_path_factory.mktemp("wide") / "map.icechunk", bbox=WIDE)


@pytest.fixture(scope="module")
def wide_built(wide_made, tmp_path_factory):
    """The same with its pyramid; read only."""
    spec = copy_map(wide_made, tmp_path_factory.mktemp("built"))
    build(spec)
    return spec


@pytest.fixture
def wide(wide_made, tmp_path):
    """A map of 3 x 5 tiles."""
    return copy_map(wide_made, tmp_path)


@pytest.fixture
def built(wide_built, tmp_path):
    """The same with its pyramid."""
    return copy_map(wide_built, tmp_path)


def copy_map(spec, folder):
    shutil.copytree(spec.store, folder / "map.icechunk")
    return make_spec(folder / "map.icechunk", area={"bbox": WIDE})


def build(spec, executor=None, **options):
    return build_pyramid(spec.store, executor or SerialExecutor(), **options)


def marks_of(spec):
    return read_state(MapStore.open(spec.store).zarr).marks


def remade(before, after):
    """Tiles of levels whose marks changed."""
    return {
        LevelTile(number, Tile(row, col))
        for number, (old, new) in enumerate(zip(before, after, strict=True), start=1)
        for row, col in np.argwhere((old != new).any(axis=-1)).tolist()
    }


def edit(spec, path, window, value):
    session = MapStore.open(spec.store).repository.writable_session("main")
    zarr.open_array(session.store, path=path, mode="r+")[window] = value
    session.commit("edited by hand")


@pytest.mark.parametrize(
    "changes",
    [
        {"bbox": WIDE} | SOME,
        {"grid": NATIVE} | SOME,
        {"grid": ODD} | SOME,
        {"target": {"encoding": {"dtype": "float32"}}} | SOME,
        {"target": {"encoding": {"dtype": "int16", "scale_factor": 0.5}}},
    ],
    ids=["projected", "native", "odd", "floats", "int16"],
)
def test_every_level_is_the_reduction_of_the_one_below(tmp_path, changes):
    spec = make_map(tmp_path / "map.icechunk", **changes)
    report = build(spec)
    levels = assert_levels_follow(spec)
    assert report.levels == len(levels) - 1 >= 2
    assert max(levels[-1]["qa"].shape) == spec.map_grid.tile_px
    for level in levels[1:]:
        assert (level["qa"] == NOT_WRITTEN).any() == ("missing" in changes or level is levels[-1] or level is levels[1])
        assert ((level["qa"] != NOT_WRITTEN) & (level["qa"] > 0)).any()
    assert verify_store(spec.store).pyramid.is_complete


def test_over_a_whole_map_without_gaps_the_top_has_the_mean_of_all(tmp_path):
    spec = make_map(tmp_path / "map.icechunk", target={"encoding": {"dtype": "float32"}})
    edit(spec, "agb", slice(None), np.random.default_rng(1).gamma(2, 60, spec.map_grid.shape).astype(np.float32))
    report = build(spec)
    top = open_map(spec.store, level=report.levels).agb.values
    rows, cols = (size // 2**report.levels for size in spec.map_grid.shape)
    assert np.isfinite(top[:rows, :cols]).all()
    assert np.isnan(top[rows:]).all()
    assert top[:rows, :cols].mean() == pytest.approx(open_map(spec.store).agb.values.astype(float).mean(), rel=1e-6)


@pytest.mark.parametrize("grid", [PROJECTED, NATIVE], ids=["projected", "native"])
def test_levels_lie_where_the_map_does(tmp_path, grid):
    spec = make_map(tmp_path / "map.icechunk", grid=grid)
    levels = build(spec).levels
    base, step = open_map(spec.store), float(spec.grid.resolution)
    corner = spec.map_grid.geobox.transform * (0, 0)
    for number in range(levels + 1):
        dataset, pixel = open_map(spec.store, level=number), step * 2**number
        assert dataset.rio.crs == pyproj.CRS(grid["crs"]) == dataset.agb.rio.crs
        for transform in (dataset.rio.transform(), dataset.agb.rio.transform(recalc=True)):
            expected = [pixel, 0, corner[0], 0, -pixel, corner[1]]
            np.testing.assert_allclose(list(transform)[:6], expected, rtol=0, atol=step * 1e-6)
        path = f"pyramid/{number}" if number else ""
        attributes = zarr.open_group(MapStore.open(spec.store).zarr, path=path, mode="r").attrs
        assert attributes["spatial:transform"] == pytest.approx([pixel, 0, corner[0], 0, -pixel, corner[1]], rel=1e-15)
        assert attributes["spatial:shape"] == list(dataset.agb.shape)
        assert attributes["proj:code"] == grid["crs"] == dataset.agb.attrs["proj:code"]
        # a pixel lies on those of the map that it was made from
        count = 2**number
        rows, cols = (size // count for size in base.agb.shape)
        for name, size in (("x", cols), ("y", rows)):
            centres = base[name].values[: size * count].reshape(size, count).mean(axis=1)
            np.testing.assert_allclose(dataset[name].values[:size], centres, rtol=0, atol=step * 1e-6)


def test_a_point_reads_the_same_area_at_every_level(tmp_path):
    spec = make_map(tmp_path / "map.icechunk", target={"encoding": {"dtype": "float32"}})
    build(spec)
    x, y = 4_465_503.0, 2_990_104.0
    base = open_map(spec.store).agb
    for number in (1, 2):
        level = open_map(spec.store, level=number).agb
        pixel = level.sel(x=x, y=y, method="nearest")
        half = 10 * 2**number / 2
        near = base.sel(x=slice(pixel.x - half, pixel.x + half), y=slice(pixel.y + half, pixel.y - half))
        assert near.shape == (2**number, 2**number)
        assert abs(float(pixel.x) - x) <= half >= abs(float(pixel.y) - y)
        assert float(pixel) == pytest.approx(float(near.mean()), rel=1e-5)


def test_levels_say_how_they_came_about(built):
    root = zarr.open_group(MapStore.open(built.store).zarr, mode="r")
    layout = root.attrs["multiscales"]["layout"]
    assert [entry["asset"] for entry in layout] == [".", "pyramid/1", "pyramid/2", "pyramid/3"]
    assert [entry.get("derived_from") for entry in layout] == [None, ".", "pyramid/1", "pyramid/2"]
    assert {each["name"] for each in root.attrs["zarr_conventions"]} == {"proj", "spatial", "multiscales"}
    for entry in layout:
        group = zarr.open_group(root.store, path=entry["asset"].strip("."), mode="r")
        assert entry["spatial:shape"] == group.attrs["spatial:shape"] == list(group["agb"].shape)
        assert entry["spatial:transform"] == group.attrs["spatial:transform"]
        for name in ("agb", "agb_sd", "qa", "n_valid"):
            one, other = root[name], group[name]
            assert (one.dtype, one.chunks, one.shards) == (other.dtype, other.chunks, other.shards)
            assert one.fill_value == other.fill_value
            assert one.compressors == other.compressors
            same = {"units", "scale_factor", "add_offset", "_FillValue", "flag_masks", "grid_mapping"} & {*one.attrs}
            assert {key: one.attrs[key] for key in same} == {key: other.attrs[key] for key in same}


def test_nothing_due_is_no_commit(built):
    head = MapStore.open(built.store).snapshot
    report = build(built)
    assert (report.tiles, report.commits, report.snapshot, report.exit_code) == (0, 0, "", 0)
    assert "up to date" in report.summary()
    assert MapStore.open(built.store).snapshot == head


def test_a_store_without_any_tile_gets_no_pyramid(tmp_path):
    spec = make_spec(tmp_path / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    head = MapStore.open(spec.store).snapshot
    assert build(spec).tiles == 0
    assert MapStore.open(spec.store).snapshot == head
    assert verify_store(spec.store).pyramid is None


def test_a_map_of_one_tile_needs_no_pyramid(tmp_path):
    spec = make_map(tmp_path / "map.icechunk", grid=PROJECTED | {"tile": 256, "chunk": 32})
    assert "no pyramid is needed" in build(spec).summary()
    assert verify_store(spec.store).is_complete


def test_a_changed_tile_makes_exactly_its_ancestors_due(built):
    before = marks_of(built)
    add_tiles(built, [Tile(2, 3)], seed=5, version=1)
    report = build(built)
    ancestors = {LevelTile(1, Tile(1, 1)), LevelTile(2, Tile(0, 0)), LevelTile(3, Tile(0, 0))}
    assert remade(before, marks_of(built)) == ancestors
    assert (report.tiles, report.done) == (3, 3)
    assert_levels_follow(built)


def test_a_tile_made_again_alike_makes_them_due_too_and_nothing_else(built):
    pixels = stored_levels(built)
    add_tiles(built, [Tile(0, 0)])
    assert build(built).done == 3
    np.testing.assert_equal(stored_levels(built), pixels)


def test_a_growing_map_gets_its_pyramid_bit_by_bit(tmp_path):
    tiles = list(make_spec(tmp_path / "m").map_grid.tiles())
    spec = make_map(tmp_path / "map.icechunk", missing=tiles[1:])
    build(spec)
    assert (stored_levels(spec)[-1]["qa"] != NOT_WRITTEN).sum() == (64 // 4) ** 2
    for tile in tiles[1:4]:
        add_tiles(spec, [tile])
        assert not verify_store(spec.store).pyramid.is_complete
        build(spec)
        assert verify_store(spec.store).pyramid.is_complete
        assert_levels_follow(spec)
    whole = make_map(tmp_path / "whole.icechunk")
    build(whole)
    add_tiles(spec, tiles[4:])
    build(spec)
    np.testing.assert_equal(stored_levels(spec), stored_levels(whole))


def test_failed_tiles_are_as_good_as_missing(tmp_path):
    spec = make_map(tmp_path / "map.icechunk", missing=[Tile(0, 0)])
    build(spec)
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        writer.add(None, replace(make_record(Tile(0, 0)), status="failed", reason="no luck"))
        writer.commit()
    assert build(spec).tiles == 0


def test_an_interrupted_build_goes_on_where_it_stopped(wide):
    class StopError(BaseException):
        pass

    def stop(event):
        if isinstance(event, BatchCommitted):
            raise StopError

    with pytest.raises(StopError):
        build(wide, callbacks=[stop], policy=RunPolicy(commit_tiles=2))
    made = read_state(MapStore.open(wide.store).zarr).made()
    assert made == [LevelTile(1, Tile(0, 0)), LevelTile(1, Tile(0, 1))]
    report = build(wide, policy=RunPolicy(commit_tiles=2))
    assert report.done == 6 + 2 + 1 - len(made)
    assert_levels_follow(wide)
    assert verify_store(wide.store).is_complete


def test_a_killed_build_goes_on_where_it_stopped(wide):
    script = Path(__file__).with_name("pyramid_maps.py")
    with subprocess.Popen([sys.executable, script, wide.store], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout.readline() == driver.stdout.readline() == "committed\n"
        driver.kill()
    report = verify_store(wide.store).pyramid
    made = len(report.ok)
    assert made in (4, 6)  # it went on while it was being killed
    assert (report.corrupt, report.stale, len(report.missing)) == ({}, (), 9 - made)
    assert build(wide).done == 9 - made
    assert_levels_follow(wide)
    assert verify_store(wide.store).is_complete


def test_a_reader_sees_whole_tiles_and_whole_commits_only(wide):
    seen = []

    def look(event):
        if isinstance(event, TileFinished | BatchCommitted):
            report = verify_levels(MapStore.open(wide.store).zarr)
            if report is None:
                return
            assert not report.corrupt
            assert not report.stale
            seen.append(len(report.ok))

    session = MapStore.open(wide.store).session
    report = build(wide, callbacks=[look], policy=RunPolicy(commit_tiles=3))
    assert report.commits == 4
    assert set(seen) == {0, 3, 6, 8, 9}
    assert "pyramid" not in zarr.open_group(session.store, mode="r")


def test_a_run_and_a_build_exclude_each_other(wide):
    with hold_lock(parse_location(wide.store)), pytest.raises(StoreLockedError, match="is being written by"):
        build(wide)


@pytest.mark.parametrize("executor", ["threads", "dask"])
def test_every_executor_makes_the_same_levels(wide, wide_built, executor):
    if executor == "threads":
        build(wide, ThreadExecutor(3))
    else:
        with local_cluster(1, threads_per_worker=2, memory_limit=0) as client:
            build(wide, DaskExecutor(cluster=client))
    np.testing.assert_equal(stored_levels(wide), stored_levels(wide_built))
    assert verify_store(wide.store).is_complete


def test_verify_finds_a_changed_pixel_of_any_array_and_it_is_mended(built):
    places = {"agb": (0, 0), "agb_sd": (0, 1), "qa": (0, 2), "n_valid": (1, 0)}
    for name, (row, col) in places.items():
        window = slice(64 * row + 3, 64 * row + 4), slice(64 * col + 5, 64 * col + 6)
        edit(built, f"pyramid/1/{name}", window, 7)
    report = verify_store(built.store)
    assert list(report.pyramid.corrupt) == [LevelTile(1, Tile(*place)) for place in places.values()]
    assert not report.is_complete
    assert not report.due
    assert "corrupt 1/0,2 of the pyramid: content sha256" in report.to_text()
    assert "`mapper pyramid --check` mends" in report.to_text()
    before = marks_of(built)
    mended = build(built, redo=find_damage(built.store))
    assert mended.done == 4 + 2 + 1
    assert not remade(before, marks_of(built))
    assert_levels_follow(built)
    assert verify_store(built.store).is_complete


def test_a_shard_of_a_level_that_is_gone_is_corrupt(wide):
    objects = StoredObjects(wide.store)
    before = objects.sizes("chunks")
    build(wide)
    sizes = {name: size for name, size in objects.sizes("chunks").items() if name not in before}
    objects.delete(max(sizes, key=sizes.get))
    report = verify_store(wide.store).pyramid
    assert len(report.corrupt) == 1
    assert next(iter(report.corrupt.values())).startswith("cannot be read: ")
    assert build(wide, redo=report.corrupt).exit_code == 0
    assert verify_store(wide.store).is_complete


def test_levels_of_an_older_map_are_stale_and_missing(built):
    add_tiles(built, [Tile(0, 0)], seed=3, version=1)
    report = verify_store(built.store)
    assert report.pyramid.stale == (LevelTile(1, Tile(0, 0)), LevelTile(2, Tile(0, 0)), LevelTile(3, Tile(0, 0)))
    assert "`mapper pyramid` mends" in report.to_text()
    assert report.to_dict()["pyramid"]["stale"] == ["1/0,0", "2/0,0", "3/0,0"]


def test_a_tile_over_one_that_cannot_be_read_is_left_and_so_is_all_above(wide):
    objects = StoredObjects(wide.store)
    snapshot = MapStore.open(wide.store).snapshot
    sizes = objects.sizes("chunks")
    objects.delete(max(sizes, key=sizes.get))
    report = build(wide)
    assert report.exit_code == 1
    (failed,) = report.failed
    assert failed.startswith("1/")
    assert (report.done, report.left) == (6, 2)
    assert f"failed {failed}: " in report.summary()
    assert "`mapper verify MAP.yaml --repair`" in report.summary()
    damaged = list(verify_store(wide.store, ref=snapshot).corrupt)
    add_tiles(wide, damaged)
    assert build(wide).done == 3
    assert_levels_follow(wide)


def test_too_many_failures_end_a_build(tmp_path):
    spec = make_map(tmp_path / "map.icechunk", bbox=WIDE)
    objects = StoredObjects(spec.store)
    for name in objects.sizes("chunks"):
        if objects.sizes("chunks")[name] > 3000:
            objects.delete(name)
    with pytest.raises(FailureBudgetError, match="2 of 2 tiles failed, 1 are borne"):
        build(spec, policy=RunPolicy(failure_budget=1))


def test_the_ledger_and_the_history_of_tiles_are_left_alone(wide):
    before = {record.tile: record for record in MapStore.open(wide.store).ledger.records()}
    build(wide)
    add_tiles(wide, [Tile(0, 0)], version=1)
    ledger = MapStore.open(wide.store).ledger
    assert ledger.batches == 2
    assert ledger.snapshot_of(1).id != ledger.snapshot_of(2).id
    after = {record.tile: record for record in ledger.records()}
    assert {tile for tile in after if after[tile] != before[tile]} == {Tile(0, 0)}


def test_readers_without_icechunk_get_levels_and_no_bookkeeping(built):
    documents = open_plain(MapStore.open(built.store).session).documents
    assert {"pyramid/zarr.json", "pyramid/1/zarr.json", "pyramid/3/agb/zarr.json", "pyramid/2/xc/zarr.json"} <= {
        *documents
    }
    assert not [key for key in documents if key.startswith("ledger")]
    assert b'"consolidated_metadata"' in documents["pyramid/1/zarr.json"]


def test_a_level_that_is_not_there_is_named(wide):
    with pytest.raises(StoreError, match="has no level 1, only 0 to 0: `mapper pyramid`"):
        open_map(wide.store, level=1)
    build(wide)
    with pytest.raises(StoreError, match="has no level 4, only 0 to 3"):
        open_map(wide.store, level=4)
    assert open_map(wide.store, level=3, chunks={}).agb.chunks


def test_levels_end_where_one_tile_holds_the_map(wide):
    shapes = [level.grid.tile_shape for level in make_levels(wide.map_grid)]
    assert shapes == [(3, 5), (2, 3), (1, 2), (1, 1)]


def test_a_guide_may_have_a_pyramid_too(tmp_path):
    spec = make_spec(
        tmp_path / "map.icechunk",
        guide={
            "layers": [
                {"collection": "sentinel-2-l2a", "bands": ["B04"]},
                {"collection": "sentinel-1-rtc", "bands": ["vv"]},
            ],
            "seasons": {"summer": [6, 7, 8]},
        },
    )
    units = {"summer_B04": "1", "summer_vv": "dB"}
    product = guide_product(spec, grid=spec.map_grid, units=units, halo_px=64)
    write_guide(spec.store, product, list(spec.map_grid.tiles())[1:])
    assert build(spec).levels == 2
    assert verify_store(spec.store).pyramid.is_complete
    fine, coarse = open_map(spec.store).load(), open_map(spec.store, level=1).load()
    size = 3 * 64 // 2
    coarse = coarse.isel(x=slice(size), y=slice(size))
    written = (fine.gaps != NOT_GUIDED).coarsen(x=2, y=2).any().values
    np.testing.assert_array_equal(coarse.gaps.values != NOT_GUIDED, written)
    gaps = (fine.gaps == 1).coarsen(x=2, y=2).any().values
    np.testing.assert_array_equal(coarse.gaps.values == 1, gaps)
    optical, radar = product.bands[0].name, product.bands[1].name
    np.testing.assert_allclose(coarse[optical], fine[optical].coarsen(x=2, y=2).mean(), rtol=0, atol=0.51e-4)
    power = (10 ** (fine[radar] / 10)).coarsen(x=2, y=2).mean()
    np.testing.assert_allclose(coarse[radar], 10 * np.log10(power), rtol=0, atol=1.01e-3)


def write_guide(location, product, tiles):
    MapStore.create(location, product)
    rng = np.random.default_rng(4)
    with MapStore.open(location).writer(product, run_id="r") as writer:
        for tile in tiles:
            bands = {band.name: rng.integers(0, 30_000, (64, 64)).astype(band.dtype) for band in product.bands}
            bands |= {"n_valid": rng.integers(0, 9, (64, 64)).astype(np.uint16)}
            bands |= {"gaps": (rng.random((64, 64)) < 0.1).astype(np.uint8)}
            fork = writer.fork()
            sha = write_encoded(fork, grid=product.grid, tile=tile, bands=bands)
            writer.add(fork, make_record(tile, sha=sha))
        writer.commit()


def test_a_pyramid_is_built_and_mended_wherever_stores_lie(location):
    spec = make_map(location)
    assert build(spec, ThreadExecutor(2)).done == 5
    assert_levels_follow(spec)
    add_tiles(spec, [Tile(0, 0)], seed=2, version=1)
    assert build(spec).done == 2
    assert verify_store(spec.store).is_complete


def test_xarray_opens_the_map_and_its_levels_as_one_tree(built, tmp_path):
    copy_zarr(built.store, tmp_path / "map.zarr")
    for consolidated in (True, False):
        with xr.open_datatree(
            tmp_path / "map.zarr", engine="zarr", consolidated=consolidated, decode_coords="all"
        ) as tree:
            assert {"/pyramid/1", "/pyramid/2", "/pyramid/3"} <= set(tree.groups)
            for level in (1, 2, 3):
                direct, node = open_map(built.store, level=level), tree[f"pyramid/{level}"]
                np.testing.assert_array_equal(node["agb"].values, direct["agb"].values)
                np.testing.assert_array_equal(node["xc"].values, direct["x"].values)
                np.testing.assert_array_equal(node["yc"].values, direct["y"].values)
                assert node["agb"].rio.bounds() == direct["agb"].rio.bounds()
            np.testing.assert_array_equal(tree["agb"].values, open_map(built.store)["agb"].values)
    with xr.open_zarr(tmp_path / "map.zarr") as whole:
        assert whole["agb"].dims == ("y", "x")


def test_levels_of_an_older_mapper_are_read_and_renamed_when_that_is_asked_for(tmp_path, monkeypatch):
    spec = make_map(tmp_path / "map.icechunk", bbox=WIDE)
    with monkeypatch.context() as patch:
        patch.setattr("mapper.store.levels.LEVEL_AXES", ("y", "x"))
        build_pyramid(spec.store, SerialExecutor())
    before = [open_map(spec.store, level=level).load() for level in range(4)]
    report = build_pyramid(spec.store, SerialExecutor())
    assert (report.tiles, report.commits, report.axes) == (0, 0, ("y", "x"))
    assert "up to date" in report.summary()
    assert "--rename-axes" in report.summary()
    add_tiles(spec, [Tile(0, 0)], seed=4, version=1)
    assert build_pyramid(spec.store, SerialExecutor()).done == 3  # without a word, they stay as they are
    add_tiles(spec, [Tile(0, 0)], seed=0, version=2)
    build_pyramid(spec.store, SerialExecutor())
    report = build_pyramid(spec.store, SerialExecutor(), rename_axes=True)
    assert (report.tiles, report.axes, report.snapshot) == (0, ("yc", "xc"), MapStore.open(spec.store).snapshot)
    assert "--rename-axes" not in report.summary()
    for level, known in enumerate(before):
        xr.testing.assert_identical(open_map(spec.store, level=level).load(), known)
    assert verify_store(spec.store).is_complete
    copy_zarr(spec.store, tmp_path / "map.zarr")
    assert len(xr.open_datatree(tmp_path / "map.zarr", engine="zarr").groups) == 5
    assert build_pyramid(spec.store, SerialExecutor(), rename_axes=True).snapshot == ""
