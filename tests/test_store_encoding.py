"""Encoding: what is stored is within half a step of the value, and what cannot be stored is clipped or missing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mapper.spec import EncodingSpec
from mapper.store.encoding import Encoding

values = hnp.arrays(np.float32, 50, elements=st.floats(-1e4, 1e4, width=32) | st.just(np.float32(np.nan)))
specs = st.builds(
    EncodingSpec,
    dtype=st.sampled_from(["uint8", "uint16", "int16"]),
    scale_factor=st.sampled_from([0.01, 0.1, 1.0, 2.5]),
    add_offset=st.sampled_from([0.0, -50.0]),
)


@given(values, specs)
def test_values_come_back_within_half_a_step_or_at_a_limit(array, spec):
    encoding = Encoding.of_value(spec)
    low, high = encoding.limits
    back = encoding.decode(encoding.encode(array))
    assert (np.isnan(back) == np.isnan(array)).all()
    wanted = np.clip(array.astype(float), low, high)
    assert np.nanmax(np.abs(back - wanted), initial=0) <= spec.scale_factor / 2 + 1e-5 * np.nanmax(
        np.abs(wanted), initial=1
    )
    slack = spec.scale_factor / 2
    assert encoding.count_clipped(array) == np.sum((array < low - slack) | (array > high + slack))


@given(values, specs)
def test_encoding_again_changes_nothing(array, spec):
    encoding = Encoding.of_value(spec)
    stored = encoding.encode(array)
    assert (encoding.encode(encoding.decode(stored)) == stored).all()


def test_biomass_keeps_zero_apart_from_missing():
    encoding = Encoding.of_value(EncodingSpec(dtype="uint16", scale_factor=0.1))
    array = np.array([0, -3, 0.04, 0.06, 6553.4, 9000, np.nan, np.inf], np.float32)
    assert encoding.encode(array).tolist() == [0, 0, 0, 1, 65534, 65534, 65535, 65534]
    assert encoding.attributes == {"_FillValue": 65535, "scale_factor": 0.1}
    assert encoding.count_clipped(array) == 3


def test_floats_are_stored_as_they_are_with_one_nan():
    encoding = Encoding.of_value(EncodingSpec(dtype="float32"))
    odd_nan = np.array([0x7FC00001, 0xFFC00000], np.uint32).view(np.float32)
    array = np.concatenate([odd_nan, np.array([0.1, -1e30], np.float32)])
    stored = encoding.encode(array)
    assert stored[:2].tobytes() == np.full(2, np.nan, np.float32).tobytes()
    assert stored[2:].tolist() == array[2:].tolist()
    assert np.isnan(encoding.fill)
    assert encoding.count_clipped(array) == 0


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "int32", "float32"])
def test_a_standard_deviation_has_its_own_scale(dtype):
    sd = Encoding.of_sd(EncodingSpec(dtype=dtype, scale_factor=0.5, add_offset=-100))
    assert sd.dtype == {"float32": "float32", "uint32": "uint32", "int32": "uint32"}.get(dtype, "uint16")
    assert sd.limits[0] <= 0
    assert sd.limits[1] > 3e4
    assert "add_offset" not in sd.attributes


def test_encodings_are_read_back_from_attributes():
    spec = EncodingSpec(dtype="int16", scale_factor=0.5, add_offset=10)
    encoding = Encoding.of_value(spec)
    assert Encoding.of_attributes("int16", encoding.attributes) == encoding
