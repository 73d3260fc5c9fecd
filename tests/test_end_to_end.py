"""From a catalogue to a verified map, through the command line, as a user runs it."""

import json

import numpy as np
import pytest
import rioxarray  # noqa: F401 - registers the accessor
import xarray as xr
from region import JULY, JULY_CHANNELS, SEEN, SEEN_CHANNELS, Region, run_json, run_mapper, write_weights

from mapper.plan.context import RunOptions
from mapper.plan.job import prepare_job
from mapper.run.map_tile import compute_tile
from mapper.store.map_store import MapStore

WAYS = {256: {"patch_px": 190, "batch": 3}, 320: {"patch_px": 512, "batch": 1}}
"""By size of the one tile that holds what the reference holds in four."""


def compute_map(region, tile, **options):
    """Every pixel of the map before it is encoded, on the smallest common extent."""
    region.change(grid={"crs": "EPSG:3035", "resolution": 10, "tile": tile, "chunk": 64})
    (region.folder / "map.plan.parquet").unlink(missing_ok=True)
    job = prepare_job(region.map, options=RunOptions(**options))
    grid = job.context.grid
    values = np.full(grid.shape, np.nan, np.float32)
    for task in job.plan.tasks:
        values[grid.window(task.tile).slices] = compute_tile(job.context, task).arrays["agb"]
    return values[:256, :256], job


@pytest.fixture
def guided_region(region):
    write_weights(region.folder, channels=JULY_CHANNELS)
    return region.change(guide=JULY, model={"name": "tiny", "weights": "tiny.safetensors"})


@pytest.fixture(scope="module")
def made_map(made_region, tmp_path_factory):
    """The map that one thread makes; read only."""
    folder = made_region.copy(tmp_path_factory.mktemp("made") / "region").folder
    write_weights(folder, channels=SEEN_CHANNELS)
    region = Region(folder).change(guide=SEEN, model={"name": "tiny", "weights": "tiny.safetensors"})
    assert run_mapper("run", region.map, "--cluster", "serial")[0] == 0
    return region


@pytest.fixture
def mapped_region(made_map, tmp_path):
    """A copy of a region with its map, which a test may change."""
    return made_map.copy(tmp_path / "mapped")


def test_a_map_is_made_resumed_verified_and_explained(made_map):
    again = run_json("run", made_map.map)
    assert (again["tiles"], again["commits"]) == (0, 0)
    assert run_json("verify", made_map.map)["complete"]
    assert run_json("status", made_map.map)["ok"] == again["skipped"]
    answer = run_json("why", made_map.store, 12.0, 51.417)
    assert answer["units"] == "Mg ha-1"
    uses = answer["record"]["items"]
    assert {use["collection"] for use in uses} == {"sentinel-2-l2a", "sentinel-1-rtc", "esa-cci-biomass"}
    offsets = {use["calibration"] for use in uses if use["collection"] == "sentinel-2-l2a"}
    assert len(offsets) >= 2, "items of old and of new processing are calibrated differently"


def test_the_map_does_not_depend_on_tiles_patches_and_batches(guided_region):
    guided_region.change(consistency="hard")
    reference, job = compute_map(guided_region, 128)
    assert np.isfinite(reference).mean() > 0.8
    assert np.nanstd(reference) > 10
    for tile, options in WAYS.items():
        values, job = compute_map(guided_region, tile, **options)
        np.testing.assert_allclose(values, reference, atol=1e-4, rtol=0)
    (task,) = job.plan.tasks
    assert max(compute_tile(job.context, task).residuals.values()) <= 1e-3, "hard consistency leaves a residual"


def test_a_changed_item_makes_exactly_its_tiles_stale(mapped_region):
    path = mapped_region.items("S2")[0]
    item = json.loads(path.read_text())
    item["properties"]["s2:processing_baseline"] = "05.11"
    path.write_text(json.dumps(item))
    job = prepare_job(mapped_region.map, refresh=True)
    touched = {task.tile for task in job.plan.tasks if item["id"] in {i["id"] for i in task.guide}}
    pending = job.pending()
    assert {due.task.tile for due in pending.todo} == touched
    assert touched
    assert all(due.cause == "stale" and item["id"] in due.reason for due in pending.todo)
    stale = run_json("verify", mapped_region.map)["stale"]
    assert set(stale) == {str(tile) for tile in touched}
    assert run_json("run", mapped_region.map)["tiles"] == len(touched)
    assert run_json("verify", mapped_region.map)["complete"]


def test_the_store_opens_in_xarray_and_rioxarray(made_map):
    opened = xr.open_zarr(MapStore.open(made_map.store).zarr, consolidated=False, decode_coords="all")
    grid = prepare_job(made_map.map).context.grid
    assert opened.rio.crs.to_epsg() == 3035
    assert tuple(opened.rio.transform())[:6] == tuple(grid.geobox.transform)[:6]
    assert opened["agb"].attrs["units"] == "Mg ha-1"
    finite = opened["agb"].to_numpy()
    assert np.nanmax(finite) < 1000
    tenths = finite[np.isfinite(finite)] * 10
    assert tenths.size
    np.testing.assert_allclose(tenths, np.round(tenths), atol=1e-6)


def test_scores_are_printed_for_people_and_machines(made_map, tmp_path):
    report = run_json("evaluate", made_map.map, "--truth", "truth:agb")
    assert list(report["methods"]) == ["nearest", "bilinear", "bicubic", "tiny"]
    assert report["methods"]["nearest"]["residual_max"] < 1e-3
    assert 0 < report["uncertainty"]["share"]["0.9"] < 1
    pictures = ("--overview", tmp_path / "o.png", "--plots", tmp_path / "plots")
    code, table = run_mapper("evaluate", made_map.map, "--truth", "truth:agb", *pictures)
    assert code == 0
    assert "bicubic" in table
    assert "intervals of tiny" in table
    assert len(list((tmp_path / "plots").glob("*.png"))) == 3
    assert (tmp_path / "o.png").stat().st_size > 20_000
