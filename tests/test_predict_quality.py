"""QA bits say what happened, pixel by pixel."""

import numpy as np

from mapper.predict.quality import Quality, cf_attributes, flag_pixels

SHAPE = (20, 30)


def flags(**changes):
    fine = {"gaps": np.zeros(SHAPE, bool), "n_valid": np.full(SHAPE, 9, np.uint16), "inside": np.ones(SHAPE, bool)}
    coarse = {
        "source": np.full((2, 3), 100, np.float32),
        "source_sd": np.full((2, 3), 10, np.float32),
        "block_means": np.full((2, 3), 105.0),
    }
    return flag_pixels(**(fine | coarse | {"item_dropped": False} | changes))


def test_nothing_to_remark_is_zero():
    assert (flags() == 0).all()
    assert flags().dtype == np.uint16


def test_gaps_area_and_few_observations_are_flagged_where_they_are():
    where = np.zeros(SHAPE, bool)
    where[3, 4] = True
    for changes, flag in (
        ({"gaps": where}, Quality.GUIDE_GAP),
        ({"inside": ~where}, Quality.OUTSIDE_AREA),
        ({"n_valid": np.where(where, 2, 3).astype(np.uint16)}, Quality.FEW_OBSERVATIONS),
    ):
        np.testing.assert_array_equal(flags(**changes), np.where(where, int(flag), 0))


def test_a_source_pixel_flags_all_its_target_pixels():
    source = np.full((2, 3), 100, np.float32)
    source[0, 1] = np.nan
    result = flags(source=source)
    assert (result[:10, 10:20] == Quality.SOURCE_MISSING).all()
    assert np.count_nonzero(result) == 100


def test_disagreement_is_judged_against_the_sources_own_sd():
    means = np.array([[100, 110, 111], [90, 89, 100.0]])
    result = flags(block_means=means)[5::10, 5::10]
    np.testing.assert_array_equal(result != 0, [[False, False, True], [False, True, False]])
    assert (flags(block_means=means, source_sd=np.full((2, 3), np.nan, np.float32)) == 0).all()


def test_a_dropped_item_flags_the_tile_and_bits_add_up():
    result = flags(item_dropped=True, gaps=np.ones(SHAPE, bool))
    assert (result == Quality.ITEM_DROPPED | Quality.GUIDE_GAP).all()


def test_cf_attributes_list_every_bit_once():
    attributes = cf_attributes()
    assert attributes["flag_masks"] == [1, 2, 4, 8, 16, 32]
    assert attributes["flag_meanings"].split()[:2] == ["guide_gap", "source_missing"]
