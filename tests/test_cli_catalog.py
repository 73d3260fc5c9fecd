"""`mapper catalog`: providers as a table, mistakes with their line, items; maps from a catalogue of published tiles."""

import json

import numpy as np
import pytest
import rasterio
import yaml
from cci_maps import STEP, pixel_of, write_cell
from dialects import PASSES, describe
from headers import item_of, write_file
from pyproj import Transformer
from region import run_json, run_mapper, write_weights
from scenes import HERE
from shared import SHARED, needs_shared

from mapper.catalog.provider import format_schema
from mapper.spec import read_spec
from mapper.store.map_store import MapStore, open_map

FILES = {scene.product: dict.fromkeys(("B02", "B04", "B8A", "B11", "SCL"), "x.tif") for scene in PASSES}


@pytest.fixture
def items(tmp_path):
    """One item, a collection of features and a list, in a directory."""
    first, *others = describe(PASSES, FILES, "copernicus-dataspace")
    folder = tmp_path / "items"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps(first))
    (folder / "b.json").write_text(json.dumps({"type": "FeatureCollection", "features": others[:1]}))
    (folder / "c.json").write_text(json.dumps(others[1:]))
    (folder / "collection.json").write_text(json.dumps({"type": "Collection", "id": "s"}))
    return folder


def test_providers_are_listed_with_what_one_needs_to_know():
    code, said = run_mapper("catalog", "list")
    text = " ".join(said.split())
    assert code == 0
    for word in ("planetary-computer", "tokens,", "CDSE_S3_ACCESS_KEY", "(refused)", "Copernicus Sentinel data"):
        assert word in text
    names = [provider["name"] for provider in run_json("catalog", "list")]
    assert names == sorted(names)
    assert "stac-api" in names


def test_a_description_is_printed_with_its_defaults():
    code, said = run_mapper("catalog", "check", "earth-search")
    assert code == 0
    assert yaml.safe_load(said)["collections"]["sentinel-2-c1-l2a"]["trust"] == "none"
    assert run_json("catalog", "check", "earth-search") == yaml.safe_load(said)


def test_the_schema_is_printed():
    assert run_mapper("catalog", "check", "--schema") == (0, format_schema())


def test_a_mistake_in_a_file_is_told_with_its_place(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": "demo", "collections": {"truth": {"trust": "me"}}}))
    code, said = run_mapper("catalog", "check", path)
    assert code == 2
    assert "collections.truth.trust: Input should be" in said
    assert run_mapper("catalog", "check")[0] == 2


def test_items_are_shown_as_they_would_be_read(items):
    code, said = run_mapper("catalog", "check", "copernicus-dataspace", "--item", items)
    assert code == 0, said
    for word in ("B8A_20m", "EPSG:32660", "(DN - 1000) / 10000: offset declared by the item", "2020-06-01 sentinel-2a"):
        assert word in said
    facts = run_json("catalog", "check", "copernicus-dataspace", "--item", items / "a.json", "--item", items / "b.json")
    assert len(facts) == 2 * 4
    assert facts[0] | {"calibration": "", "image": ""} == {
        "item": PASSES[0].product, "collection": "sentinel-2-l2a", "band": "B02", "asset": "B02_10m",
        "crs": "EPSG:32660", "resolution": 10.0, "dtype": "uint16", "nodata": [0.0], "calibration": "", "image": "",
    }  # fmt: skip


def test_an_item_that_cannot_be_read_is_told_in_a_line_and_by_the_exit_code(items):
    served = json.loads((items / "a.json").read_text())
    served["assets"]["B04_10m"]["raster:offset"] = 0
    (items / "a.json").write_text(json.dumps(served))
    code, said = run_mapper("catalog", "check", "copernicus-dataspace", "--item", items)
    assert code == 1
    (line,) = [line for line in said.splitlines() if "refused" in line]
    assert "contradicts itself about the offset of B04_10m" in line
    assert "B8A_20m" in said


def test_files_are_opened_and_held_against_their_item(tmp_path):
    """Nothing is said in the item but a scale; the file is a pair, with a value of no data and a mask."""
    pixels = np.stack([np.full(HERE.shape, value, np.int16) for value in (120, 15)])
    mask = np.full(HERE.shape, 255, np.uint8)
    write_file(tmp_path / "pair.tif", pixels, nodata=-9999, mask=mask, names=("agb", "spread"), scales=(0.5, 1.0))
    item = item_of("pair.tif", ("map",), collection="pairs")
    (tmp_path / "item.json").write_text(json.dumps(item))
    bands = {"agb": "map", "agb_sd": {"asset": "map", "band": "spread"}}
    mine = {"extends": "stac-api", "collections": {"pairs": {"like": "biomass", "bands": bands}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine))
    arguments = ("catalog", "check", tmp_path / "mine.yaml", "--item", tmp_path / "item.json", "--open")
    code, said = run_mapper(*arguments)
    assert code == 0, said
    for word in ("agb_sd is band 2 of 2", "no data -9999 by the file", "scale 0.5 by the file", "internal mask"):
        assert word in said
    first, second = run_json(*arguments)
    assert {row["property"]: row["found"] for row in first["compared"]}["scale"] == "0.5, none"
    assert [row["decision"] for row in second["compared"] if row["property"] == "band"] == ["agb_sd is band 2 of 2"]
    item["assets"]["map"]["raster:bands"] = [{"scale": 0.1}, {"scale": 1}]
    item["assets"]["map"]["eo:bands"] = [{"name": "agb"}, {"name": "spread"}]
    (tmp_path / "item.json").write_text(json.dumps(item))
    code, said = run_mapper(*arguments)
    assert code == 1
    (line,) = [line for line in said.splitlines() if line.startswith("the-item refused")]
    assert "its header has scale 0.5, item and collection say 0.1" in line


def test_items_may_be_read_as_those_of_another_collection(items):
    arguments = ("catalog", "check", "stac-api", "--item", items / "a.json")
    code, said = run_mapper(*arguments)
    assert code == 1
    assert "unknown collection 'sentinel-2-l2a'" in said
    code, said = run_mapper(*arguments, "--collection", "sentinel-2")
    assert code == 1
    assert "holds none of the bands" in said


@pytest.mark.parametrize(("content", "word"), [("{", "is not JSON"), ("{}", "holds no STAC item"), (None, "cannot be")])
def test_files_without_items_are_refused(tmp_path, content, word):
    path = tmp_path / "item.json"
    if content is not None:
        path.write_text(content)
    code, said = run_mapper("catalog", "check", "demo", "--item", path)
    assert code == 2
    assert word in said


@needs_shared
def test_what_an_archive_serves_can_be_looked_at_as_a_whole():
    code, said = run_mapper("catalog", "check", "earth-search", "--item", SHARED / "stac_items" / "earth-search")
    assert code == 1
    assert said.count("refused") >= 4
    assert "elevation" in said


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
    uses = [use for record in MapStore.open(mixed.store).ledger.records() for use in record.items]
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
