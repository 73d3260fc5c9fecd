"""What model, source and their agreement say of pixels, in built cases."""

from dataclasses import replace

import numpy as np
import pytest

from mapper.predict.appraisal import Appraisal, find_shadow
from mapper.predict.quality import BITS, combine

SCALE, SIZE = 2, 24
NO_LIMITS = ((-np.inf, np.inf),) * 2


@pytest.fixture
def plain():
    """Two bands that gained some detail, with a deviation of a hundredth."""
    random = np.random.default_rng(0)
    image = random.uniform(0.2, 0.3, (2, SIZE, SIZE)).astype(np.float32)
    fine = image.repeat(SCALE, 1).repeat(SCALE, 2) + np.float32(0.002)
    return Appraisal(
        mean=fine,
        value=fine.copy(),
        sd=np.float32(0.01) * fine,
        image=image,
        residual=np.zeros(image.shape),
        scale=SCALE,
    )


def flags(appraisal, limits=NO_LIMITS, *, has_zero=True):
    told = appraisal.flag(limits, has_zero=has_zero)
    shape = appraisal.value.shape[1:]
    return {name for name, where in told.items() if np.broadcast_to(where, shape)[8, 9]}, told


def test_a_sure_pixel_has_nothing_to_remark(plain):
    found, told = flags(plain)
    assert found == set()
    assert not combine([told], plain.value.shape[1:], dtype="uint32")[4:-4, 4:-4].any()


def test_a_pixel_that_consistency_moved_is_told_from_its_neighbours(plain):
    moved = plain.value.copy()
    moved[1, 8, 9] += 2.1 * plain.sd[1, 8, 9]
    found, told = flags(replace(plain, value=moved))
    assert found == {"consistency_moved"}
    assert told["consistency_moved"].sum() == 1
    moved[1, 8, 9] = plain.mean[1, 8, 9] + 1.9 * plain.sd[1, 8, 9]
    assert flags(replace(plain, value=moved))[0] == set()


def test_the_interpolated_source_is_a_fallback_in_all_bands_alone(plain):
    mean = plain.interpolated.astype(np.float32)
    assert flags(replace(plain, mean=mean, value=mean))[0] == {"fallback"}
    mean[1] += np.float32(1e-3)
    assert flags(replace(plain, mean=mean, value=mean))[0] == set()


def test_a_mean_beyond_what_a_band_can_have_is_saturated(plain):
    value = float(plain.mean[0, 8, 9])
    assert flags(plain, ((0, value - 1e-3), (0, 1)))[0] == {"saturated"}
    assert flags(plain, ((0, value + 1e-3), (0, 1)))[0] == set()


@pytest.mark.parametrize(
    ("ratio", "name"),
    [(0.04, None), (0.06, "confidence_medium"), (0.25, "confidence_low"), (np.nan, "confidence_unknown")],
)
def test_confidence_is_that_of_the_worst_band(plain, ratio, name):
    sd = plain.sd.copy()
    sd[1, 8, 9] = ratio * plain.value[1, 8, 9]
    if np.isnan(ratio):
        sd[:, 8, 9] = np.nan
    assert flags(replace(plain, sd=sd))[0] == ({name} if name else set())


def test_heights_have_no_zero_to_hold_a_deviation_against(plain):
    found, told = flags(plain, has_zero=False)
    assert found == {"confidence_unknown"}
    bits = combine([told], plain.value.shape[1:], dtype="uint32")
    assert (bits & BITS["confidence_unknown"].mask == BITS["confidence_unknown"].value).all()


def test_features_hang_on_no_unit(plain):
    factor = np.float32(64)
    other = Appraisal(
        mean=factor * plain.mean,
        value=factor * plain.value,
        sd=factor * plain.sd,
        image=factor * plain.image,
        residual=factor * plain.residual,
        scale=SCALE,
    )
    inner = (slice(None), slice(8, -8), slice(8, -8))
    np.testing.assert_allclose(other.describe(3)[inner], plain.describe(3)[inner], rtol=1e-4, atol=1e-4)


def test_a_shadow_is_darker_than_other_dates_in_every_band():
    random = np.random.default_rng(1)
    ground = random.uniform(0.1, 0.3, (2, 30, 30))
    values = (ground * random.normal(1, 0.02, (4, 1, 30, 30))).astype(np.float32)
    clear, own = np.ones((4, 30, 30), bool), np.zeros((4, 30, 30), bool)
    own[0] = True
    shaded = values.copy()
    shaded[0, :, 10:20, 5:15] *= np.float32(0.5)
    shaded[0, 1, 22:28, 20:28] *= np.float32(0.5)  # one band alone: a change, no shadow
    found = find_shadow(shaded, clear, shaded[0], own)
    assert found[11:19, 6:14].all()
    outside = found.copy()
    outside[9:21, 4:16] = False
    assert not outside.any()
    clear[2:] = False
    assert not find_shadow(shaded, clear, shaded[0], own).any()  # one other date cannot tell
