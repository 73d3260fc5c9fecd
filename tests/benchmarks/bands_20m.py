"""The 20 m bands of real crops of Sentinel-2, learnt at 80 to 40 m of each crop itself, scored at 40 to 20 m.

Run with ``pytest -s -m benchmark tests/benchmarks/bands_20m.py``; about a CPU minute a crop.
"""

import sys
import time
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from shared import SHARED, needs_shared

from mapper.benchmark.sites import read_sites
from mapper.training.band_methods import inject_detail, interpolate_bands, keep_block_means, score_bands
from mapper.training.config import read_config
from mapper.training.fitting import fit
from mapper.training.scene_config import Sentinel2BandsData
from mapper.training.trainer import predict_sample
from mapper.training.wald import degrade

FOLDER = SHARED / "super_resolution" / "s2_l1c"
RECIPE = resources.files("mapper") / "training" / "recipes" / "band-fusion-20m.yaml"
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
    injected = inject_detail(site.sample)
    learnt, seconds = sharpen(site)
    found = {"bicubic": interpolate_bands(site.sample), "regression": injected, f"network, {seconds:.0f} s": learnt}
    rows = [f"\n{site.name}: {', '.join(site.sample.targets)}; mean; with exact means; RMSE in digital numbers"]
    scores = {}
    for name, values in found.items():
        plain, exact = score_bands(values, site.sample), score_bands(keep_block_means(values, site.sample), site.sample)
        scores[name.partition(",")[0]] = exact.mean * 1e4
        each = " ".join(f"{1e4 * rmse:6.1f}" for rmse in plain.rmse)
        rows.append(f"{name:16} {each}  {1e4 * plain.mean:6.1f}  {1e4 * exact.mean:6.1f}")
    sys.stdout.write("\n".join([*rows, ""]))
    assert np.isfinite(learnt).all()
    assert scores["network"] < min(scores["regression"], MUST)
