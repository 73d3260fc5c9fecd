"""Simulated dates are those of the protocol, and lie where they say."""

import numpy as np
import pytest
from shared import SHARED, needs_shared

from mapper.benchmark.buildings import read_chips
from mapper.benchmark.bursts import degrade, enlarge, project_back, simulate_burst

CHIPS = SHARED / "super_resolution" / "spacenet7"
STILL = np.zeros(2)


def make_image(edge=64):
    rng = np.random.default_rng(1)
    walls = np.kron(rng.random((edge // 8, edge // 8)) < 0.3, np.ones((8, 8)))
    return (60 + 120 * walls + rng.normal(0, 4, (3, edge, edge))).astype(np.float32)


def psnr(estimate, truth):
    inner = (..., slice(8, -8), slice(8, -8))
    return 20 * np.log10(255 / np.sqrt(np.mean((estimate[inner] - truth[inner]) ** 2)))


@needs_shared
def test_the_protocol_is_reproduced():
    chip = next(chip for chip in read_chips(CHIPS) if chip.name == "05")
    date = degrade(chip.image, STILL)
    assert psnr(enlarge(date, STILL), chip.image) == pytest.approx(34.97, abs=0.01)
    assert psnr(project_back(date[None], STILL[None], rounds=15), chip.image) == pytest.approx(41.44, abs=0.01)


def test_a_date_is_moved_back_to_the_anchor():
    rows, cols = np.mgrid[:64, :64] / 64
    fine = (100 + 40 * np.sin(5 * rows) * np.cos(4 * cols))[None].astype(np.float32)
    burst = simulate_burst(fine, dates=5, seed=1, noise=0.0)
    assert (burst.shifts[0] == 0).all()
    assert np.abs(burst.shifts[1:]).max() <= 0.5
    inner = (..., slice(8, -8), slice(8, -8))
    for date, shift in zip(burst.dates, burst.shifts, strict=True):
        assert np.abs(enlarge(date, shift) - fine)[inner].max() < 0.6
        away = enlarge(date, -shift)
        assert np.abs(shift).max() < 0.2 or np.abs(away - fine)[inner].max() > 1


def test_more_dates_come_nearer_in_any_order():
    image = make_image()
    burst = simulate_burst(image, dates=6, seed=2)
    together = project_back(burst.dates, burst.shifts, rounds=30)
    turned = project_back(burst.dates[::-1], burst.shifts[::-1], rounds=30)
    np.testing.assert_allclose(turned, together, atol=1e-3)
    alone = project_back(burst.dates[:1], burst.shifts[:1], rounds=30)
    assert psnr(together, image) > psnr(alone, image) + 0.5
