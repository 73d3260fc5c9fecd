"""Patches belong together: guide, source and truth of one place, turned the same way."""

from dataclasses import replace

import numpy as np
import pytest

from mapper.errors import InputError
from mapper.training.config import AugmentConfig
from mapper.training.sample import Dates, Sample
from mapper.training.sampler import PatchSampler, check_alike, measure_bands

SCALE = 5


def make_sample(cells=(8, 11), *, seed=0, sd=20.0):
    """A sample whose guide and source can be told from the truth."""
    truth = np.random.default_rng(seed).random((cells[0] * SCALE, cells[1] * SCALE), np.float32) * 300
    source = truth.reshape(cells[0], SCALE, cells[1], SCALE).mean((1, 3))
    return Sample(
        guide=np.stack([truth + 1, -truth]),
        source=source,
        source_sd=np.full_like(source, sd),
        truth=truth,
        bands=(("summer_B04", "1"), ("summer_vv", "dB")),
        source_units="Mg ha-1",
        target="agb",
        bounds=(0, None),
    )


def make_sampler(*samples, patch_px=20, step=SCALE, seed=0, **augment):
    return PatchSampler(
        samples,
        patch_px=patch_px,
        step=step,
        augment=AugmentConfig(**augment),
        bands=measure_bands(samples),
        source_sd=50.0,
        seed=seed,
    )


def means_of(batch):
    number, _, rows, cols = batch.truth.shape
    return batch.truth.reshape(number, 1, rows // SCALE, SCALE, cols // SCALE, SCALE).mean((3, 5))


def test_guide_source_and_truth_are_of_one_place():
    batch = make_sampler(make_sample()).draw(0, range(16))
    assert batch.truth.shape == (16, 1, 20, 20)
    assert (batch.source_sd == 20).all()
    np.testing.assert_allclose(batch.guide[:, :1], batch.truth + 1)
    np.testing.assert_allclose(batch.guide[:, 1:], -batch.truth)
    np.testing.assert_allclose(batch.source, means_of(batch), rtol=1e-5)


def test_all_turns_and_places_are_drawn():
    batch = make_sampler(make_sample((2, 2)), patch_px=10).draw(0, range(200))
    assert len({patch.tobytes() for patch in batch.truth}) == 8


def test_a_patch_is_decided_by_seed_step_place_and_member_alone():
    first, again, other = (make_sampler(make_sample(), seed=seed, guide_jitter=0.1) for seed in (1, 1, 2))
    whole = first.draw(7, range(8)).guide
    first.draw(3, range(5))
    np.testing.assert_array_equal(again.draw(7, range(1, 8, 2)).guide, whole[1::2])
    for different in (other.draw(7, range(8)), first.draw(8, range(8)), first.draw(7, range(8), member=1)):
        assert not np.array_equal(different.guide, whole)


def test_patches_lie_where_the_network_can_take_them():
    sample = make_sample((9, 12))
    sampler = make_sampler(sample, patch_px=35, step=3 * SCALE)
    assert sampler.patch_px == 30
    column = np.arange(sample.truth.shape[1], dtype=np.float32) * np.ones_like(sample.truth)
    sampler = make_sampler(replace(sample, truth=column), patch_px=35, step=3 * SCALE)
    assert set(sampler.draw(0, range(60)).truth.min((1, 2, 3))) == {0, 15, 30}


def test_places_that_do_not_fit_are_continued_by_nothing():
    sampler = make_sampler(make_sample((2, 4)), patch_px=40, step=3 * SCALE)
    batch = sampler.draw(0, range(40))
    assert batch.truth.shape[2:] == (15, 15)
    missing = np.isnan(batch.source)
    np.testing.assert_array_equal(np.isnan(batch.truth), missing.repeat(SCALE, 2).repeat(SCALE, 3))
    assert set(missing.sum((1, 2, 3))) == {3, 7}


def test_patches_without_truth_are_not_drawn():
    sample = make_sample((8, 8))
    sample.truth[:, : 6 * SCALE] = np.nan
    batch = make_sampler(sample, patch_px=10).draw(0, range(100))
    assert np.isfinite(batch.truth).any((1, 2, 3)).all()
    sample.truth[:] = np.nan
    with pytest.raises(InputError, match="no truth"):
        make_sampler(sample)


def test_truth_is_never_varied():
    varied = {"guide_jitter": 0.5, "guide_dropout": 0.5, "source_noise": 0.5, "source_bias": 0.5}
    batch = make_sampler(make_sample(), **varied).draw(0, range(8))
    assert np.isin(batch.truth, make_sample().truth).all()


def test_dropped_channels_go_missing_as_a_whole():
    missing = np.isnan(make_sampler(make_sample(), guide_dropout=0.5).draw(0, range(64)).guide).mean((2, 3))
    assert set(np.unique(missing)) == {0.0, 1.0}
    assert 0.3 < missing.mean() < 0.7


def test_dates_go_missing_as_a_whole_but_never_all():
    sample = make_sample()
    bands = tuple((f"{date}_{band}", "1") for date in range(4) for band in range(3))
    sample = replace(sample, guide=np.zeros((12, *sample.truth.shape), np.float32), bands=bands, dates=4)
    missing = np.isnan(make_sampler(sample, date_dropout=0.7).draw(0, range(300)).guide).reshape(300, 4, -1)
    assert (missing.all(2) == missing.any(2)).all()
    lost = missing.all(2).sum(1)
    assert set(lost) == {0, 1, 2, 3}
    assert lost.mean() == pytest.approx(4 * 0.7 - 0.7**4, abs=0.15)


@pytest.mark.parametrize(("sd", "spread"), [(20.0, 20), (np.nan, 50)])
def test_noise_on_the_source_is_in_units_of_its_own_deviation(sd, spread):
    batch = make_sampler(make_sample(sd=sd), source_noise=0.2).draw(0, range(400))
    assert np.std(batch.source - means_of(batch)) == pytest.approx(0.2 * spread, rel=0.05)


def test_neighbours_have_a_share_of_the_noise_in_common():
    batch = make_sampler(make_sample((8, 8)), patch_px=40, source_noise=1, source_correlation=0.6).draw(0, range(300))
    noise = batch.source - means_of(batch)
    assert np.std(noise) == pytest.approx(20, rel=0.05)
    beside = np.corrcoef(noise[..., 1:].ravel(), noise[..., :-1].ravel())[0, 1]
    far = np.corrcoef(noise[..., 6:].ravel(), noise[..., :-6].ravel())[0, 1]
    assert beside == pytest.approx(0.6 * 0.895, abs=0.05)
    assert abs(far) < 0.1


def test_bias_is_one_factor_for_a_patch():
    batch = make_sampler(make_sample(), source_bias=0.1).draw(0, range(300))
    factors = batch.source / means_of(batch)
    assert factors.std((1, 2, 3)).max() < 1e-5
    assert factors.mean((1, 2, 3)).std() == pytest.approx(0.1, rel=0.15)


def test_statistics_leave_missing_values_out_and_mark_silent_channels():
    sample = make_sample()
    sample.guide[0, :3] = np.nan
    sample.guide[1] = np.nan
    first, second = measure_bands([sample, sample])
    assert first.mean == pytest.approx(np.nanmean(sample.guide[0].astype(float)))
    assert first.sd == pytest.approx(np.nanstd(sample.guide[0].astype(float)))
    assert (second.mean, second.sd) == (0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bands": (("x", "1"), ("y", "1"))}, "different guide channels"),
        ({"dates": 2}, "different dates"),
        ({"source_units": "m"}, "different source units"),
        ({"target": "height"}, "different targets"),
    ],
)
def test_samples_that_do_not_belong_together_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        check_alike([make_sample(), replace(make_sample(), **change)])


