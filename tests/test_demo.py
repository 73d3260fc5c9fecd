"""The demo of elevation, from rasters to scores; that of biomass is what most other tests run on."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from matplotlib.image import imread
from region import run_json, run_mapper

import mapper
from mapper.catalog.provider import provider_of
from mapper.demo import REGIONS, DemoOptions, run_demo
from mapper.predict.operators import block_mean
from mapper.presets import list_presets
from mapper.spec import read_spec
from mapper.synthetic.revisits import write_revisits
from mapper.synthetic.terrain import TREE
from mapper.training.config import read_config

SIZE, SEED = 120, 908
RECIPES = Path(mapper.__file__).parent / "training" / "recipes"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Scenes of another terrain than the default, smaller, as the command writes them."""
    folder = tmp_path_factory.mktemp("demo")
    options = ("--size", SIZE, "--tile", 64, "--seed", SEED, "--scenes-only")
    assert run_json("demo", folder, "--preset", "elevation", *options)["map"] == str(folder / "map.yaml")
    return folder


def read(path):
    with rasterio.open(path) as file:
        return file.read(1), file.transform


def test_every_region_is_that_of_a_preset():
    assert set(REGIONS) <= {preset.name for preset in list_presets()}


def test_rasters_are_a_ground_and_the_mean_of_what_stands_on_it(folder):
    (surface, coarse), (ground, fine), (cover, same) = (
        read(folder / "rasters" / f"{name}.tif") for name in ("surface", "truth", "cover")
    )
    assert (coarse.a, coarse.c, coarse.f) == (30, fine.c, fine.f)
    assert fine == same
    above = surface - block_mean(ground, 10)
    wooded = block_mean((cover == TREE).astype(np.float32), 10)
    assert above.min() > -1e-3
    assert above[wooded > 0.8].mean() > 5
    assert above[block_mean((cover > 0).astype(np.float32), 10) == 0].mean() < 2


def test_the_map_is_what_a_newcomer_writes_and_the_rasters_reach_beyond_it(folder):
    assert set(yaml.safe_load((folder / "map.yaml").read_text())) == {
        "preset", "name", "area", "period", "grid", "catalog", "source", "guide", "model", "store",
    }  # fmt: skip
    spec = read_spec(folder / "map.yaml")
    provider = provider_of(spec)
    rules = {name: provider.rule(name) for name in ("surface", "truth")}
    assert {name: (rule.heights, rule.vertical_datum) for name, rule in rules.items()} == {
        "surface": ("surface", "EPSG:3855"), "truth": ("ground", "EPSG:3855"),
    }  # fmt: skip
    assert (spec.target.heights, spec.scale, spec.consistency.mode) == ("ground", 10, "below")
    assert [channel.name for channel in spec.guide.channels] == ["building", "tree", "water"]
    left, bottom, right, top = spec.map_grid.geobox.boundingbox.bbox
    with rasterio.open(folder / "rasters" / "surface.tif") as file:
        reach = np.subtract((left, bottom), file.bounds[:2]), np.subtract(file.bounds[2:], (right, top))
    assert np.min(reach) >= 450


def test_a_demo_of_elevation_ends_with_scores_of_heights_a_picture_and_the_reason_of_a_pixel(folder):
    content = yaml.safe_load((folder / "map.yaml").read_text())
    (folder / "map.yaml").write_text(yaml.safe_dump(content | {"model": {"name": "bilinear"}}))  # fast
    report = run_demo(folder, DemoOptions(preset="elevation", size_px=SIZE, tile_px=64), notify=lambda _: None)
    saved = json.loads((folder / "report.json").read_text())
    assert saved["truth"] == "truth:elevation"
    assert {"bicubic", "map"} < set(saved["methods"])
    assert {"nmad", "le90"} < set(saved["methods"]["map"])
    assert saved["terrain"]["map"]["cover"]["bare"]["n"] > 1000
    assert saved["tiles"]["failed"] == 0
    assert imread(folder / "overview.png").std() > 0.05
    assert "surface" in report.answer.to_text()
    dtm, (truth, place) = mapper.open_map(folder / "map.yaml")["dtm"], read(folder / "rasters" / "truth.tif")
    row, col = (round((place.f - float(dtm.y[0]) - 1.5) / 3), round((float(dtm.x[0]) - 1.5 - place.c) / 3))
    error = dtm.values - truth[row : row + dtm.shape[0], col : col + dtm.shape[1]]
    inside = np.isfinite(error)
    assert inside.sum() == saved["methods"]["map"]["n"]
    assert np.sqrt(np.mean(error[inside] ** 2)) == pytest.approx(saved["methods"]["map"]["rmse"], rel=1e-3)


def test_a_demo_of_several_dates_ends_with_scores_of_all_bands_and_a_picture(tmp_path):
    write_revisits(tmp_path / "catalog", seed=5001, size_px=64, tile_px=64, chunk_px=32, margin_px=24)
    content = yaml.safe_load((tmp_path / "map.yaml").read_text())
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(content | {"model": {"name": "bilinear"}, "target": {}}))  # fast
    report = run_demo(tmp_path, DemoOptions(preset="sentinel2-multi"), notify=lambda _: None)
    saved = json.loads((tmp_path / "report.json").read_text())
    assert saved["truth"] == "truth-5m:B02,B03,B04"
    assert saved["tiles"] == {"done": 1, "empty": 0, "failed": 0}
    assert saved["methods"]["map"]["psnr"] > saved["methods"]["bicubic"]["psnr"]  # honours the anchor
    assert saved["methods"]["map"]["n"] > 3 * 50**2
    assert imread(tmp_path / "overview.png").std() > 0.1
    assert report.answer.to_text().count("source 2024-") == 8
    dataset = mapper.open_map(tmp_path / "map.yaml")
    squares = []
    for band in ("B02", "B03", "B04"):
        values, (truth, place) = dataset[band], read(next(tmp_path.glob(f"catalog/truth-5m/truth-5m/{band}.tif")))
        row, col = round((place.f - float(values.y[0]) - 2.5) / 5), round((float(values.x[0]) - 2.5 - place.c) / 5)
        squares.append(np.square(values.values - truth[row : row + values.shape[0], col : col + values.shape[1]]))
    assert np.sqrt(np.nanmean(squares)) == pytest.approx(saved["methods"]["map"]["rmse"], abs=5e-5)


def test_no_model_was_trained_on_the_scene_of_the_demo():
    recipes = [read_config(path) for path in RECIPES.glob("*.yaml") if path.name != "wald.yaml"]
    parts = [part for recipe in recipes for part in (*recipe.data, *recipe.validation)]
    seeds = {seed for part in parts if part.kind in ("bursts", "s2-bands") for seed in part.seeds or ()}
    assert seeds
    assert REGIONS["sentinel2-multi"].seed not in seeds


def test_no_model_was_trained_on_the_terrain_of_the_demo():
    recipes = [read_config(path) for path in RECIPES.glob("bare-earth*.yaml")]
    parts = [part for recipe in recipes for part in (*recipe.data, *recipe.validation) if part.kind == "terrain"]
    assert parts
    assert REGIONS["elevation"].seed not in {seed for part in parts for seed in part.seeds}


def test_rasters_are_not_described_into_the_catalogue_of_something_else(tmp_path):
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "catalog.json").write_text('{"description": "mine", "links": []}')
    code, said = run_mapper("demo", tmp_path, "--preset", "elevation", "--size", 64, "--tile", 32, "--scenes-only")
    assert code
    assert "holds no catalogue of rasters that may be replaced" in " ".join(said.split())
    assert not (tmp_path / "map.yaml").exists()
