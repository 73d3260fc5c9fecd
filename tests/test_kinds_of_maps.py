"""One engine for any kind of map: reflectance, elevation and stacks, each from a STAC catalogue to the server."""

import json
import re
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from fastapi.testclient import TestClient
from kinds_of_maps import AREA, BANDS, CRS, ORIGIN, SIZE, write_catalog, write_map, write_scene, write_surface
from region import run_json, run_mapper

from mapper import open_map, read_spec
from mapper.plan.context import make_context
from mapper.serve.app import make_app
from mapper.spec import ModelSpec, parse_spec
from mapper.store.map_store import MapStore

QUANTUM = 1e-4
GRID = {"kind": "native", "crs": CRS, "resolution": 5, "tile": 64, "chunk": 32}
DAYS = ("06-03", "06-08", "06-13", "06-18", "06-23", "07-03", "07-08", "07-13", "07-18")


@pytest.fixture(scope="module")
def reflectance(tmp_path_factory):
    """Four bands of one date, sharpened from 10 to 5 m by bicubic interpolation."""
    folder = tmp_path_factory.mktemp("reflectance")
    item, numbers = write_scene(folder, "2024-06-18", 3.0)
    write_catalog(folder, [item])
    path = write_map(
        folder,
        "reflectance",
        preset="sentinel2-multi",
        grid=GRID,
        source={"dates": 1},
        model={"name": "bicubic"},
        consistency="hard",
    )
    run_json("run", path)
    return path, (numbers.astype(np.float64) - 1000) / 10000


@pytest.fixture(scope="module")
def elevation(tmp_path_factory):
    """Heights, some below the sea, from 30 to 10 m without a guide."""
    folder = tmp_path_factory.mktemp("elevation")
    item, heights = write_surface(folder)
    write_catalog(folder, [item])
    path = write_map(
        folder,
        "elevation",
        preset="elevation",
        grid={"crs": CRS, "resolution": 10, "tile": 48, "chunk": 24},
        model={"name": "bicubic"},
    )
    run_json("run", path)
    return path, heights


@pytest.fixture(scope="module")
def dates(tmp_path_factory):
    """Nine clouded dates, the eight clearest of each pixel to their median at 5 m."""
    folder = tmp_path_factory.mktemp("dates")
    rng = np.random.default_rng(5)
    scenes = []
    for number, day in enumerate(DAYS):
        clear = rng.random((SIZE, SIZE)) < 0.8
        scenes.append((*write_scene(folder, f"2024-{day}", 5.0 + 6 * number, clear=clear), clear))
    write_catalog(folder, [item for item, _, _ in scenes])
    parts = {
        "preset": "sentinel2-multi",
        "grid": GRID,
        "source": {"dates": 8, "anchor": "median"},
        "model": {"name": "median"},
        "consistency": "none",
    }
    path = write_map(folder, "dates", **parts)
    run_json("run", path)
    return path, scenes, parts


@pytest.fixture(params=["reflectance", "elevation", "dates"])
def finished(request):
    """Each kind of map in turn."""
    return request.getfixturevalue(request.param)[0]


def draw_box():
    west, south, east, north = AREA
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def source_pixels(dataset, values):
    """Rows and columns of a scene (band, y, x) under the map, and the map's block means on them."""
    left, top = float(dataset.x[0]) - 2.5, float(dataset.y[0]) + 2.5
    col, row = round((left - ORIGIN[0]) / 10), round((ORIGIN[1] - top) / 10)
    rows, cols = dataset.sizes["y"] // 2, dataset.sizes["x"] // 2
    means = np.stack([dataset[band].values.reshape(rows, 2, cols, 2).mean(axis=(1, 3)) for band in BANDS])
    return values[:, row : row + rows, col : col + cols], means


def test_each_kind_is_reduced_verified_explained_exported_and_served(finished, tmp_path):
    spec, (east, north) = read_spec(finished), (15.0087, 50.5457)
    assert run_json("run", finished)["tiles"] == 0, "a finished map has nothing to do"
    assert run_json("pyramid", finished)["failed"] == {}
    verified = run_json("verify", finished)
    assert verified["complete"]
    assert not verified["empty"]
    assert verified["pyramid"]["ok"]
    names = [band.name for band in spec.targets]
    dataset = open_map(finished)
    assert set(names) < set(dataset.data_vars)
    coarse = open_map(finished, level=1)
    for name in names:
        assert dataset[name].attrs["units"] == spec.targets[0].units
        assert np.isfinite(dataset[name].values).mean() > 0.3
        assert abs(float(coarse[name].mean()) - float(dataset[name].mean())) < 0.05 * float(dataset[name].std()) + 1e-3
    said = run_json("why", finished, east, north)
    value = dataset[names[0]].values[said["row"], said["col"]]
    assert said["value"] == pytest.approx(float(value), abs=1e-6)
    assert said["record"]["items"]
    code, text = run_mapper("export", finished, "--bbox", ",".join(map(str, AREA)), "--out", tmp_path / "piece.tif")
    assert code == 0, text
    with rasterio.open(tmp_path / "piece.tif") as file:
        assert file.count >= len(names)
        assert file.crs == rasterio.crs.CRS.from_user_input(CRS)
        first = file.read(1, masked=True) * file.scales[0] + file.offsets[0]
    held = dataset[names[0]].values
    assert first.min() >= np.nanmin(held) - 1e-6
    assert first.max() <= np.nanmax(held) + 1e-6
    client = TestClient(make_app(spec.store))
    assert "<html" in client.get("/").text.lower()
    pixel = client.get("/pixel", params={"x": east, "y": north, "crs": "EPSG:4326"}).json()
    assert [band["name"] for band in pixel["bands"]] == names
    assert pixel["value"] == pytest.approx(said["value"])
    for name in names:
        sums = client.post("/stats", params={"variable": name}, json=draw_box()).raise_for_status().json()
        assert sums["mean"]["value"] == pytest.approx(
            float(np.nanmean(dataset[name].values)), abs=0.3 * float(np.nanstd(dataset[name].values))
        )
        tile = client.get(f"/tiles/main/{name}/13/4437/2745.png")
        assert tile.status_code == 200
    described = client.get("/stac/item").raise_for_status().json()["properties"]["cube:variables"]
    assert set(names) <= set(described)


