"""From map descriptions to weights: what is read is of one place, and the result is a model that loads."""

import json

import numpy as np
import pytest
import torch
import yaml
from scenes import write_item

from mapper.catalog.items import freeze_items
from mapper.catalog.provider import load_provider
from mapper.errors import SearchError
from mapper.grid import Window
from mapper.models.card import read_card
from mapper.models.weights import load_model
from mapper.spec import ModelSpec, read_spec
from mapper.training import trainer
from mapper.training.config import TrainConfig
from mapper.training.datasets import samples_from_map

SIZE = 60
SCALE = 10


@pytest.fixture(scope="module")
def truth():
    random = np.random.default_rng(0)
    return (random.random((SIZE // 4, SIZE // 4)).repeat(4, 0).repeat(4, 1) * 200).astype(np.float32)


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    """A map of 60 x 60 pixels; its area is a little smaller."""
    folder = tmp_path_factory.mktemp("map")
    content = {
        "name": "small",
        "area": {"bbox": [11.9995, 51.3995, 12.0068, 51.4042]},
        "period": {"start": "2020-06-01", "end": "2020-08-31"},
        "grid": {"resolution": 10, "tile": 20, "chunk": 20},
        "catalog": {"provider": "demo", "href": "catalog.json"},
        "guide": {
            "layers": [{"collection": "sentinel-2-l2a", "bands": ["B04"]}],
            "seasons": {"summer": [6, 7, 8]},
        },
        "source": {"collection": "esa-cci-biomass", "variable": "agb", "year": 2020, "resolution": 100},
        "model": {"name": "bicubic"},
        "store": "map.icechunk",
    }
    (folder / "map.yaml").write_text(yaml.safe_dump(content))
    return read_spec(folder / "map.yaml"), folder / "map.yaml"


@pytest.fixture(scope="module")
def items(spec, truth, tmp_path_factory):
    grid, folder = spec[0].map_grid, tmp_path_factory.mktemp("scenes")
    window = Window(top=0, left=0, bottom=SIZE, right=SIZE)
    fine, coarse = grid.geobox_of(window), grid.source_geobox_of(window)
    means = truth.reshape(SIZE // SCALE, SCALE, SIZE // SCALE, SCALE).mean((1, 3))
    reflectance = (1000 + 3000 - 10 * truth).astype(np.uint16)  # the declared offset is -1000
    clear = np.full(truth.shape, 4, np.uint8)
    day, year = "2020-07-01T10:00:00Z", "2020-01-01T00:00:00Z"
    return freeze_items(
        [
            write_item(
                folder,
                "s2",
                day,
                {"B04": (reflectance, fine), "SCL": (clear, fine)},
                **{"s2:processing_baseline": "05.10"},
            ),
            write_item(
                folder, "cci", year, {"agb": (means.round().astype(np.uint16), coarse)}, collection="esa-cci-biomass"
            ),
            write_item(folder, "truth", year, {"agb": (truth, fine)}, collection="truth"),
        ]
    )


def test_guide_source_and_truth_are_read_for_one_place(spec, items, truth):
    sample = samples_from_map(spec[0], items, load_provider("demo"), "truth", "agb")
    assert sample.bands == (("summer_B04", "1"),)
    assert sample.scale == SCALE
    known = np.isfinite(sample.truth)
    assert 0.5 < known.mean() <= 1
    np.testing.assert_allclose(sample.guide[0][known], 0.3 - sample.truth[known] / 1000, atol=2e-4)
    means = truth.reshape(SIZE // SCALE, SCALE, SIZE // SCALE, SCALE).mean((1, 3))
    assert np.isin(sample.source, means.round()).all()


def test_a_map_without_known_truth_is_refused(spec, items):
    with pytest.raises(SearchError, match="no truth"):
        samples_from_map(spec[0], items.of("esa-cci-biomass"), load_provider("demo"), "truth", "agb")


def test_training_writes_a_model_that_loads(spec, items, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "search", lambda _spec: items)
    monkeypatch.setattr(trainer, "search_collection", lambda _spec, name: items.of(name))
    config = TrainConfig(
        name="tiny",
        out=tmp_path,
        maps=(spec[1],),
        validation=(spec[1].with_name("other.yaml"),),
        truth={"collection": "truth", "variable": "agb", "limit": 150},
        model={"options": {"width": 2}},
        patch_px=40,
        batch=2,
        steps=3,
        threads=torch.get_num_threads(),
    )
    config.validation[0].write_text(spec[1].read_text())
    card = trainer.train(config)
    chosen = ModelSpec(name="tiny", weights=tmp_path / "tiny.safetensors")
    assert read_card(chosen) == card
    assert load_model(chosen).contract.guide[0].name == "summer_B04"
    assert card.training["data"] == [items.digest]
    assert set(card.training["rmse"][f"{spec[1].parent.name}/other"]) == {"msg", "bicubic"}
    assert json.loads((tmp_path / "tiny.json").read_text())["properties"]["mapper:training"] == card.training
