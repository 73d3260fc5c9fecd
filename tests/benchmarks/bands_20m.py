"""The 20 m bands of real crops of Sentinel-2, learnt at 80 to 40 m of each crop itself, scored at 40 to 20 m.

Run with ``pytest -s -m benchmark tests/benchmarks/bands_20m.py``; about a CPU minute a crop. ``band-fusion-20m``, which
ships, is scored beside: on the crops, and on scenes of no place that it was not trained on.
"""

import sys
import time
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from shared import SHARED, needs_shared

from mapper.benchmark.sites import read_sites
from mapper.models.weights import load_model
from mapper.spec import ModelSpec
from mapper.training.band_methods import inject_detail, interpolate_bands, keep_block_means, score_bands
from mapper.training.config import read_config
from mapper.training.fitting import fit
from mapper.training.scene_config import Sentinel2BandsData
from mapper.training.sentinel2_bands import read_band_crops
from mapper.training.trainer import predict_sample
from mapper.training.wald import degrade

FOLDER = SHARED / "super_resolution" / "s2_l1c"
RECIPE = resources.files("mapper") / "training" / "recipes" / "wald-20m.yaml"
MUST = 58
"""Digital numbers."""


def sharpen(site, **changes):
    """Bands of a network that learnt from the site without its truth, and seconds of CPU."""
    start = time.process_time()
    fitted = fit([degrade(replace(site.blind, **changes))], read_config(str(RECIPE)))
    return predict_sample(fitted.model, site.blind).mean, time.process_time() - start


@needs_shared
@pytest.mark.benchmark
@pytest.mark.parametrize("site", read_sites([Sentinel2BandsData(folder=FOLDER)]) if FOLDER.is_dir() else [])
def test_bands_of_20_m_learnt_on_the_scene_itself(site):
    learnt, seconds = sharpen(site)
    scores = print_scores(site.sample, {f"on the scene, {seconds:.0f} s": learnt})
    assert np.isfinite(learnt).all()
    assert scores["on the scene"] < min(scores["regression"], MUST)
    assert scores["shipped"] < scores["bicubic"]


@pytest.mark.benchmark
@pytest.mark.parametrize("block", [1, 2])
@pytest.mark.parametrize("seed", [1200, 1201, 1202])
def test_bands_of_20_m_of_scenes_of_no_place(seed, block):
    (sample,) = read_band_crops(Sentinel2BandsData(seeds=(seed,), size_px=128 * block, block=block))
    scores = print_scores(sample, {})
    assert scores["shipped"] < scores["regression"] < scores["bicubic"]


def print_scores(sample, more):
    """Print RMSE by band, their mean, and that with exact means; returns the better of the two by method."""
    shipped = predict_sample(load_model(ModelSpec(name="band-fusion-20m")), sample).mean
    found = {"bicubic": interpolate_bands(sample), "regression": inject_detail(sample), "shipped": shipped} | more
    rows = [f"\n{sample.name}: {', '.join(sample.targets)}; mean; with exact means; RMSE in digital numbers"]
    scores = {}
    for name, values in found.items():
        plain, exact = score_bands(values, sample), score_bands(keep_block_means(values, sample), sample)
        scores[name.partition(",")[0]] = min(plain.mean, exact.mean) * 1e4
        each = " ".join(f"{1e4 * rmse:6.1f}" for rmse in plain.rmse)
        rows.append(f"{name:20} {each}  {1e4 * plain.mean:6.1f}  {1e4 * exact.mean:6.1f}")
    sys.stdout.write("\n".join([*rows, ""]))
    return scores
