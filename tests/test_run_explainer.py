"""Explanation of a pixel from MAP.yaml: read as a run reads, said in text, JSON and a picture, refused in one line."""

import json

import numpy as np
import pytest
from kinds_of_maps import CRS, SIZE, write_catalog, write_map, write_scene
from matplotlib.image import imread
from region import run_json, run_mapper, write_weights

import mapper
from mapper.errors import InputError
from mapper.run.explanation import ExplainOptions

EAST, NORTH = 15.0087, 50.5457
QUICK = ExplainOptions(window_px=5, reach=4, steps=3, shuffles=1)
WORDS = ("--window", 5, "--reach", 4, "--steps", 3, "--shuffles", 1)


@pytest.fixture(scope="module")
def dates(tmp_path_factory):
    """Three dates with clouds, of four bands, for maps at 5 m."""
    folder = tmp_path_factory.mktemp("explained")
    rng = np.random.default_rng(5)
    days = ("2024-06-03", "2024-06-08", "2024-07-03")
    masks = [rng.random((SIZE, SIZE)) < 0.9 for _ in days]
    for clear in masks:
        clear[40:60, 50:76] = False
    scenes = [write_scene(folder, day, 5.0, clear=clear) for day, clear in zip(days, masks, strict=True)]
    write_catalog(folder, [item for item, _ in scenes])
    grid = {"kind": "native", "crs": CRS, "resolution": 5, "tile": 64, "chunk": 32}

    def make(model):
        parts = {"source": {"dates": 3}, "model": {"name": model}, "consistency": "none"}
        return write_map(folder, model, preset="sentinel2-multi", grid=grid, **parts)

    return make


@pytest.mark.parametrize("model", ["back-projection", "mean"])
def test_a_map_of_dates_is_explained_before_it_is_run(dates, model):
    found = mapper.explain(dates(model), EAST, NORTH, options=QUICK)
    parts = {part.name: part for part in found.parts}
    others = [part for part in found.parts if part.kind == "date"]
    single = [part for part in found.parts if part.name in found.maps]
    assert sum(part.share for part in single) == pytest.approx(1)
    assert sum(part.net for part in single) == pytest.approx(found.detail["attributed"])
    assert found.detail["attributed"] == pytest.approx(found.detail["sharp"] - found.detail["blurred"], rel=0.15)
    assert {part.state for part in others} == {"followed" if model == "mean" else "unused"}
    assert parts["anchor"].replaced.shuffled.output > 0
    assert set(found.values) == {"B02", "B03", "B04", "B08"}
    assert found.reach["seen"] <= found.reach["whole"]


def test_what_is_explained_is_what_a_run_makes(dates):
    path = dates("mean")
    found = mapper.explain(path, EAST, NORTH, options=QUICK)
    run_json("run", path)
    made = mapper.open_map(path)
    for band, value in found.values.items():
        assert float(made[band].values[found.row, found.col]) == pytest.approx(value, abs=1e-4)


def test_text_json_and_picture_say_the_same(dates, tmp_path):
    path, picture = dates("back-projection"), tmp_path / "why.png"
    code, said = run_mapper("explain", path, EAST, NORTH, "--out", picture, "--band", "B08", *WORDS)
    assert code == 0, said
    assert "2024-06-08" in said
    code, said = run_mapper("explain", path, EAST, NORTH, "--out", picture, "--band", "B08", *WORDS, "--json")
    told = json.loads(said[: said.rindex("}") + 1])
    assert told["bands"] == ["B08"]
    assert told["parts"][0]["name"] == "anchor"
    drawn = imread(picture)
    assert min(drawn.shape[:2]) > 500
    assert drawn[..., :3].std() > 0.05


def test_detail_of_a_guided_map_is_shared_among_seasons_and_bands(region):
    write_weights(region.folder, channels={"july_B04": ("1", 0.06), "july_B08": ("1", 0.3)})
    guide = {"layers": [{"collection": "sentinel-2-l2a", "bands": ["B04", "B08"]}], "seasons": {"july": [7]}}
    region.change(model={"name": "tiny", "weights": "tiny.safetensors"}, guide=guide)
    found = mapper.explain(region.map, 11.998, 51.416, options=QUICK)
    kinds = {part.name: part.kind for part in found.parts}
    assert kinds == {"source": "source", "july_B04": "guide", "july_B08": "guide", "whole guide": "guides"}
    assert found.maps["july_B08"].shape == found.output.shape
    assert found.maps["source"].shape == tuple(edge // 10 for edge in found.output.shape)
    # no pixel of the square is farther off than the root of the sum of all squares
    assert abs(found.output[found.at] - found.values["agb"]) <= 5 * found.reach["difference"] + 1e-4


@pytest.mark.parametrize(
    ("at", "changes", "message"),
    [
        ((2.0, 50.5), {}, "outside the map"),
        ((EAST, NORTH), {"window_px": 4}, "odd number of target pixels"),
        ((EAST, NORTH), {"bands": ("B99",)}, "unknown band B99: the map has B02"),
        ((EAST, NORTH), {"steps": 0}, "must be positive"),
        ((EAST, NORTH + 0.002), {}, "the source has no value at this pixel"),
        ((EAST, NORTH + 0.0011), {}, "take a smaller window"),
    ],
)
def test_what_cannot_be_explained_is_refused(dates, at, changes, message):
    with pytest.raises(InputError, match=message):
        mapper.explain(dates("back-projection"), *at, options=ExplainOptions(**changes))
