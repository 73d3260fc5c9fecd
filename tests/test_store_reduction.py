"""Reduction by 2 x 2 against xarray, and against loops that say the rule pixel by pixel."""

from fractions import Fraction

import numpy as np
import pytest
import xarray as xr

from mapper.store.encoding import Encoding
from mapper.store.reduction import average_decibels, average_valid, average_written, combine_flags, pick_first

SHAPE = (24, 38)
SEEDS = pytest.mark.parametrize("seed", range(5))
FILL = 65535


def draw(seed, *, dtype="uint16", high=FILL, fill=FILL, missing=0.4):
    """Numbers over the whole range, and a share that is missing; some blocks miss all four, some none."""
    rng = np.random.default_rng(seed)
    low = np.iinfo(dtype).min if np.issubdtype(dtype, np.signedinteger) else 0
    stored = rng.integers(low, high, SHAPE).astype(dtype)
    stored[stored == fill] = 0
    stored[rng.random(SHAPE) < missing] = fill
    stored[:4, :4] = fill
    stored[4:8, :4] = 1
    return stored


def blocks_of(array):
    for row in range(0, array.shape[0], 2):
        for col in range(0, array.shape[1], 2):
            yield (row // 2, col // 2), array[row : row + 2, col : col + 2].ravel().tolist()


def round_half_even(total, count):
    return round(Fraction(total, count))


@SEEDS
@pytest.mark.parametrize(
    ("dtype", "fill", "high"),
    [
        ("uint8", 255, 255),
        ("uint16", 65535, 65535),
        ("int16", -32768, 32767),
        ("uint32", 2**32 - 1, 2**32 - 1),
        ("int32", -(2**31), 2**31 - 1),
    ],
)
def test_integers_become_the_rounded_mean_of_the_valid(seed, dtype, fill, high):
    stored = draw(seed, dtype=dtype, high=high, fill=fill)
    found = average_valid(stored, fill=fill)
    assert found.dtype == dtype
    assert found.shape == (12, 19)
    for place, values in blocks_of(stored):
        valid = [value for value in values if value != fill]
        assert found[place] == (round_half_even(sum(valid), len(valid)) if valid else fill)


@SEEDS
def test_what_is_stored_is_the_stored_mean_of_the_values(seed):
    encoding = Encoding(dtype="uint16", scale_factor=0.1, add_offset=-7.0)
    stored = draw(seed)
    values = xr.DataArray(encoding.decode(stored).astype(np.float64), dims=("y", "x"))
    expected = values.coarsen(y=2, x=2).mean().values
    found = encoding.decode(average_valid(stored, fill=FILL))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=0.0501)


@SEEDS
def test_floats_become_the_mean_of_the_valid(seed):
    values = np.where(draw(seed) == FILL, np.nan, draw(seed) / 7).astype(np.float32)
    expected = xr.DataArray(values.astype(np.float64), dims=("y", "x")).coarsen(y=2, x=2).mean().values
    found = average_valid(values, fill=np.nan)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.astype(np.float32))


@SEEDS
def test_decibels_are_averaged_as_powers(seed):
    values = np.where(draw(seed) == FILL, np.nan, draw(seed) / 1000 - 40).astype(np.float32)
    powers = xr.DataArray(10 ** (values.astype(np.float64) / 10), dims=("y", "x")).coarsen(y=2, x=2).mean().values
    np.testing.assert_allclose(average_decibels(values), 10 * np.log10(powers), rtol=1e-6)


@SEEDS
def test_counts_are_averaged_over_what_was_written(seed):
    stored, written = draw(seed, high=40, fill=0), draw(seed + 100) != FILL
    found = average_written(stored, written, fill=0)
    for (place, values), (_, there) in zip(blocks_of(stored), blocks_of(written), strict=True):
        chosen = [value for value, here in zip(values, there, strict=True) if here]
        assert found[place] == (round_half_even(sum(chosen), len(chosen)) if chosen else 0)


def test_no_observation_in_a_written_pixel_counts_as_none():
    stored = np.array([[8, 0], [0, 0]], np.uint16)
    assert average_written(stored, np.ones((2, 2), bool), fill=0) == 2
    assert average_written(stored, stored > 0, fill=0) == 8


@SEEDS
@pytest.mark.parametrize(("dtype", "fill"), [("uint16", 1 << 15), ("uint8", 255)])
def test_flags_are_joined_and_only_four_unwritten_pixels_are_unwritten(seed, dtype, fill):
    stored = draw(seed, dtype=dtype, high=64, fill=fill)
    found = combine_flags(stored, fill=fill)
    assert found.dtype == dtype
    for place, values in blocks_of(stored):
        written = [value for value in values if value != fill]
        expected = fill
        for number, value in enumerate(written):
            expected = value if not number else expected | value
        assert found[place] == expected
    assert (found == fill).any()
    assert (found != fill).any()


def test_halves_do_not_drift_upwards():
    stored = np.array([[1, 2, 2, 3], [1, 2, 2, 3]], np.uint16)
    assert average_valid(stored, fill=FILL).tolist() == [[2, 2]]


@SEEDS
def test_what_has_no_mean_becomes_the_first_that_is_valid(seed):
    stored = draw(seed)
    before, found = stored.copy(), pick_first(stored, fill=FILL)
    np.testing.assert_array_equal(stored, before)
    for place, values in blocks_of(stored):
        assert found[place] == next((value for value in values if value != FILL), FILL)