def test_block_means_of_reflectance_equal_the_source_to_the_quantum(reflectance):
    path, values = reflectance
    dataset = open_map(path)
    truth, means = source_pixels(dataset, values)
    known = np.isfinite(means)
    assert known.mean() > 0.3
    assert np.abs(means - truth)[known].max() <= QUANTUM
    fine = dataset["B02"].values
    assert np.nanstd(np.diff(fine, axis=1)) > 0.002, "detail inside source pixels"


def test_the_source_is_copied_and_not_resampled(reflectance, tmp_path):
    path, values = reflectance
    content = path.read_text().replace("bicubic", "nearest").replace("name: reflectance", "name: copied")
    copied = path.with_name("copied.yaml")
    copied.write_text(content.replace("reflectance.icechunk", str(tmp_path / "copied.icechunk")))
    run_json("run", copied)
    truth, means = source_pixels(open_map(copied), values)
    known = np.isfinite(means)
    np.testing.assert_allclose(means[known], truth[known], rtol=0, atol=1e-6)


def test_heights_below_the_sea_keep_to_their_source(elevation):
    path, heights = elevation
    spec, dataset = read_spec(path), open_map(path)
    values = dataset["dtm"].values
    assert spec.targets[0].encoding.dtype == "int32"
    assert np.nanmin(values) < -20
    assert np.nanmax(values) > 10
    assert heights.min() - 5 < np.nanmin(values)
    assert np.nanmax(values) < heights.max() + 5
    entries = MapStore.open(spec.store).ledger
    residuals = [record.consistency_residual for record in entries.records() if record.status == "ok"]
    assert max(residuals) <= 1.0 + 1e-2, "the tolerance of the preset"


def test_a_stack_becomes_the_median_of_its_clearest_dates(dates):
    path, scenes, _ = dates
    dataset = open_map(path)
    stack = np.stack([np.where(clear, (numbers - 1000.0) / 10000, np.nan) for _, numbers, clear in scenes])
    clear = np.isfinite(stack[:, 0])
    kept = clear & (np.cumsum(clear, axis=0) <= 8)  # scenes come in the order of their cloud cover
    medians = np.nanmedian(np.where(kept[:, None], stack, np.nan), axis=0)
    record = next(record for record in MapStore.open(read_spec(path).store).ledger.records() if record.status == "ok")
    assert record.dates == tuple(date(2024, *map(int, day.split("-"))) for day in DAYS)
    assert record.anchor == "median"
    truth, means = source_pixels(dataset, medians)
    known = np.isfinite(means)
    assert known.mean() > 0.3
    # bicubic keeps a mean nearly: the map follows the median of each pixel
    assert np.abs(means - truth)[known].mean() < 0.02
    assert np.corrcoef(means[known], truth[known])[0, 1] > 0.97


def test_under_hard_consistency_the_median_of_each_pixel_is_kept_to_the_quantum(dates, tmp_path):
    path, scenes, parts = dates
    hard = write_map(path.parent, "hard", **parts | {"consistency": "hard", "store": str(tmp_path / "hard.icechunk")})
    run_json("run", hard)
    stack = np.stack([np.where(clear, (numbers - 1000.0) / 10000, np.nan) for _, numbers, clear in scenes])
    clear = np.isfinite(stack[:, 0])
    kept = clear & (np.cumsum(clear, axis=0) <= 8)
    truth, means = source_pixels(open_map(hard), np.nanmedian(np.where(kept[:, None], stack, np.nan), axis=0))
    known = np.isfinite(means) & np.isfinite(truth)
    assert np.abs(means - truth)[known].max() <= QUANTUM


def test_the_order_of_the_items_changes_no_bit(dates, tmp_path):
    path, scenes, parts = dates
    write_catalog(tmp_path, [item for item, _, _ in scenes], seed=1)
    again = write_map(tmp_path, "dates", **parts)
    run_json("run", again)
    one, other = (MapStore.open(read_spec(each).store).ledger.records() for each in (path, again))
    assert {record.tile: record.content_sha256 for record in one} == {
        record.tile: record.content_sha256 for record in other
    }


def test_a_plan_of_each_kind_is_explained(finished, tmp_path):
    planned = run_json("plan", finished)
    assert json.dumps(planned)
    code, text = run_mapper("status", finished)
    assert code == 0, text
    code, text = run_mapper("report", finished, "--out", tmp_path / "report.html")
    assert code == 0, text


EXAMPLES = Path(__file__).parents[1] / "docs" / "examples.md"


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", EXAMPLES.read_text(), re.DOTALL))
def test_the_examples_of_the_documentation_are_valid(text, tmp_path):
    spec = parse_spec(yaml.safe_load(text), base=tmp_path)
    if spec.model.weights:  # to be trained on the map itself
        spec = spec.model_copy(update={"model": ModelSpec(name="bicubic")})
    context = make_context(spec)
    assert context.reads("source")
    assert not context.reads("guide")
    assert len(context.product.values) == len(spec.source.band_names)