def test_a_patch_smaller_than_a_step_is_refused():
    with pytest.raises(InputError, match="4 px is smaller than a step of 5 px"):
        make_sampler(make_sample(), patch_px=4)


def make_stack(dates=3, edge=12, scale=2):
    """Dates of a plane, each shifted by a known part of a pixel."""
    random = np.random.default_rng(4)
    row, col = np.mgrid[:edge, :edge].astype(np.float32)
    shift = random.uniform(-1, 1, (dates, 2)).astype(np.float32)
    shift[1] = 0
    values = np.stack([3 * (row - down) + 5 * (col - right) for down, right in shift])[:, None].astype(np.float32)
    stack = Dates(
        values=values,
        clear=np.ones((dates, edge, edge), bool),
        shift=np.broadcast_to(shift[:, :, None, None], (dates, 2, edge, edge)).copy(),
        days=np.arange(-1, dates - 1, dtype=np.float32),
    )
    return Sample(
        guide=np.empty((0, edge * scale, edge * scale), np.float32),
        source=values[1],
        source_sd=np.full_like(values[1], np.nan),
        truth=np.ones((1, edge * scale, edge * scale), np.float32),
        bands=(),
        source_units="1",
        target="band_0",
        stack=stack,
    )


def draw_stack(step, dates=None):
    sampler = PatchSampler(
        [make_stack()], patch_px=12, step=2, augment=AugmentConfig(dates=dates), bands=(), source_sd=1.0, seed=3
    )
    return sampler.draw(step, range(4))


def test_shifts_turn_with_the_images():
    for step in range(4):
        batch = draw_stack(step)
        for source, values, shift in zip(batch.source, batch.values, batch.shift, strict=True):
            down, right = source[0, 1, 0] - source[0, 0, 0], source[0, 0, 1] - source[0, 0, 0]
            for date, (moved_down, moved_right) in zip(values, shift[:, :, 0, 0], strict=True):
                expected = -(down * moved_down + right * moved_right)
                np.testing.assert_allclose(date - source, np.full_like(source, expected), atol=1e-4)


def test_a_patch_shows_some_dates_with_the_anchor_among_them():
    numbers = set()
    for step in range(12):
        batch = draw_stack(step, dates=(1, 3))
        numbers.add(batch.values.shape[1])
        for source, values in zip(batch.source, batch.values, strict=True):
            assert any(np.array_equal(source, date) for date in values)
    assert numbers == {1, 2, 3}
