"""Elevation from a folder of GeoTIFFs to the server: heights, datums, gaps and borders come through as they are."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from fastapi.testclient import TestClient
from headers import write_file
from odc.geo.geobox import GeoBox
from rasterio import Affine
from rasterio.warp import Resampling, reproject
from region import run_json, run_mapper
from scenes import box_at
from shared import SHARED, needs_shared
from terrain_tiles import CRS, SECOND, TO_DEGREES, centres, height, height_at, map_box, posts

import mapper
from mapper import open_map, read_spec
from mapper.catalog.items import freeze_items
from mapper.catalog.provider import load_provider
from mapper.catalog.static import read_catalog
from mapper.cube.source import read_source
from mapper.predict.quality import mask_of
from mapper.serve.app import make_app
from mapper.spec import parse_spec
from mapper.store.map_store import MapStore
from mapper.store.product import NOT_WRITTEN

DEM = SHARED / "super_resolution" / "dem"
QUANTUM = 0.01
AREA = [15.006, 49.994, 15.02, 50.006]
"""Across the change of spacing at 50 degrees."""


def put(path, place, values=None, **header):
    """Write terrain, or other values, as a plain GeoTIFF."""
    if values is None:
        values = (height if str(place.crs) == CRS else height_at)(*centres(place)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_file(path, values, place, **header)


def describe(folder, source, *options):
    """Describe rasters in the catalogue of a folder, as a user does; returns what the command says."""
    return run_json("catalog", "rasters", source, "--out", folder / "rasters", *options)


def write_map(folder, name, collection, *, area=AREA, crs=CRS, **parts):
    """A MAP.yaml with what the command suggests; returns its path."""
    grid = {"crs": crs, "resolution": 10, "tile": 48, "chunk": 24} | parts.pop("grid", {})
    source = {"collection": collection, "variable": "elevation", "resolution": 30, "static": True}
    content = {
        "preset": "elevation",
        "name": name,
        "area": {"bbox": list(area)},
        "period": {"start": "2000-01-01", "end": "2000-01-01"},
        "catalog": {"provider": "rasters/provider.yaml"},
        "grid": grid,
        "source": source | parts.pop("source", {}),
        "model": {"name": "bicubic"},
        "consistency": {"operator": "none"},
        "store": f"{name}.icechunk",
        **parts,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run(path):
    """Search, plan and run; returns the map."""
    report = run_json("run", path, "--cluster", "serial")
    assert not report["failed"]
    return open_map(path)


def at(dataset):
    """Coordinates of all pixels of a map, each (y, x)."""
    return np.meshgrid(dataset.x.values, dataset.y.values)


def read_window(folder, collection, box, **source):
    """Source pixels of a window, as a map of one described collection reads them."""
    catalog = read_catalog(folder / "rasters" / "catalog.json", collections={collection})
    spec = read_spec(write_map(folder, "window", collection, crs=str(box.crs), source=source))
    provider = load_provider(str(folder / "rasters" / "provider.yaml"))
    items = [
        {**item, "assets": {"data": {**item["assets"]["data"], "href": item["assets"]["data"]["href"]}}}
        for item in catalog.items
    ]
    return read_source(freeze_items(items), box, spec=spec, provider=provider)


@pytest.fixture(scope="module")
def terrain(tmp_path_factory):
    """Tiles on both sides of 50 degrees, described, and the map across it, made."""
    folder = tmp_path_factory.mktemp("terrain")
    put(folder / "tiles" / "n50.tif", posts(15.0, 50 + 50 * SECOND, (50, 60), 1.5 * SECOND))
    put(folder / "tiles" / "n49.tif", posts(15.0, 50.0, (50, 90)))
    said = describe(
        folder, folder / "tiles", "--collection", "glo", "--vertical-datum", "EPSG:3855", "--heights", "surface"
    )
    path = write_map(folder, "across", "glo")
    return folder, said, path, run(path)


def test_a_folder_becomes_a_map_without_a_step_at_the_change_of_spacing(terrain):
    _, said, _, dataset = terrain
    assert (said["items"], said["left_out"]) == (["n49", "n50"], [])
    values = dataset["dtm"].values
    error = values - height(*at(dataset))
    _, lat = TO_DEGREES.transform(*at(dataset))
    known = np.isfinite(values)
    joint = known & (np.abs(lat - 50 - SECOND / 2) < 1.5 * SECOND)
    north, south = known & (lat > 50 + 3 * SECOND), known & (lat < 50 - 3 * SECOND)
    assert min(part.sum() for part in (joint, north, south)) > 400
    apart = [float(np.sqrt(np.mean(error[part] ** 2))) for part in (joint, north, south)]
    assert max(apart) < 0.45, "bicubic from 30 m, of waves of 190 m and more"
    assert apart[0] < 1.1 * max(apart[1:])
    assert abs(error[joint].mean()) < 0.05


def test_the_map_is_the_same_to_the_bit_for_any_tiling_and_has_no_seams(terrain):
    folder, _, _, dataset = terrain
    other = run(write_map(folder, "tiled", "glo", grid={"tile": 72, "chunk": 36}))
    rows, cols = (min(one, two) for one, two in zip(dataset["dtm"].shape, other["dtm"].shape, strict=True))
    first, second = (each["dtm"].values[:rows, :cols] for each in (dataset, other))
    np.testing.assert_array_equal(first, second)
    truth = height(*at(dataset))[:rows, :cols]
    assert measure_seams(first, 48) / measure_seams(truth, 48) == pytest.approx(1, abs=0.02)


def measure_seams(values, tile, scale=3):
    """RMS of second differences across borders of tiles, to that across other edges of source pixels."""
    sums = np.zeros((2, 2))
    for grid in (values, values.T):
        second = np.diff(grid, 2, axis=0)
        centre = np.arange(len(second)) + 1
        edge = (centre % scale == 0) | (centre % scale == scale - 1)
        border = (centre % tile == 0) | (centre % tile == tile - 1)
        for part, chosen in enumerate((border, edge & ~border)):
            sums[part] += np.nansum(second[chosen] ** 2), np.isfinite(second[chosen]).sum()
    return float(np.sqrt(sums[0, 0] / sums[0, 1] / (sums[1, 0] / sums[1, 1])))


def test_a_served_pixel_is_the_stored_one_with_its_datum_and_its_files(terrain):
    _, _, path, dataset = terrain
    client = TestClient(make_app(read_spec(path).store))
    rng = np.random.default_rng(1)
    known = np.argwhere(np.isfinite(dataset["dtm"].values))
    for row, col in rng.permutation(known)[:12].tolist():
        place = {"x": float(dataset.x[col]), "y": float(dataset.y[row]), "crs": CRS}
        answer = client.get("/pixel", params=place).raise_for_status().json()
        assert answer["value"] == pytest.approx(float(dataset["dtm"].values[row, col]), abs=1e-6)
    record = next(each for each in MapStore.open(read_spec(path).store).ledger.records() if each.status == "ok")
    assert "heights in EPSG:3855" in record.items[0].calibration
    assert {use.id for use in record.items} <= {"n49", "n50"}


def test_regions_are_sharpened_lazily_to_the_same_pixels(terrain):
    _, _, path, dataset = terrain
    inputs = mapper.open_inputs(path)
    lazy = mapper.sharpen(inputs.guide, inputs.source)["dtm"].values
    stored = dataset["dtm"].values
    known = np.isfinite(stored)
    np.testing.assert_allclose(lazy[known], stored[known], atol=QUANTUM / 2 + 1e-4)


def test_where_no_tile_is_the_source_is_missing_and_says_so(terrain):
    folder, _, _, _ = terrain
    area = [15 + 70 * SECOND, 49.994, 15 + 110 * SECOND, 50.0]
    path = write_map(folder, "coast", "glo", area=area)
    dataset = run(path)
    lon, lat = TO_DEGREES.transform(*at(dataset))
    values, flags = dataset["dtm"].values, dataset["qa"].values
    inside = (lon > area[0]) & (lon < area[2]) & (lat > area[1]) & (lat < area[3])
    beyond, held = inside & (lon > 15 + 92 * SECOND), inside & (lon < 15 + 87 * SECOND)
    assert min(beyond.sum(), held.sum()) > 300
    assert np.isnan(values[beyond]).all()
    assert_missing(path, flags[beyond])
    assert np.isfinite(values[held]).all()
    assert (flags[held] & mask_of("source_missing") == 0).all()


def assert_missing(path, flags):
    """Pixels say that the source is missing; tiles of nothing else are not written, and their records say it."""
    assert (flags & (mask_of("source_missing") | NOT_WRITTEN) != 0).all()
    assert (flags & mask_of("source_missing") != 0).any()
    records = MapStore.open(read_spec(path).store).ledger.records()
    assert {(record.status, record.reason) for record in records} <= {
        ("ok", ""), ("empty", "the source has no value here"), ("empty", "no pixel lies in the area"),
    }  # fmt: skip


@pytest.mark.parametrize("void", [np.nan, -32767.0, -9999.0])
def test_voids_are_missing_and_zero_is_a_height(tmp_path, void):
    place = posts(15.0, 50.0, (60, 90))
    values = height_at(*centres(place)).astype(np.float32)
    values[20:30, 30:50], values[40:50, 30:50] = void, 0
    put(tmp_path / "tile.tif", place, values)
    describe(tmp_path, tmp_path / "tile.tif", "--vertical-datum", "EPSG:3855")
    box = map_box(15.003, 49.998, (40, 40))
    found = read_window(tmp_path, "tile", box).mean
    lon, lat = TO_DEGREES.transform(*centres(box))
    col, row = (lon - 15) / SECOND, (50 - lat) / SECOND
    deep = (row > 20) & (row < 29) & (col > 30) & (col < 49)
    sea = (row > 42) & (row < 47) & (col > 32) & (col < 47)
    assert np.isnan(found[deep]).all()
    assert (found[sea] == 0).all()
    assert min(deep.sum(), sea.sum()) > 30
    assert np.nanmin(found) > -30, "no part of a void, but the swing of a cubic beside a cliff"


def test_files_that_say_the_same_in_other_words_are_read_alike(tmp_path):
    place = posts(15.0, 50.0, (60, 90))
    heights = height_at(*centres(place)).astype(np.float32)
    upside = GeoBox((60, 90), Affine(SECOND, 0, 15 - SECOND / 2, 0, SECOND, 50 - 59.5 * SECOND), "EPSG:4326")
    put(tmp_path / "plain.tif", place, heights)
    put(tmp_path / "compound.tif", place, heights, crs="EPSG:4326+3855")
    put(tmp_path / "upside.tif", upside, heights[::-1])
    put(tmp_path / "feet.tif", place, (heights.astype(np.float64) / 0.3048).astype(np.float32))
    put(tmp_path / "nowhere.tif", place, heights, crs=None)
    put(tmp_path / "millimetres.tif", place, np.round(heights * 1000).astype(np.int32), scales=(0.001,))
    with rasterio.open(put(tmp_path / "point.tif", place, heights), "r+") as file:
        file.update_tags(AREA_OR_POINT="Point")
    put(tmp_path / "pair.tif", place, np.stack([heights + 9, heights]))
    options = {
        "feet": ("--units", "ft"), "nowhere": ("--crs", "EPSG:4326"),
        "pair": ("--kind", "elevation", "--bands", "elevation=2"),
    }  # fmt: skip
    box, found = map_box(15.003, 49.998, (30, 30)), {}
    for path in sorted(tmp_path.glob("*.tif")):
        describe(tmp_path, path, *options.get(path.stem, ()))
        found[path.stem] = read_window(tmp_path, path.stem, box)
    expected = found.pop("plain").mean
    assert np.isfinite(expected).all()
    for name, each in found.items():
        np.testing.assert_allclose(each.mean, expected, atol=2e-3, err_msg=name)
    assert "none by the file, EPSG:4326 by the item" in found["nowhere"].uses[0].calibration
    assert "by the item" not in found["compound"].uses[0].calibration


def test_codes_are_shares_of_nothing_and_read_as_indicators(tmp_path):
    place = box_at(CRS, 500_430, 5_539_200, size=(200, 200), step=5.0)
    codes = np.random.default_rng(2).integers(0, 4, place.shape).astype(np.uint8)
    put(tmp_path / "codes.tif", place, codes)
    put(tmp_path / "tiles" / "n49.tif", posts(15.0, 50.0, (60, 90)))
    describe(tmp_path, tmp_path / "tiles", "--collection", "glo")
    describe(tmp_path, tmp_path / "codes.tif", "--classes", "building=1", "water=2,3")
    layer = {"collection": "codes", "bands": ["building", "water"], "static": True}
    path = write_map(tmp_path, "cover", "glo", area=[15.009, 49.997, 15.015, 50.0], guide={"layers": [layer]})
    cube, _ = mapper.open_inputs(path)
    assert set(np.unique(cube["building"].values[np.isfinite(cube["building"].values)])) == {0, 1}
    assert float(np.nanmean(cube["water"].values)) == pytest.approx(0.5, abs=0.1)


def test_the_command_teaches_and_its_advice_is_a_map(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "dem" / "n49.tif", posts(15.0, 50.0, (40, 60)))
    code, said = run_mapper("catalog", "rasters", "dem", "--heights", "ground")
    assert code == 0, said
    assert "pixels" not in said.splitlines()[0]
    advised = yaml.safe_load(said.split("next, in MAP.yaml:")[1].split("how files are read")[0])
    spec = parse_spec(advised, base=Path())
    assert (spec.grid.crs, float(spec.source.resolution), float(spec.grid.resolution)) == ("EPSG:32633", 30, 10)
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(advised))
    assert run_json("plan", "map.yaml")["tiles"] > 0
    code, said = run_mapper("catalog", "check", "rasters/provider.yaml", "--item", "rasters/dem", "--open")
    assert code == 0, said
    (tmp_path / "dem" / "broken.tif").write_bytes(b"II*\0")
    code, said = run_mapper("catalog", "rasters", "dem")
    assert code == 1
    assert [line for line in said.splitlines() if line.startswith("left out: broken.tif: ")]
    assert [item["id"] for item in read_catalog("rasters/catalog.json", collections={"dem"}).items] == ["n49"]
    assert run_mapper("catalog", "rasters", "dem", "more")[0] == 2


@needs_shared
def test_heights_below_the_sea_are_exact_in_a_file_that_is_upside_down(tmp_path):
    source = DEM / "nz_negative" / "dem_10m.tif"
    with rasterio.open(source) as file:
        truth, place = file.read(1)[::-1], file.transform
    assert (file.nodata, place.e > 0, truth.min() < -20) == (None, True, True)
    describe(tmp_path, source, "--collection", "nz", "--heights", "ground")
    west, south, east, north = json.loads((tmp_path / "rasters/nz/dem_10m/dem_10m.json").read_text())["bbox"]
    path = write_map(
        tmp_path, "nz", "nz", area=[west, south, east, north], crs="EPSG:2193",
        grid={"kind": "projected", "resolution": 5, "tile": 80, "chunk": 40}, source={"resolution": 10},
        consistency={"operator": "block-mean", "mode": "hard"},
    )  # fmt: skip
    dataset = run(path)
    x, y = dataset.x.values, dataset.y.values
    rows, cols = (y < 750) & (y > -250), (x > 250) & (x < 1250)
    fine = dataset["dtm"].values[np.ix_(rows, cols)].astype(np.float64)
    assert fine.shape == (200, 200)
    means = fine.reshape(100, 2, 100, 2).mean(axis=(1, 3))
    assert np.abs(means - truth).max() <= QUANTUM / 2 + 1e-6
    assert (means < 0).mean() > 0.2


@pytest.fixture(scope="module")
def los_angeles(tmp_path_factory):
    """Heights of one place in two datums, described as two collections."""
    if not DEM.is_dir():
        pytest.skip(f"real data not found at {DEM}")
    folder, source = tmp_path_factory.mktemp("la"), DEM / "glo30_los_angeles"
    for name, datum in (("geoid", "EPSG:3855"), ("ellipsoid", "EPSG:4979")):
        describe(
            folder, source, "--pattern", f"{name}.tif", "--collection", name, "--vertical-datum", datum,
            "--heights", "surface",
        )  # fmt: skip
    return folder


LA = {"area": [-118.02, 34.0, -118.0, 34.012], "crs": "EPSG:32611"}


@needs_shared
def test_two_datums_of_one_place_are_told_apart_and_joined_by_what_is_declared(los_angeles):
    geoid = run(write_map(los_angeles, "geoid", "geoid", **LA))
    mixed = write_map(los_angeles, "mixed", "geoid", **LA, target={"vertical_datum": "EPSG:4979"})
    code, said = run_mapper("run", mixed)
    assert code == 2
    assert "source geoid has heights in EPSG:3855, the map in EPSG:4979" in " ".join(said.split())
    ellipsoid = run(write_map(los_angeles, "ellipsoid", "ellipsoid", **LA))
    shifted = run(
        write_map(
            los_angeles,
            "shifted",
            "geoid",
            **LA,
            target={"vertical_datum": "EPSG:4979"},
            source={"datum_shift": -34.88},
        )
    )
    apart, joined = (each["dtm"].values - ellipsoid["dtm"].values for each in (geoid, shifted))
    assert np.nanmean(apart) == pytest.approx(34.9, abs=0.1)
    assert np.nanmax(np.abs(joined)) < 0.3


@needs_shared
def test_real_pieces_are_read_as_gdal_warps_them(los_angeles):
    box = box_at("EPSG:32611", 406_020, 3_765_000, size=(60, 80), step=30.0)
    with rasterio.open(DEM / "glo30_los_angeles" / "geoid.tif") as file:
        warped = np.full(box.shape, np.nan, np.float32)
        reproject(
            file.read(1), warped, src_transform=file.transform, src_crs=file.crs, dst_transform=box.transform,
            dst_crs="EPSG:32611", resampling=Resampling.cubic, tolerance=0, XSCALE=1, YSCALE=1,
        )  # fmt: skip
    found = read_window(los_angeles, "geoid", box).mean
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, warped, atol=0.1)  # half a pixel would be metres
    assert np.abs(found - np.roll(warped, 1, axis=1))[:, 1:].max() > 10


@needs_shared
def test_the_gap_of_armenia_is_a_gap(tmp_path):
    source = DEM / "glo_armenia_gap"
    describe(tmp_path, source, "--pattern", "glo_30*", "--collection", "glo30", "--vertical-datum", "EPSG:3855")
    describe(tmp_path, source, "--pattern", "glo_90*", "--collection", "glo90", "--vertical-datum", "EPSG:3855")
    area = [42.99, 40.49, 43.01, 40.505]
    path = write_map(tmp_path, "gap", "glo30", area=area, crs="EPSG:32638")
    dataset = run(path)
    to_degrees = TO_DEGREES.from_crs("EPSG:32638", "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform(*at(dataset))
    values, flags = dataset["dtm"].values, dataset["qa"].values
    inside = (lon > area[0]) & (lon < area[2]) & (lat > area[1]) & (lat < area[3])
    west, east = inside & (lon < 43 - 3 * SECOND), inside & (lon > 43 + 2 * SECOND)
    assert np.isfinite(values[west]).all()
    assert np.isnan(values[east]).all()
    assert_missing(path, flags[east])
    coarse = run(write_map(tmp_path, "coarse", "glo90", area=area, crs="EPSG:32638"))
    assert np.isfinite(coarse["dtm"].values[inside & (lon > 43 + 6 * SECOND)]).all()
