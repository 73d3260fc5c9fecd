"""Bursts of simulated dates of a real place: classical back-projection with shifts that are known, and estimated.

    pytest -s -m benchmark tests/benchmarks/burst.py

PSNR in dB, range 255, border 16: NAIP west, 2020, x2, eight dates with shifts of up to one source pixel.
"""

import sys

import numpy as np
import pytest
import torch
from real_stacks import read_naip, score_psnr
from shared import needs_shared

from mapper.cube.shifts import estimate_shifts
from mapper.models.interpolation import upsample
from mapper.models.weights import load_model
from mapper.spec import ModelSpec
from mapper.synthetic.bursts import BurstOptions, simulate_burst

pytestmark = [pytest.mark.benchmark, needs_shared]

HARD = BurstOptions(noise=(0, 0), gain=0.1, offset=0.2, changed=0.1, object_px=(3, 10))
CASES = {  # DN of noise, edge of the piece, options, published with estimated shifts
    "noise .5": (0.5, 384, BurstOptions(noise=(0, 0)), 34.71),
    "noise .5, quarter": (0.5, 192, BurstOptions(noise=(0, 0)), 34.00),
    "noise 2, quarter": (2, 192, BurstOptions(noise=(0, 0)), 32.79),
    "noise 2, gains, a tenth changed, quarter": (2, 192, HARD, 32.18),
}


@pytest.mark.parametrize("name", CASES)
def test_burst(name):
    noise, edge, options, published = CASES[name]
    truth = read_naip()[:, :edge, :edge]
    burst = simulate_burst(truth, options, seed=1)
    values = burst.values + noise * np.random.default_rng(1).standard_normal(burst.values.shape).astype(np.float32)
    found = estimate_shifts(values, burst.clear, values[burst.anchor], row=0, col=0)
    error = np.sqrt(np.mean(np.square(found.shift - burst.shift[:, :, None, None])))
    known = np.broadcast_to(burst.shift[:, :, None, None], found.shift.shape).copy()
    scores = {
        "bicubic": score_psnr(upsample(_batch(values)[:, burst.anchor], 2, "bicubic")[0], truth, border=16),
        "back-projection": _score("back-projection", values, burst.anchor, known, truth),
        "known": _score("burst", values, burst.anchor, known, truth),
        "estimated": _score("burst", values, burst.anchor, found.shift, truth),
        "estimated, 30 rounds": _score("burst", values, burst.anchor, found.shift, truth, rounds=30),
    }
    told = ", ".join(f"{key} {value:.2f}" for key, value in scores.items())
    sys.stdout.write(f"\n{name}: {told}; shift error {error:.4f} px\n")
    assert scores["estimated"] == pytest.approx(scores["known"], abs=0.05)
    assert scores["estimated"] == pytest.approx(published, abs=0.3)


def _batch(values):
    return torch.from_numpy(values)[None]


def _score(name, values, anchor, shift, truth, **options):
    inputs = {
        "guide": torch.empty(1, 1, 0, *truth.shape[1:]),
        "source": _batch(values),
        "source.anchor": _batch(values[[anchor]]),
        "source.shift": _batch(shift),
    }
    outputs = load_model(ModelSpec(name=name, options=options or None))(inputs)
    return score_psnr(torch.cat(list(outputs.values()), 1)[0], truth, border=16)
