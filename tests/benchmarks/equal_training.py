"""Networks of elevation after the same steps on the same terrains, scored on three terrains that none has seen.

Run with ``pytest -s -m benchmark tests/benchmarks/equal_training.py``; half an hour of one core, most of it for the
published form.
"""

import sys
from importlib import resources

import numpy as np
import pytest

import mapper
from mapper.models.weights import load_model
from mapper.spec import ModelSpec
from mapper.training.config import TerrainData
from mapper.training.terrains import read_terrains
from mapper.training.trainer import predict_sample

RECIPES = resources.files("mapper") / "training" / "recipes"
TERRAINS = TerrainData(seeds=(901, 902, 903))
NETWORKS = ("bare-earth-cover-elevation", "unet-elevation", "jspsr-elevation")


def score(model, terrains):
    """RMSE in metres of each terrain, and of all their pixels."""
    squares = [np.square(predict_sample(model, each).mean - each.truth).mean() for each in terrains]
    return np.sqrt([*squares, np.mean(squares)])


@pytest.mark.benchmark
def test_ours_is_nearest_to_the_ground_after_the_same_steps(tmp_path):
    terrains = read_terrains(TERRAINS)
    scores = {"bicubic": score(load_model(ModelSpec(name="bicubic")), terrains)}
    for name in NETWORKS:
        mapper.train(str(RECIPES / f"{name}.yaml"), out=tmp_path, progress=False)
        trained = ModelSpec(name=name, weights=tmp_path / f"{name}.safetensors")
        scores[name] = score(load_model(trained), terrains)
    rows = [f"{name:28}" + "".join(f"{each:7.2f}" for each in found) for name, found in scores.items()]
    sys.stdout.write("\n".join(["\nRMSE, m; terrains 901, 902, 903, all", *rows, ""]))
    ours = scores[NETWORKS[0]][-1]
    assert all(ours < found[-1] for name, found in scores.items() if name != NETWORKS[0])
