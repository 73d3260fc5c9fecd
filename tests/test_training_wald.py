"""One scale coarser: the source becomes the truth, and nothing else of the truth is used."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from mapper.errors import InputError
from mapper.training.sample import Dates, Sample
from mapper.training.transfer import Transfer
from mapper.training.wald import average_guide, degrade

SCALE = 4


def make_sample(rows=8, cols=12, *, guide=None, source=None, bands=(("a_B04", "1"), ("a_vv", "dB"))):
    random = np.random.default_rng(0)
    fine = rows * SCALE, cols * SCALE
    return Sample(
        guide=random.random((len(bands), *fine)).astype(np.float32) if guide is None else guide,
        source=random.random((rows, cols)).astype(np.float32) * 100 if source is None else source,
        source_sd=np.full((rows, cols), 7, np.float32),
        truth=np.full(fine, np.nan, np.float32),
        bands=bands,
        source_units="Mg ha-1",
        target="agb",
        bounds=(0, None),
        name="here",
        degradation="as delivered: cci",
        digest="d",
    )


def test_the_source_is_the_truth_and_its_block_mean_the_source():
    sample = make_sample()
    coarser = degrade(sample)
    assert coarser.scale == sample.scale
    assert (coarser.truth == sample.source).all()
    assert coarser.source.shape == (2, 3)
    np.testing.assert_allclose(coarser.source[1, 2], sample.source[4:, 8:].mean(), rtol=1e-6)
    assert (coarser.source_sd == 7).all()
    assert coarser.guide.shape == (2, 8, 12)
    assert coarser.bands == sample.bands


def test_reflectance_is_averaged_and_decibels_in_power():
    guide = np.zeros((2, 8 * SCALE, 12 * SCALE), np.float32)
    guide[0, :2, :4], guide[1, :2, :4] = 0.4, -10.0
    guide[1, 2:4, :4] = -20.0
    coarser = degrade(make_sample(guide=guide))
    assert coarser.guide[0, 0, 0] == pytest.approx(0.2)
    assert coarser.guide[1, 0, 0] == pytest.approx(10 * np.log10((0.1 + 0.01) / 2), abs=1e-4)
    assert (coarser.guide[:, 1:] == 0).all()


def test_what_is_missing_does_not_count():
    channel = np.full((4, 8), np.nan, np.float32)
    channel[0, :2] = 3, 5
    np.testing.assert_array_equal(average_guide(channel, 4, "1"), [[4, np.nan]])
    np.testing.assert_allclose(average_guide(channel, 4, "dB"), [[4.11413, np.nan]], atol=1e-4)


def test_classes_are_not_averaged():
    channel = np.zeros((4, 12), np.float32)
    channel[:2, :4], channel[:, 4:8], channel[3, 5] = 1, np.nan, 1
    channel[0, 8:11] = 1
    np.testing.assert_array_equal(average_guide(channel, 4, "1"), [[1, 1, 0]])


def test_a_coarser_pixel_needs_half_of_its_source():
    source = np.full((8, 8), 50, np.float32)
    source[:4, :2] = np.nan
    source[4:, :2] = source[4:, 3] = np.nan
    coarser = degrade(make_sample(8, 8, source=source))
    np.testing.assert_array_equal(coarser.source, [[50, 50], [np.nan, 50]])
    np.testing.assert_array_equal(coarser.source_sd, [[7, 7], [np.nan, 7]])
    np.testing.assert_array_equal(coarser.truth, source)


@pytest.mark.parametrize(("rows", "kept"), [(8, 2), (9, 2), (10, 3), (11, 3), (12, 3)])
def test_a_remainder_stays_where_it_is_at_least_half_a_pixel(rows, kept):
    sample = make_sample(rows, 8)
    coarser = degrade(sample)
    assert coarser.source.shape == (kept, 2)
    assert np.isfinite(coarser.source).all()
    same = min(rows, kept * SCALE)
    np.testing.assert_array_equal(coarser.truth[:same], sample.source[:same])
    assert np.isnan(coarser.truth[same:]).all()
    assert np.isnan(coarser.guide[:, same:]).all()


def test_a_place_without_a_guide_can_be_made_coarser():
    sample = make_sample(guide=np.empty((0, 8 * SCALE, 12 * SCALE), np.float32), bands=())
    assert degrade(sample).guide.shape == (0, 8, 12)


@pytest.mark.parametrize("shape", [(1, 8), (2, 2), (8, 1)])
def test_a_place_that_is_too_small_is_refused(shape):
    with pytest.raises(InputError, match=f"here has {shape[0]} x {shape[1]} source pixels"):
        degrade(make_sample(*shape))


def test_a_place_without_source_is_refused():
    with pytest.raises(InputError, match="of them missing"):
        degrade(make_sample(source=np.full((8, 12), np.nan, np.float32)))


def test_name_and_degradation_say_so():
    sample = make_sample()
    coarser = degrade(sample)
    assert coarser.name == "here, 4 times coarser"
    assert coarser.degradation == "Wald's protocol: block mean of the source, 4 x 4 (as delivered: cci)"
    assert coarser.digest not in ("", sample.digest)


def make_bands(transfer, *, rows=24, cols=32):
    random = np.random.default_rng(3)
    source = ndimage.gaussian_filter(random.normal(size=(2, rows, cols)), (0, 1, 1)).astype(np.float32)
    guide = random.random((1, rows * 2, cols * 2)).astype(np.float32)
    return Sample(
        guide=guide,
        source=source,
        source_sd=np.full_like(source, np.nan),
        truth=np.full((2, rows * 2, cols * 2), np.nan, np.float32),
        bands=(("B04", "1"),),
        source_units="1",
        target="B05,B11",
        transfer=transfer,
    )


def make_sample_of_dates():
    sample = make_bands({})
    _, rows, cols = sample.source.shape
    stack = Dates(
        values=sample.source[None],
        clear=np.ones((1, rows, cols), bool),
        shift=np.zeros((1, 2, rows, cols), np.float32),
        days=np.zeros(1, np.float32),
    )
    return replace(sample, stack=stack)


def test_bands_without_a_declared_transfer_are_averaged():
    sample = make_bands({})
    coarser = degrade(sample)
    assert (coarser.truth == sample.source).all()
    np.testing.assert_allclose(
        coarser.source, sample.source.reshape(2, 12, 2, 16, 2).mean((2, 4)), rtol=1e-5, atol=1e-6
    )
    assert coarser.source_sd.shape == (2, 12, 16)


def test_means_of_an_instrument_become_as_blurred_as_it_sees_and_their_means_the_source():
    transfer = {"B05": Transfer(mtf=0.38, splined=True, block=2), "B04": Transfer(mtf=0.24, splined=True, block=2)}
    sample = make_bands(transfer)
    coarser = degrade(sample)
    assert coarser.truth[0].std() < 0.97 * sample.source[0].std()
    assert (coarser.truth[1] == sample.source[1]).all()  # nobody declares that of B11
    inner = slice(2, -2)
    means = coarser.truth[0].reshape(12, 2, 16, 2).mean((1, 3))
    np.testing.assert_allclose(coarser.source[0][inner, inner], means[inner, inner], atol=2e-3)


def test_pixels_of_an_instrument_are_the_truth_as_they_are_and_seen_more_coarsely():
    transfer = {"B05": Transfer(mtf=0.38), "B11": Transfer(mtf=0.22)}
    sample = make_bands(transfer)
    coarser = degrade(sample)
    assert (coarser.truth == sample.source).all()
    means = sample.source.reshape(2, 12, 2, 16, 2).mean((2, 4))
    assert (coarser.source.std((1, 2)) < 0.98 * means.std((1, 2))).all()
    assert "as an instrument" in coarser.degradation


def test_several_dates_are_refused():
    with pytest.raises(InputError, match="several dates"):
        degrade(make_sample_of_dates())
