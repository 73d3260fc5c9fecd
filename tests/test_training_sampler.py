"""Patches belong together: guide, source and truth of one place, turned the same way."""

import numpy as np
import pytest

from mapper.training.config import AugmentConfig
from mapper.training.sampler import PatchSampler, Sample, measure_bands

SCALE = 5


def make_sample(cells=(8, 11), *, seed=0):
    """A sample whose guide and source can be told from the truth."""
    truth = np.random.default_rng(seed).random((cells[0] * SCALE, cells[1] * SCALE), np.float32) * 300
    source = truth.reshape(cells[0], SCALE, cells[1], SCALE).mean((1, 3))
    return Sample(
        guide=np.stack([truth + 1, -truth]),
        source=source,
        truth=truth,
        bands=(("summer_B04", "1"), ("summer_vv", "dB")),
        source_units="Mg ha-1",
    )


def make_sampler(sample, *, patch_px=20, seed=0, **augment):
    return PatchSampler(
        [sample],
        patch_px=patch_px,
        augment=AugmentConfig(**augment),
        bands=measure_bands([sample]),
        source_sd=50.0,
        seed=seed,
    )


def test_guide_source_and_truth_are_of_one_place():
    batch = make_sampler(make_sample()).draw(16)
    assert batch.truth.shape == (16, 1, 20, 20)
    np.testing.assert_allclose(batch.guide[:, :1], batch.truth + 1)
    np.testing.assert_allclose(batch.guide[:, 1:], -batch.truth)
    means = batch.truth.reshape(16, 1, 4, SCALE, 4, SCALE).mean((3, 5))
    np.testing.assert_allclose(batch.source, means, rtol=1e-5)


def test_all_turns_and_places_are_drawn():
    batch = make_sampler(make_sample((2, 2)), patch_px=10).draw(200)
    assert len({patch.tobytes() for patch in batch.truth}) == 8


def test_same_seed_same_patches():
    first, again, other = (make_sampler(make_sample(), seed=s, guide_jitter=0.1).draw(4).guide for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_truth_is_never_varied():
    batch = make_sampler(make_sample(), guide_jitter=0.5, guide_dropout=0.5, source_noise=0.5, source_bias=0.5).draw(8)
    known = make_sample().truth
    assert np.isin(batch.truth, known).all()


def test_dropped_channels_go_missing_as_a_whole():
    batch = make_sampler(make_sample(), guide_dropout=0.5).draw(64)
    missing = np.isnan(batch.guide).mean((2, 3))
    assert set(np.unique(missing)) == {0.0, 1.0}
    assert 0.3 < missing.mean() < 0.7


def test_noise_on_the_source_has_the_spread_asked_for():
    batch = make_sampler(make_sample(), source_noise=0.2).draw(200)
    means = batch.truth.reshape(200, 1, 4, SCALE, 4, SCALE).mean((3, 5))
    assert np.std(batch.source - means) == pytest.approx(0.2 * 50, rel=0.1)


def test_statistics_leave_missing_values_out_and_mark_silent_channels():
    sample = make_sample()
    sample.guide[0, :3] = np.nan
    sample.guide[1] = np.nan
    first, second = measure_bands([sample, sample])
    assert first.mean == pytest.approx(np.nanmean(sample.guide[0].astype(float)))
    assert first.sd == pytest.approx(np.nanstd(sample.guide[0].astype(float)))
    assert (second.mean, second.sd) == (0, 0)


def test_samples_of_different_channels_are_refused():
    other = Sample(**(vars(make_sample()) | {"bands": (("x", "1"), ("y", "1"))}))
    with pytest.raises(ValueError, match="different guide channels"):
        measure_bands([make_sample(), other])


def test_a_patch_smaller_than_a_source_pixel_is_refused():
    with pytest.raises(ValueError, match="no source pixel"):
        make_sampler(make_sample(), patch_px=4)
