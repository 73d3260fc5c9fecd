"""Flags have numbers that never change, and every step sets its own."""

import numpy as np
import pytest

from mapper.predict.quality import (
    BITS,
    DATES_BITS,
    MAP_BITS,
    STACK_BITS,
    WIDE_BITS,
    cf_attributes,
    combine,
    mask_of,
    read_flags,
)

NUMBERS = {
    "guide_gap": 1, "source_missing": 2, "source_disagrees": 4, "outside_area": 8, "item_dropped": 16,
    "few_observations": 32, "few_dates": 64, "misregistered": 128, "changed": 256, "few_clear": 512,
    "cloud_shadow": 1024, "out_of_domain": 2048, "consistency_moved": 4096, "fallback": 8192, "saturated": 16384,
    "confidence_medium": 65536, "confidence_unknown": 131072, "confidence_low": 196608,
}  # fmt: skip
CLASSES = ("confidence_medium", "confidence_unknown", "confidence_low")


def test_numbers_are_as_in_stored_maps():
    assert {name: bit.value for name, bit in BITS.items()} == NUMBERS
    single = [bit.mask for name, bit in BITS.items() if name not in CLASSES]
    assert len(set(single)) == len(single)
    assert all(mask.bit_count() == 1 and mask < 1 << 15 for mask in single)  # the bit above is the store's
    assert {BITS[name].mask for name in CLASSES} == {3 << 16}


def test_classes_that_are_put_together_give_the_more_cautious():
    medium, unknown, low = (BITS[name].value for name in CLASSES)
    assert medium | low == low
    assert medium | unknown == low
    assert medium | 0 == medium  # high confidence is no flag


def test_flags_are_read_from_attributes_as_they_were_written():
    names = (*DATES_BITS, *WIDE_BITS)
    read = read_flags(cf_attributes(names))
    for name in names:
        assert [other for other, (mask, value) in read.items() if mask_of(name) & mask == value] == [name]
    assert "flag_values" not in cf_attributes(DATES_BITS)
    assert read_flags({"flag_values": [0, 1, 255], "flag_meanings": "complete gap not_written"})["gap"] == (-1, 1)


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
