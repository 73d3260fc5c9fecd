"""Methods for bare earth: constants by class from other places, a floor that sees the truth, places without a guide."""

import json

import numpy as np
import pytest
import yaml
from elevation_places import make_heights, write_lidar, write_raster
from matplotlib.image import imread

from mapper.benchmark.ground_methods import interpolate_means, separate_objects, subtract_medians
from mapper.benchmark.methods import check_parts, check_site, choose_others, open_model
from mapper.benchmark.result_files import to_text, write_report
from mapper.benchmark.runner import run_suite
from mapper.benchmark.sites import read_sites, split
from mapper.benchmark.suite import read_suite
from mapper.errors import InputError, SpecError
from mapper.evaluation.relief import Ground
from mapper.evaluation.terrain_plots import plot_relief, shade
from mapper.models.weights import load_model
from mapper.spec import ModelSpec
from mapper.training.config import ElevationData, read_config
from mapper.training.datasets import read_samples
from mapper.training.trainer import predict_sample

BICUBIC = {"name": "bicubic", "group": "source", "model": "bicubic"}
MEDIAN = {"name": "class-median", "group": "guide+source", "ground": "class-median"}
SEPARATION = {"name": "separation", "group": "guide+source", "ground": "separation"}
FLOOR = {"name": "floor", "group": "truth", "ground": "floor"}
TRAINED = {"name": "trained", "group": "guide+source", "recipe": "tiny.yaml"}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Two lidar places and one of bare earth."""
    folder = tmp_path_factory.mktemp("places")
    write_lidar(folder / "east")
    write_lidar(folder / "west", west=700_000.0)
    write_raster(folder / "hills" / "dem.tif", make_heights(80, 90, seed=5)[0], px=30)
    return folder


@pytest.fixture
def write_suite(places, tmp_path):
    def write(*methods, **changes):
        recipe = {
            "name": "tiny", "out": "elsewhere", "steps": 1, "batch": 1, "patch_px": 40, "threads": 1,
            "data": [{"kind": "terrain", "seeds": [9], "size_px": 40}], "precision": "fp32",
            "model": {"architecture": "unet", "options": {"width": 2}},
        }  # fmt: skip
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
        content = {
            "name": "small", "title": "Small places", "preset": "elevation", "mixed": True, "methods": list(methods),
            "data": [{"kind": "elevation", "folder": str(places), "scale": 5},
                     {"kind": "elevation", "folder": str(places), "scale": 5, "drop_objects": 0.2}],
        } | changes  # fmt: skip
        (tmp_path / "small.yaml").write_text(yaml.safe_dump(content))
        return tmp_path / "small.yaml"

    return write


def take(path, *places):
    """The suite of a file with these places alone."""
    content = yaml.safe_load(path.read_text())
    content["data"] = [content["data"][0] | {"places": list(places)}]
    path.write_text(yaml.safe_dump(content))
    return path


def run(path, tmp_path, **options):
    return run_suite(read_suite(path, work=tmp_path / "work"), work=tmp_path / "work", **options)


def read(places, *names):
    return read_samples([ElevationData(folder=places, scale=5, places=names)])


def test_methods_are_left_out_where_their_guide_is_missing_and_it_is_said(write_suite, tmp_path):
    report = run(write_suite(BICUBIC, SEPARATION, FLOOR), tmp_path)
    bicubic, separation, floor = report.outcomes
    assert list(bicubic.results) == ["east", "hills", "west", "east -20 %", "west -20 %"]
    assert list(separation.results) == ["east", "west", "east -20 %", "west -20 %"]
    assert list(separation.skipped) == ["hills"]
    assert report.notes == ("separation is not scored at hills: separation needs land cover, which is not known there",)
    pooled = sum(bicubic.results[site].score.n for site in separation.results)
    assert separation.scores.pooled.n == pooled
    first, second, third = (outcome.results["east"].score.value("rmse") for outcome in report.outcomes)
    assert third < min(first, second)
    scores = [bicubic.results[site].score for site in separation.results]
    same = np.sqrt(sum(score.n * score.value("rmse") ** 2 for score in scores) / pooled)
    assert report.ratio(separation) == pytest.approx(separation.rmse / same)
    assert floor.method.group == "truth"


def test_constants_are_those_of_other_places(places, write_suite, tmp_path):
    (east,) = read(places, "east")
    (west,) = read(places, "west")
    model = load_model(ModelSpec(name="bicubic"))
    error = predict_sample(model, west).mean - west.truth
    expected = predict_sample(model, east).mean
    for where, others in ((east.guide[0] == 1, west.guide[0] == 1), (east.guide[1] == 1, west.guide[1] == 1)):
        expected[where] -= np.nanmedian(error[others])
    found = subtract_medians(east, [west]).mean
    objects = east.guide[:2].any(0)
    np.testing.assert_allclose(found[objects], expected[objects], rtol=1e-5)
    spoilt = read_samples([ElevationData(folder=places, scale=5, places=("west",), drop_objects=0.5)])
    np.testing.assert_array_equal(subtract_medians(east, [west, *spoilt]).mean, found)
    with pytest.raises(InputError, match="no medians"):
        subtract_medians(east, read(places, "hills"))
    report = run(write_suite(MEDIAN), tmp_path)
    np.testing.assert_allclose(
        report.outcomes[0].results["east"].value, np.where(np.isnan(east.truth), np.nan, found), rtol=1e-5
    )


def test_the_floor_is_bicubic_of_the_truth_and_the_separation_sees_no_truth(places):
    (east,) = read(places, "east")
    means = east.ground.heights.reshape(8, 5, 10, 5).mean((1, 3))
    floor = interpolate_means(east, []).mean
    np.testing.assert_allclose(floor.reshape(8, 5, 10, 5).mean((1, 3)), means, atol=0.3)
    east.truth[:] = np.nan
    assert np.isfinite(separate_objects(east, []).mean).all()


def test_variants_of_a_place_are_never_learnt_from_where_it_is_scored(write_suite, places):
    suite = read_suite(write_suite(TRAINED), work=places)
    sites = read_sites(suite.data, mixed=True)
    others = {site.name: {s.name for s in choose_others(suite.methods[0], site, sites, mixed=True)} for site in sites}
    assert others["east"] == others["east -20 %"] == {"west", "west -20 %"}
    hills = next(site for site in sites if site.name == "hills")
    with pytest.raises(SpecError, match="trained needs building, tree, water, not known there"):
        check_site(suite.methods[0], hills, sites[3:4], mixed=True)
    with pytest.raises(ValueError, match="must not be trained on"):
        open_model(suite.methods[0], sites[0], sites[3:4], weights=places, notify=print)


def test_weights_that_may_be_missing_are_left_out_and_others_refused(write_suite, tmp_path):
    later = {"name": "later", "group": "source", "model": "stars", "optional": True}
    report = run(write_suite(BICUBIC, later), tmp_path)
    assert [outcome.method.name for outcome in report.outcomes] == ["bicubic"]
    assert report.notes[0].startswith("later is left out: unknown model 'stars'")
    with pytest.raises(SpecError, match="unknown model 'stars'"):
        run(write_suite(later), tmp_path)
    with pytest.raises(SpecError, match="unknown 'stars', expected one of floor"):
        run(write_suite(FLOOR | {"ground": "stars"}), tmp_path)
    path = take(write_suite(SEPARATION), "hills")
    with pytest.raises(SpecError, match="fits none of the sites"):
        run(path, tmp_path)


def test_the_report_has_all_scores_by_place_and_class(write_suite, tmp_path):
    report = run(take(write_suite(BICUBIC, SEPARATION, FLOOR), "east", "hills"), tmp_path)
    files = write_report(report, tmp_path / "out")
    assert {"suite.md", "suite.csv", "suite.json", "classes.csv", "relief-east.png", "classes-east.png"} < set(files)
    assert "scatter.png" not in files
    content = json.loads(files["suite.json"].read_text())["methods"]
    east = content["bicubic"]["terrain"]["places"]["east"]
    assert set(east["cover"]) == {"bare", "building", "tree", "water"}
    assert {"rmse", "bias", "median_error", "nmad", "le90", "le95"} < set(east["cover"]["tree"])
    assert content["separation"]["skipped"].keys() == {"hills"}
    text = to_text(report)
    for word in ("## east (m)", "NMAD", "LE95", "slope RMSE", "east: bias and RMSE by land cover", "sees the truth"):
        assert word in text
    rows = files["classes.csv"].read_text().splitlines()
    assert rows[0].startswith("method,place,by,class,n,rmse,mae,bias,median_error,nmad,le90,le95")
    assert any(row.startswith("separation,east,cover,tree,") for row in rows)
    for name in ("relief-east.png", "classes-east.png", "classes-hills.png"):
        assert imread(files[name]).std() > 0.05


def test_the_suite_that_ships_takes_places_of_ones_own_and_terrains_that_no_recipe_sees(places, tmp_path):
    suite = read_suite("elevation", work=tmp_path, folder=places)
    plain, spoilt, terrains = (split(part) for part in suite.data)
    assert [part.places for part in plain] == [("east",), ("hills",), ("west",)]
    assert [(part.places, part.drop_objects) for part in spoilt] == [(("east",), 0.1), (("west",), 0.1)]
    scored = {seed for part in terrains for seed in part.seeds}
    for method in suite.choose(slow=True):
        if not method.optional:
            check_parts(method)
        if method.recipe is not None:
            config = read_config(method.recipe)
            assert not scored & {seed for part in (*config.data, *config.validation) for seed in part.seeds}


def test_light_comes_from_the_north_west():
    y, x = np.mgrid[:20, :20].astype(float)
    ground = Ground(dy_m=np.ones(20), dx_m=np.ones(20))
    slopes = {"flat": 0 * x, "nw": x + y, "se": -x - y, "ne": y - x}
    bright = {name: shade(heights, ground)[5, 5] for name, heights in slopes.items()}
    assert bright["flat"] == pytest.approx(np.sin(np.radians(45)))
    assert bright["nw"] > bright["flat"] > bright["ne"] > bright["se"]
    assert bright["nw"] == pytest.approx(np.cos(np.arctan(np.sqrt(2)) - np.radians(45)))


def test_relief_of_flat_ground_is_drawn(tmp_path):
    flat = np.full((20, 30), -4.0)
    ground = Ground(dy_m=np.ones(20), dx_m=np.ones(20))
    path = plot_relief({"map": flat}, flat, tmp_path / "a.png", source=flat[::10, ::10], ground=ground)
    assert path.stat().st_size > 1000
