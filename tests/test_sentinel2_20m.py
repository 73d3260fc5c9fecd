"""Bands of 20 m at 10 m, from a catalogue to the map: each pixel of the guide is of the item that the source shows."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from band_scenes import BANDS, GRID, GUIDE, write_band_map, write_band_scene
from kinds_of_maps import AREA
from region import run_json, run_mapper

from mapper import open_map, read_spec
from mapper.catalog.provider import provider_of
from mapper.catalog.search import search
from mapper.cube.composite import read_guide
from mapper.cube.stack import NOT_NEEDED, read_stack
from mapper.errors import SpecError
from mapper.models.card import read_card
from mapper.plan.context import make_context
from mapper.plan.guide_context import make_guide_context
from mapper.spec import ModelSpec, parse_spec
from mapper.training.config import WaldData, describe_training
from mapper.training.datasets import read_samples

MODEL = {"name": "wald-bands", "weights": "weights/wald-bands.safetensors"}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Two dates, the clearer one with clouds in the north-west, and a third that no pixel needs."""
    folder = tmp_path_factory.mktemp("bands")
    clear = np.ones((72, 72), bool)
    clear[:36, :40] = False
    first = write_band_scene(folder, "2024-06-08", 3.0, clear=clear, seed=1)
    second = write_band_scene(folder, "2024-06-18", 9.0, seed=2)
    third = write_band_scene(folder, "2024-07-08", 20.0, seed=3)
    path = write_band_map(folder, [scene[0] for scene in (first, second, third)], model=MODEL)
    shown = np.where(clear.repeat(2, 0).repeat(2, 1), first[1], second[1])
    return path, (shown - 1000.0) / 10000


@pytest.fixture(scope="module")
def read(scenes):
    """Stack and guide of the whole scene."""
    path, _ = scenes
    spec = read_spec(path)
    provider, items, grid = provider_of(spec), search(spec), spec.map_grid
    window = grid.window(next(iter(grid.tiles()))).grown(0, 2)
    stack = read_stack(items, grid.source_geobox_of(window), spec=spec, provider=provider)
    guide = read_guide(items, grid.geobox_of(window), spec=spec, provider=provider, shown=stack.items)
    return spec, grid.geobox_of(window), stack, guide


def test_each_pixel_of_the_guide_is_that_of_the_item_shown(scenes, read):
    _, numbers = scenes
    _, geobox, stack, guide = read
    left, top = round((geobox.transform.c - 499_980) / 10), round((5_600_040 - geobox.transform.f) / 10)
    rows, cols = geobox.shape
    expected = numbers[:, top : top + rows, left : left + cols]
    assert set(np.unique(stack.items.number)) == {0, 1}  # the window lies on the edge of the clouds
    np.testing.assert_allclose(guide.values, expected, atol=1e-6)
    assert not guide.gaps.any()
    assert not guide.counts


def test_items_that_are_not_shown_are_said_to_be_not_needed(read):
    *_, guide = read
    reasons = {use.id: use.dropped for use in guide.uses}
    assert reasons == {"S2_2024-06-08": "", "S2_2024-06-18": "", "S2_2024-07-08": NOT_NEEDED}


def test_nobody_says_what_the_source_shows(read):
    spec, geobox, *_ = read
    with pytest.raises(SpecError, match="takes the items that the source shows: read that first"):
        read_guide(search(spec), geobox, spec=spec, provider=provider_of(spec))


