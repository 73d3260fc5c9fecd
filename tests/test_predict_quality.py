"""Flags have numbers that never change, and every step sets its own."""

import numpy as np
import pytest

from mapper.predict.quality import BITS, MAP_BITS, STACK_BITS, cf_attributes, combine, mask_of

NUMBERS = {
    "guide_gap": 1, "source_missing": 2, "source_disagrees": 4, "outside_area": 8, "item_dropped": 16,
    "few_observations": 32, "few_dates": 64, "misregistered": 128, "changed": 256,
}  # fmt: skip


def test_numbers_are_as_in_stored_maps():
    assert {name: bit.mask for name, bit in BITS.items()} | NUMBERS == {name: bit.mask for name, bit in BITS.items()}
    masks = [bit.mask for bit in BITS.values()]
    assert len(set(masks)) == len(masks)
    assert all(mask.bit_count() == 1 and mask < 1 << 15 for mask in masks)  # the highest bit is the store's


def test_nothing_to_remark_is_zero():
    flags = combine([{}, {"guide_gap": np.zeros((2, 3), bool), "item_dropped": False}], (2, 3))
    assert flags.dtype == np.uint16
    assert not flags.any()


def test_flags_of_steps_add_up_and_the_same_flag_twice_is_once():
    where = np.zeros((2, 3), bool)
    where[1, 2] = True
    flags = combine([{"guide_gap": where}, {"item_dropped": True, "guide_gap": where}], (2, 3))
    np.testing.assert_array_equal(flags, np.where(where, 17, 16))


def test_a_flag_that_is_not_declared_is_refused():
    with pytest.raises(KeyError):
        combine([{"cloud": True}], (1, 1))


def test_cf_attributes_list_the_flags_of_a_map_once():
    attributes = cf_attributes(MAP_BITS)
    assert attributes["flag_masks"] == [1, 2, 4, 8, 16, 32]
    assert attributes["flag_meanings"].split() == list(MAP_BITS)
    assert attributes["valid_range"] == [0, 63]
    assert cf_attributes(STACK_BITS)["flag_masks"][-1] == mask_of("few_dates")
