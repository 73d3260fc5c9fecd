"""The tie of several dates to their anchor: what each mode costs in PSNR, and what it leaves. Run with -m benchmark.

Simulated scenes with a spread of .06 reflectance, eight dates with unknown shifts, gains, clouds and changes; sharpened
by ``burst`` with shifts as they are estimated.
"""

import itertools

import numpy as np
import pytest

from mapper.cube.shifts import estimate_shifts
from mapper.models.weights import load_model
from mapper.predict.operators import GaussianPsf
from mapper.predict.predictor import Predictor
from mapper.spec import ModelSpec
from mapper.synthetic.bursts import PROTOCOL_SD, BurstOptions, simulate_burst
from mapper.synthetic.imagery import make_image

MODES = {"none": ("none", None), "soft": ("soft", 0.002), "hard": ("hard", None)}
INNER = 32
"""Source pixels along the edge that are not scored."""


def _sharpen(seed, noise, psf_sd):
    """Truth, anchor and result of one scene."""
    truth = make_image(seed, size_px=384, bands=1) * 0.06 + 0.2
    options = BurstOptions(
        psf_sd=(psf_sd,) * 2,
        noise=(noise / float(truth.std()),) * 2,
        gain=0.05,
        offset=0.05,
        clouds=0.1,
        haze=0.02,
        drift=0.05,
        changed=0.05,
    )
    burst = simulate_burst(truth, options, seed=seed)
    values, anchor = np.where(burst.clear[:, None], burst.values, np.nan), burst.values[burst.anchor]
    inputs = {
        "source": values,
        "source.clear": burst.clear,
        "source.anchor": anchor[None],
        "source.shift": estimate_shifts(values, burst.clear, anchor, row=0, col=0).shift,
    }
    mean = Predictor(load_model(ModelSpec(name="burst"))).predict(inputs, scale=2).outputs["band_0"]
    return truth[0], anchor[0], mean


@pytest.mark.benchmark
def test_soft_costs_little_and_hard_prints_the_noise_of_the_anchor():
    operator, scores = GaussianPsf(2, mtf=0.2), {}
    for noise, psf_sd, seed in itertools.product((0.0015, 0.003), (0.4, PROTOCOL_SD), (100, 101)):
        truth, anchor, mean = _sharpen(seed, noise, psf_sd)
        for name, (mode, tolerance) in MODES.items():
            value = operator.enforce(mean, anchor, np.full_like(anchor, np.nan), mode=mode, tolerance=tolerance)
            coarse, fine = ((slice(edge, -edge),) * 2 for edge in (INNER, 2 * INNER))
            left = (operator.apply(value) - anchor)[coarse]
            psnr = -10 * np.log10(np.mean((value - truth)[fine].astype(np.float64) ** 2))
            scores.setdefault((noise, psf_sd, name), []).append((psnr, np.sqrt((left**2).mean()), np.abs(left).max()))
    print(f"\n{'noise':>7} {'psf':>6} {'mode':>6} {'PSNR':>7} {'RMS left':>9} {'most left':>9}")  # noqa: T201
    found = {key: np.mean(each, axis=0) for key, each in scores.items()}
    for (noise, psf_sd, name), (psnr, rms, most) in found.items():
        print(f"{noise:7.4f} {psf_sd:6.3f} {name:>6} {psnr:7.2f} {rms:9.5f} {most:9.5f}")  # noqa: T201
    for noise, psf_sd in itertools.product((0.0015, 0.003), (0.4, PROTOCOL_SD)):
        none, soft, hard = (found[noise, psf_sd, name] for name in MODES)
        assert none[0] - soft[0] < 0.8
        assert hard[0] < soft[0]
        assert soft[2] < 0.00201
        assert hard[2] < 1e-4
