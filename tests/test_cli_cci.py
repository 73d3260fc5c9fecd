"""From published tiles of a biomass map to a finished map: its source from one catalogue, its guide from another."""

import numpy as np
import pytest
import rasterio
import yaml
from cci_maps import STEP, pixel_of, write_cell
from pyproj import Transformer
from region import run_json, run_mapper, write_weights

from mapper.spec import read_spec
from mapper.store.ledger import read_ledger
from mapper.store.repository import open_map

CELL = "N60E010"


@pytest.fixture
def mixed(region):
    """The region, with a biomass map of a cell in files, its catalogue made by the command."""
    west, south, east, north = yaml.safe_load(region.map.read_text())["area"]["bbox"]
    top, left = pixel_of(west, north, CELL)
    rng = np.random.default_rng(9)
    pixels = rng.integers(0, 400, (160, 200)).astype(np.uint16)
    pixels[rng.random(pixels.shape) < 0.2] = 0
    write_cell(region.folder / "files" / "v7.0" / "geotiff" / "2020", CELL, pixels=pixels, at=(top - 60, left - 60))
    options = ("--version", "7.0", "--year", 2020, "--root", region.folder / "files", "--out", region.folder / "cci")
    code, said = run_mapper("catalog", "cci", *options, "--bbox", west, south, east, north)
    assert code == 0, said
    assert said.strip().endswith("cci/catalog.json")
    home = {"provider": "esa-cci-biomass", "href": "cci/catalog.json"}
    return region.change(source__catalog=home, source__year=2020)


def finish(region):
    code, said = run_mapper("run", region.map)
    assert code == 0, said
    return open_map(region.store).load(), read_spec(region.map).map_grid


def open_tile(region, kind="AGB"):
    return rasterio.open(next((region.folder / "files").rglob(f"*-L4-{kind}-MERGED-*.tif")))


def test_on_a_native_grid_the_map_holds_the_pixels_of_the_file(mixed):
    native = {"kind": "native", "crs": "EPSG:4326", "resolution": "1/11250", "tile": 320, "chunk": 160}
    mixed.change(grid=native, source__resolution="1/1125", model={"name": "nearest"}, consistency="none")
    made, grid = finish(mixed)
    with open_tile(mixed) as biomass, open_tile(mixed, "AGB_SD") as deviation:
        row, col = biomass.index(grid.geobox.transform.c + 1e-6, grid.geobox.transform.f - 1e-6)
        window = rasterio.windows.Window(col, row, grid.shape[1] // 10, grid.shape[0] // 10)
        expected, sd = biomass.read(1, window=window), deviation.read(1, window=window)
    value = made["agb"].to_numpy()
    known = np.isfinite(value)
    assert known.mean() > 0.3
    np.testing.assert_allclose(value[known], np.kron(expected, np.ones((10, 10)))[known], atol=1e-4)
    np.testing.assert_allclose(made["agb_sd"].to_numpy()[known], np.kron(sd, np.ones((10, 10)))[known], atol=0.06)
    assert (value[known] == 0).any(), "0 is land without biomass"


def test_on_a_projected_grid_the_guide_refines_area_averages(mixed):
    write_weights(mixed.folder)
    mixed.change(
        model={"name": "tiny", "weights": "tiny.safetensors"},
        consistency="hard",
        source__sd_correlation=500,
        grid__tile=256,
    )
    made, grid = finish(mixed)
    expected = average(stored_under(grid, mixed))
    found = average(made["agb"].to_numpy())
    known = np.isfinite(found)
    assert known.mean() > 0.3
    np.testing.assert_allclose(found[known], expected[known], atol=0.06)
    uses = [use for record in read_ledger(mixed.store).records() for use in record.items]
    assert {use.collection for use in uses} == {"sentinel-2-l2a", "sentinel-1-rtc", "esa-cci-biomass"}
    notes = {use.calibration for use in uses if use.role == "source"}
    assert all(note.endswith("agb_sd of area averages: errors correlated over 500 m") for note in notes)
    assert run_json("verify", mixed.map)["complete"]


def stored_under(grid, region):
    """The stored pixel under each pixel of the map, on the blocks that are whole."""
    at, px = grid.geobox.transform, np.array(grid.shape) // 10 * 10
    x, y = np.meshgrid(at.c + 10 * (np.arange(px[1]) + 0.5), at.f - 10 * (np.arange(px[0]) + 0.5))
    lon, lat = Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True).transform(x, y)
    with open_tile(region) as tile:
        rows, cols = (
            np.floor((tile.transform.f - lat) / STEP).astype(int),
            np.floor((lon - tile.transform.c) / STEP).astype(int),
        )
        window = rasterio.windows.Window(cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1)
        return tile.read(1, window=window)[rows - rows.min(), cols - cols.min()]


def average(values):
    height, width = values.shape[0] // 10, values.shape[1] // 10
    return values[: height * 10, : width * 10].reshape(height, 10, width, 10).mean(axis=(1, 3))


@pytest.mark.parametrize(
    ("change", "words"),
    [({"--year": 2013}, "its years are 2005-2012, 2015-2024"), ({"--root": "/nowhere"}, "tried /nowhere/v7.0/geotiff")],
)
def test_a_wrong_request_is_one_line(tmp_path, change, words):
    options = {"--version": "7.0", "--year": 2020, "--root": tmp_path, "--out": tmp_path / "out"} | change
    code, said = run_mapper("catalog", "cci", *(word for option in options.items() for word in option))
    assert code == 2
    assert words in said
    assert "\n" not in said.strip()
    assert not (tmp_path / "out").exists()
