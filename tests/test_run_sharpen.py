"""Sharpening lazy inputs: what comes of it is what a run makes, to the bit."""

import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster
from region import JULY, JULY_CHANNELS, run_json, write_weights

import mapper
from mapper import read_spec
from mapper.catalog.inventory import inventory_path, take_inventory
from mapper.errors import GridError, SpecError
from mapper.plan.context import make_context
from mapper.run.sharpen import open_inputs, sharpen
from mapper.store.map_store import MapStore
from mapper.store.tiles import digest_bands, encode_tile


@pytest.fixture(scope="module")
def finished(made_region, tmp_path_factory):
    """A region whose map is made."""
    region = made_region.copy(tmp_path_factory.mktemp("sharpen"))
    region.change(guide=JULY, grid__tile=64, grid__chunk=64, area={"bbox": [11.992, 51.411, 12.004, 51.418]})
    region.change(model={"name": "tiny", "weights": str(write_weights(region.folder, channels=JULY_CHANNELS))})
    run_json("run", region.map)
    return region


def items_of(region):
    return take_inventory(read_spec(region.map), inventory_path(region.map))


def checksums(region, dataset):
    """Checksums of the tiles of a dataset, encoded as a run encodes them."""
    context = make_context(read_spec(region.map))
    loaded, sums = dataset.compute(), {}
    for tile in context.grid.tiles():
        rows, cols = context.grid.window(tile).slices
        arrays = {name: loaded[name].values[rows, cols] for name in context.product.band_names}
        sums[tile] = digest_bands(encode_tile(context.product, arrays))
    return sums


def recorded(region):
    ledger = MapStore.open(region.store).ledger
    return {record.tile: record.content_sha256 for record in ledger.records() if record.status == "ok"}


def test_two_processes_make_what_a_run_makes(finished):
    cube, source = open_inputs(finished.map, items=items_of(finished))
    lazy = mapper.sharpen(cube, source)
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as at, Client(at):
        made = checksums(finished, lazy)
    wanted = recorded(finished)
    assert wanted
    assert {tile: made[tile] for tile in wanted} == wanted


def test_threads_and_other_chunks_make_the_same(finished):
    cube, source = open_inputs(finished.map, items=items_of(finished))
    made = checksums(finished, sharpen(cube.chunk({"y": 97, "x": 61}), source))
    wanted = recorded(finished)
    assert {tile: made[tile] for tile in wanted} == wanted


def test_inputs_are_lazy_and_those_of_the_map(finished):
    spec = read_spec(finished.map)
    cube, source = open_inputs(spec, items=items_of(finished))
    assert set(cube.data_vars) == {*(channel.name for channel in spec.guide.channels), "n_valid", "gaps"}
    assert all(array.chunks for array in cube.data_vars.values())
    assert set(source.data_vars) == {"agb", "agb_sd"}
    assert float(cube.x[1] - cube.x[0]) == 10
    assert float(source.x[1] - source.x[0]) == 100
    assert np.isfinite(source["agb"].values).any()


def test_another_model_takes_the_same_inputs(finished):
    cube, source = open_inputs(finished.map, items=items_of(finished))
    coarse = mapper.sharpen(None, source, "nearest")
    assert set(coarse.data_vars) == {"agb", "agb_sd", "qa", "n_valid"}
    assert coarse["agb"].attrs["units"] == "Mg ha-1"
    assert float(coarse["agb"].mean()) == pytest.approx(float(sharpen(cube, source)["agb"].mean()), rel=0.5)


def test_what_lies_elsewhere_is_refused(finished):
    cube, source = open_inputs(finished.map, items=items_of(finished))
    with pytest.raises(GridError, match="not on the lattice of the map"):
        sharpen(cube, source.assign_coords(x=source.x + 30))
    with pytest.raises(SpecError, match="no map says"):
        sharpen(cube, xr.Dataset({"agb": source["agb"]}))
