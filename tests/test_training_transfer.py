"""Transfers are those of waves that go through the same steps, and what is carried over has what is wanted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from mapper.catalog.provider import load_provider
from mapper.presets import read_preset
from mapper.training.transfer import Transfer, carry_over

SIZE = 240
modulations = st.floats(0.1, 0.6)


def wave(frequency, size=SIZE, phase=0.3):
    """A wave along x, with its phase."""
    return np.tile(np.cos(2 * np.pi * frequency * np.arange(size) + phase), (24, 1)).astype(np.float32)


def amplitude(image, frequency):
    row = image[12 if len(image) > 12 else len(image) // 2, 20:-20].astype(np.float64)
    turning = np.exp(-2j * np.pi * frequency * np.arange(len(row)))
    columns = np.stack([turning.real, turning.imag, np.ones_like(row)], 1)
    return float(np.hypot(*np.linalg.lstsq(columns, row, rcond=None)[0][:2]))


@pytest.mark.parametrize("frequency", [0.07, 0.2, 0.31, 0.45])
def test_the_spline_is_that_which_scipy_interpolates_with_on_the_mean_over_positions(frequency):
    line = np.exp(2j * np.pi * frequency * np.arange(SIZE))
    places = np.arange(0.5, 16) / 16
    left = []
    for place in places:
        shifted = ndimage.shift(line.real, -place, order=3) + 1j * ndimage.shift(line.imag, -place, order=3)
        ideal = np.exp(2j * np.pi * frequency * (np.arange(SIZE) + place))
        left.append((shifted / ideal)[40:-40].mean())
    with_spline, without = (Transfer(mtf=0.3, splined=s).at(np.array(frequency)) for s in (True, False))
    assert with_spline / without == pytest.approx(np.mean(left).real, abs=1e-3)


@pytest.mark.parametrize("block", [2, 3, 5])
def test_a_block_leaves_of_a_wave_what_its_mean_leaves(block):
    frequency = 0.06
    means = wave(frequency)[:, : SIZE // block * block].reshape(24, -1, block).mean(2)
    small, large = Transfer(mtf=0.3), Transfer(mtf=0.3, block=block)
    ratio = large.at(np.array(frequency * block)) / small.at(np.array(frequency))
    assert ratio == pytest.approx(amplitude(means, frequency * block), abs=2e-3)


@given(mtf=modulations)
def test_nyquist_is_where_the_modulation_is_declared(mtf):
    assert Transfer(mtf=mtf).at(np.array(0.5)) == pytest.approx(mtf)
    assert Transfer(mtf=mtf, splined=True).at(np.array(0.5)) == pytest.approx(mtf * 0.4928, abs=1e-4)
    assert Transfer(mtf=mtf, splined=True, block=2).at(np.array(0.0)) == 1


@given(mtf=modulations, splined=st.booleans(), frequency=st.sampled_from([0.05, 0.12, 0.2]))
def test_what_is_carried_over_has_the_wanted_transfer(mtf, splined, frequency):
    have = Transfer(mtf=mtf, splined=splined)
    found = carry_over(wave(frequency), have=have, want=have, scale=2)
    expected = have.at(np.array(2 * frequency)) / have.at(np.array(frequency))
    assert amplitude(found, 2 * frequency) == pytest.approx(expected, abs=0.02)


def test_what_was_a_mean_becomes_one_again_and_nothing_is_sharpened():
    means = Transfer(mtf=0.3, splined=True, block=2)
    values = np.random.default_rng(0).normal(size=(24, 24)).astype(np.float32)
    found = carry_over(values, have=means.finer(2), want=means, scale=2)
    inner = (slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(found[inner], values.reshape(12, 2, 12, 2).mean((1, 3))[inner], atol=1e-3)
    sharper = carry_over(values, have=Transfer(mtf=0.2), want=Transfer(mtf=0.4), scale=1)
    np.testing.assert_allclose(sharper, values, atol=1e-5)
    assert carry_over(values, have=means, want=means, scale=1) is values


@pytest.mark.parametrize("scale", [2, 3])
def test_it_is_centred_on_the_larger_pixels(scale):
    ramp = np.tile(np.arange(60.0, dtype=np.float32), (60, 1))
    found = carry_over(ramp, have=Transfer(mtf=0.3), want=Transfer(mtf=0.3), scale=scale)
    expected = ramp.reshape(60 // scale, scale, 60 // scale, scale).mean((1, 3))
    np.testing.assert_allclose(found[8:-8, 8:-8], expected[8:-8, 8:-8], atol=1e-3)


def test_what_is_missing_does_not_count_and_stays_missing():
    values = np.full((24, 24), 5, np.float32)
    values[6:18, 8:20] = np.nan
    blurred = carry_over(values, have=Transfer(mtf=0.4), want=Transfer(mtf=0.2), scale=1)
    assert (np.isnan(blurred) == np.isnan(values)).all()
    coarser = carry_over(values, have=Transfer(mtf=0.4), want=Transfer(mtf=0.4), scale=2)
    assert np.isnan(coarser[4:8, 5:9]).all()
    for each in (blurred, coarser):
        np.testing.assert_allclose(each[np.isfinite(each)], 5, rtol=1e-6)


@pytest.mark.parametrize("wrong", [{"mtf": 0}, {"mtf": 1}, {"mtf": 0.3, "block": 0}])
def test_no_modulation_is_refused(wrong):
    with pytest.raises(ValueError, match="between 0 and 1"):
        Transfer(**wrong)


def test_the_preset_holds_bands_against_what_the_catalogue_declares():
    tie, rule = read_preset("sentinel2-20m").content["consistency"], load_provider("stac-api").rule("sentinel-2")
    for band in read_preset("sentinel2-20m").content["source"]["bands"]:
        seen = Transfer(mtf=rule.mtf[band], splined=rule.resampled == "cubic-spline")
        left = seen.at(np.array(0.5)) / seen.finer(2).at(np.array(0.25))
        assert tie["bands"].get(band, tie)["mtf"] == pytest.approx(float(left), abs=0.006)


@pytest.mark.parametrize("name", ["earth-search", "planetary-computer", "copernicus-dataspace"])
def test_archives_of_one_instrument_declare_the_same(name):
    expected = load_provider("stac-api").rule("sentinel-2")
    rules = [each for each in load_provider(name).collections.values() if each.calibration == "sentinel-2"]
    assert rules
    for rule in rules:
        assert (rule.mtf, rule.resampled) == (expected.mtf, expected.resampled)
        assert set(rule.mtf) <= set(rule.bands)
