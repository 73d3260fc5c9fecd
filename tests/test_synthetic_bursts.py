"""Simulated stacks are what their options say, to the seed."""

import numpy as np
import pytest

from mapper.cube.shifts import estimate_shifts
from mapper.synthetic.bursts import BurstOptions, degrade, simulate_burst

ROWS, COLS = 96, 144
PLAIN = BurstOptions(dates=3, noise=(0.0, 0.0))


def vary(options, **changes):
    return options.model_copy(update=changes)


@pytest.fixture(scope="module")
def ground():
    random = np.random.default_rng(0)
    waves = [np.sin(random.uniform(0.05, 0.8) * np.arange(size) + 1) for size in (ROWS, COLS)]
    image = 100 + 20 * waves[0][:, None] * waves[1] + 10 * random.standard_normal((2, ROWS, COLS))
    return image.astype(np.float32)


@pytest.mark.parametrize(("scale", "transfer"), [(2, 0.17), (4, 0.24)])
def test_the_transfer_at_the_nyquist_frequency_is_as_published(scale, transfer):
    wave = np.cos(np.pi * (np.arange(64 * scale) + 0.5 - scale / 2) / scale)  # half a cycle in a source pixel
    seen = degrade(np.broadcast_to(wave, (1, 64 * scale, 64 * scale)).astype(np.float32), scale)
    assert np.abs(seen[0, 20:44, 20:44]).mean() == pytest.approx(transfer, abs=0.03)


@pytest.mark.parametrize("scale", [2, 3, 5])
def test_block_means_are_means_and_a_constant_stays(scale, ground):
    image = ground[:, : 90 // scale * scale, : 90 // scale * scale]
    found = degrade(image, scale, kind="block-mean")
    blocks = image.astype(np.float64).reshape(2, image.shape[1] // scale, scale, -1, scale)
    np.testing.assert_allclose(found, blocks.mean((2, 4)), rtol=1e-6)
    np.testing.assert_allclose(degrade(np.full_like(image, 7), scale, psf_sd=0.4), 7, rtol=1e-6)


def test_what_cannot_be_degraded_is_refused(ground):
    with pytest.raises(ValueError, match="cannot be divided by a scale of 5"):
        degrade(ground, 5)
    with pytest.raises(ValueError, match="unknown degradation 'box'"):
        degrade(ground, 2, kind="box")
    with pytest.raises(ValueError, match="missing values"):
        simulate_burst(np.where(ground > 100, np.nan, ground), PLAIN, seed=0)


def test_the_anchor_sees_the_truth_and_the_others_see_it_shifted(ground):
    burst = simulate_burst(ground, PLAIN, seed=4)
    np.testing.assert_array_equal(burst.values[burst.anchor], degrade(ground, 2))
    assert burst.truth is ground
    assert not burst.shift[burst.anchor].any()
    assert burst.clear.all()
    assert not burst.changed.any()
    whole = simulate_burst(np.tile(ground, (1, 2, 1)), vary(PLAIN, psf_sd=(0.8, 0.8)), seed=4)
    found = estimate_shifts(whole.values, whole.clear, whole.values[whole.anchor], row=0, col=0, cell=48)
    np.testing.assert_allclose(found.mean, whole.shift, atol=0.02)


def test_a_seed_gives_the_same_and_another_another(ground):
    options = BurstOptions(clouds=0.3, haze=0.1, changed=0.1, drift=0.2, gain=0.1, offset=0.2, psf_sd=(0.4, 0.6))
    one, same, other = (simulate_burst(ground, options, seed=seed) for seed in (1, 1, 2))
    for name in ("values", "clear", "shift", "changed"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
    assert one.anchor == same.anchor
    assert not np.array_equal(one.shift, other.shift)
    assert np.abs(one.shift).max() <= 1


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_clouds_haze_and_changes_cover_the_share_that_is_asked_for(share, ground):
    clouded = simulate_burst(ground, vary(PLAIN, clouds=share), seed=3)
    others = np.arange(3) != clouded.anchor
    np.testing.assert_allclose((~clouded.clear[others]).mean((1, 2)), share, atol=0.02)
    assert clouded.clear[clouded.anchor].all()
    assert clouded.values[others][~clouded.clear[others].repeat(1, 0)[:, None].repeat(2, 1)].mean() > ground.mean() + 20
    hazy = simulate_burst(ground, vary(PLAIN, haze=share), seed=3)
    assert hazy.clear.all(), "no mask tells of it"
    np.testing.assert_allclose(hazy.changed[others].mean((1, 2)), share, atol=0.02)
    changed = simulate_burst(ground, vary(PLAIN, changed=share), seed=3)
    plain = simulate_burst(ground, PLAIN, seed=3)
    assert share <= changed.changed[others].mean() < share + 0.2
    assert not changed.changed[changed.anchor].any()
    assert np.abs(changed.values - plain.values)[changed.anchor].max() == 0


def test_noise_gains_and_drift_are_in_units_of_the_spread(ground):
    spread = ground.std((1, 2))
    for option in (vary(PLAIN, noise=(0.2, 0.2)), vary(PLAIN, dates=1, noise=(0.1, 0.3))):
        noisy = simulate_burst(ground, option, seed=6)
        rest = noisy.values[noisy.anchor] - degrade(ground, 2)
        low, high = option.noise
        assert ((rest.std((1, 2)) / spread > low * 0.9) & (rest.std((1, 2)) / spread < high * 1.1)).all()
    still = vary(PLAIN, shift_px=0.0)
    for option in (vary(still, offset=0.5), vary(still, drift=0.5), vary(still, gain=0.3)):
        burst = simulate_burst(ground, option, seed=7)
        rest = (burst.values - burst.values[burst.anchor]) / spread[:, None, None]
        assert 0.02 < np.abs(rest).max() < 3.5


def test_noise_in_the_units_of_the_image_adds_to_that_in_units_of_the_spread(ground):
    quiet = simulate_burst(ground, PLAIN, seed=2)
    relative = simulate_burst(ground, vary(PLAIN, noise=(0.1, 0.1)), seed=2)
    both = simulate_burst(ground, vary(PLAIN, noise=(0.1, 0.1), noise_level=3.0), seed=2)
    spread = ground.std((1, 2), dtype=np.float64)[:, None, None]
    draws = (relative.values - quiet.values) / (0.1 * spread)
    np.testing.assert_allclose(both.values - quiet.values, draws * np.hypot(0.1 * spread, 3), rtol=0.02, atol=1e-3)


def test_a_source_pixel_may_see_its_whole_square_or_the_middle_of_it():
    image = np.random.default_rng(2).normal(size=(1, 18, 24)).astype(np.float32)
    whole = degrade(image, 3, psf_sd=1e-3, aperture_px=3)
    np.testing.assert_allclose(whole, degrade(image, 3, kind="block-mean"), atol=1e-6)
    np.testing.assert_allclose(degrade(image, 3, psf_sd=1e-3), image[:, 1::3, 1::3], atol=1e-6)
    with pytest.raises(ValueError, match="a mean of 2 of 3 target pixels has no middle"):
        degrade(image, 3, aperture_px=2)