def test_a_broken_file_of_the_guide_leaves_a_gap_where_its_item_is_shown(tmp_path):
    clear = np.ones((72, 72), bool)
    clear[:, :40] = False
    first, second = (
        write_band_scene(tmp_path, day, cloud, clear=mask, seed=int(cloud))[0]
        for day, cloud, mask in (("2024-06-08", 3.0, clear), ("2024-06-18", 9.0, None))
    )
    spec = read_spec(write_band_map(tmp_path, [first, second], model=MODEL))
    Path(first["assets"]["B04"]["href"]).write_bytes(b"nothing of an image")
    window = spec.map_grid.window(next(iter(spec.map_grid.tiles()))).grown(0, 2)
    provider, items = provider_of(spec), search(spec)
    stack = read_stack(items, spec.map_grid.source_geobox_of(window), spec=spec, provider=provider)
    guide = read_guide(items, spec.map_grid.geobox_of(window), spec=spec, provider=provider, shown=stack.items)
    of_first = (stack.items.number == stack.items.ids.index(first["id"])).repeat(2, 0).repeat(2, 1)
    assert 0 < of_first.mean() < 1
    assert (guide.gaps == of_first).all()
    assert np.isnan(guide.values[:, of_first]).all()
    assert next(use.dropped for use in guide.uses if use.id == first["id"])


def test_learning_on_itself_sees_the_declared_transfer(scenes):
    path, _ = scenes
    config = describe_training(None, wald=[path])
    assert (config.model.architecture, config.name) == ("band-fusion", "wald-bands")
    (sample,) = read_samples([WaldData(maps=(path,))])
    assert (sample.targets, [name for name, _ in sample.bands]) == (BANDS, list(GUIDE))
    assert all(sample.source_transfers)
    assert all(each.splined and each.block == 1 for each in sample.guide_transfers)
    assert "as an instrument" in sample.degradation


def test_one_command_learns_and_one_makes_the_map(scenes):
    path, _ = scenes
    code, printed = run_mapper("train", "--wald", path, "--steps", "3")
    assert code == 0, printed
    card = read_card(ModelSpec(name="wald-bands", weights=path.parent / "weights" / "wald-bands.safetensors"))
    assert card.contract.model == "band-fusion"
    run_json("run", path)
    dataset = open_map(path)
    values = np.stack([dataset[band].values for band in BANDS])
    inside = np.isfinite(values).all(0)
    assert inside.any()
    assert (dataset["qa"].values[inside] & (1 | 32) == 0).all()  # no gap of the guide, and no seasons that lack dates
    assert set(np.unique(dataset["n_valid"].values[inside])) == {1}


def test_such_a_guide_is_not_stored_by_itself(scenes):
    path, _ = scenes
    spec = read_spec(path)
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"name": "bicubic", "weights": None})})
    with pytest.raises(SpecError, match="cannot be stored by itself"):
        make_guide_context(make_context(spec), halo_px=8)


CONTENT = {
    "preset": "sentinel2-20m",
    "name": "bands",
    "area": {"bbox": AREA},
    "period": {"start": "2024-06-01", "end": "2024-07-31"},
    "grid": GRID,
    "catalog": {"provider": "planetary-computer"},
    "model": {"name": "bicubic"},
    "store": "map.icechunk",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": {"anchor": "median"}}, "with anchor median: expected a stack"),
        ({"source": {"collection": "another"}}, "a stack of another"),
        (
            {
                "guide": {
                    "layers": [{"collection": "sentinel-2-l2a", "bands": ["B02"], "items": "source", "static": True}]
                }
            },
            "leave out orbit, cloud_limit, static and reducer",
        ),
    ],
)
def test_a_guide_of_the_items_of_the_source_needs_a_source_that_shows_items(change, message, tmp_path):
    with pytest.raises(SpecError, match=message):
        parse_spec(CONTENT | change, base=tmp_path)


def test_the_items_of_a_layer_enter_the_digest_where_they_are_those_of_the_source(tmp_path):
    spec = parse_spec(CONTENT, base=tmp_path)
    assert parse_spec(yaml.safe_load(spec.to_yaml()), base=tmp_path).digest == spec.digest
    (layer,) = spec.guide.layers
    own = {"layers": [{"collection": layer.collection, "bands": list(layer.bands)}], "seasons": {"june": [6]}}
    assert parse_spec(CONTENT | {"guide": own}, base=tmp_path).digest != spec.digest
