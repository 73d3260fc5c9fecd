"""One rule for each property of a file: agree, take the file's word, decide by trust, or refuse by name."""

from dataclasses import replace

import numpy as np
import pytest
from headers import north_up
from hypothesis import given
from hypothesis import strategies as st

from mapper.cube.agreement import ContradictionError, decide_reading
from mapper.cube.belief import Belief
from mapper.cube.declaration import ListedBands
from mapper.cube.header import Header, StoredBand

PLACE = north_up(600000, 5700000, 10)
ONE = Header(crs="EPSG:32633", transform=PLACE, shape=(64, 64), dtypes=("uint16",), nodata=(None,))
TWO = replace(ONE, dtypes=("uint16", "uint16"), nodata=(None, None))
SILENT = Belief(band="agb")


def listing(*names, count=None):
    return ListedBands(counts=frozenset({count or len(names)}), names=tuple((name,) for name in names))


def decide(header=ONE, belief=SILENT, **said):
    return decide_reading(header, replace(belief, **said))


def refusal(header=ONE, belief=SILENT, **said):
    with pytest.raises(ContradictionError) as caught:
        decide(header, belief, **said)
    assert "\n" not in str(caught.value)
    return caught.value


def test_nothing_is_noted_where_all_agree_or_are_silent():
    assert decide().notes == {}
    header = replace(ONE, nodata=(0.0,), scales=(1e-4,), offsets=(-0.1,))
    agreed = decide(
        header,
        missing=(0.0,),
        scale=0.0001,
        offset=-0.1,
        dtype="uint16",
        crs="EPSG:32633",
        transform=PLACE,
        shape=(64, 64),
        listed=listing("red"),
    )
    assert (agreed.notes, agreed.gain, agreed.shift, agreed.missing) == ({}, 1, 0, (0.0,))


@pytest.mark.parametrize(
    ("header", "said", "band"),
    [
        (TWO, {"wanted": 2}, 2),
        (TWO, {"wanted": "sd", "listed": listing("mean", "sd")}, 2),
        (TWO, {"listed": listing("agb_sd", "agb")}, 2),
        (replace(TWO, names=("", "agb")), {}, 2),
        (replace(TWO, names=("sd", "agb")), {"listed": listing("only")}, 2),
        (replace(TWO, names=("a", "b")), {"wanted": "a", "neighbours": ("b",)}, 1),
        (replace(TWO, alpha=1), {}, 2),
        (replace(TWO, alpha=2), {"listed": listing("x", "agb")}, 2),
        (replace(TWO, alpha=2), {"data_bands": frozenset({1, 2}), "wanted": 1}, 1),
        (ONE, {"listed": listing("b1", "b2", "b3")}, 1),
    ],
)
def test_a_band_is_the_one_that_is_numbered_or_named(header, said, band):
    assert decide(header, **said).stored.band == band


@pytest.mark.parametrize(
    ("header", "said", "words"),
    [
        (TWO, {}, "the file has 2 bands, and nothing says which of them is agb"),
        (TWO, {"listed": listing("red", "nir")}, "the item lists red, nir"),
        (TWO, {"wanted": 3}, "the file has 2 bands, band 3 is asked for"),
        (TWO, {"wanted": "height"}, "which of them is height"),
        (ONE, {"neighbours": ("agb_sd",)}, "the file has 1 band, which agb_sd is read from too"),
        (ONE, {"wanted": "height"}, "the file has 1 band, and nothing says"),
        (replace(TWO, names=("agb", "sd")), {"listed": listing("sd", "agb")}, "band 2 by the item and 1 by its header"),
        (replace(TWO, names=("agb", "agb")), {}, "nothing says"),
        (replace(ONE, alpha=1), {}, "no band of numbers"),
    ],
)
def test_a_band_that_cannot_be_told_is_refused(header, said, words):
    error = refusal(header, **said)
    assert error.subject == "band"
    assert words in str(error)


def test_an_alpha_band_that_is_said_to_be_data_hides_nothing():
    infrared = replace(ONE, dtypes=("uint8",) * 4, nodata=(None,) * 4, alpha=4)
    assert decide(infrared, wanted=1).stored.alpha == 4
    assert decide(infrared, wanted=1, data_bands=frozenset({1, 4})).stored.alpha == 0
    assert decide(infrared, wanted=1, listed=listing("r", "g", "b", "nir")).stored.alpha == 0
    assert decide(infrared, wanted=1, listed=listing("r", "g", "b", "Alpha")).stored.alpha == 4
    named = replace(infrared, names=("r", "g", "b", "nir"))
    assert decide(named, wanted="nir").stored == StoredBand(band=4)
    assert decide(replace(named, names=("r", "g", "b", "")), wanted="r").stored.alpha == 4


@given(
    st.lists(st.floats(-1e6, 1e6), max_size=3),
    st.one_of(st.none(), st.just(float("nan")), st.floats(-1e6, 1e6)),
    st.booleans(),
)
def test_all_that_anyone_calls_missing_is_missing(said, own, takes):
    decision = decide(replace(ONE, nodata=(own,)), missing=tuple(said), takes_nodata=takes)
    told = [] if own is None or np.isnan(own) or not takes else [own]
    assert set(decision.missing) == {*said, *told}
    assert ("no data" in decision.notes) == (own is not None and not np.isnan(own) and own not in said)


def test_each_band_has_its_own_value_of_no_data():
    header = replace(TWO, nodata=(0.0, -1.0))
    assert decide(header, wanted=1).missing == (0.0,)
    assert decide(header, wanted=2).missing == (-1.0,)


@given(st.floats(1e-6, 1e3), st.floats(-1e3, 1e3), st.integers(0, 60000))
def test_scale_and_offset_of_a_header_count_where_nobody_else_says(scale, offset, number):
    decision = decide(replace(ONE, scales=(scale,), offsets=(offset,)))
    found = decision.rescale(np.array([number], np.float32))[0]
    assert found == pytest.approx(np.float32(number) * scale + offset, rel=1e-5, abs=1e-3)
    assert ("offset" in decision.notes) == (offset != 0)


def test_an_offset_of_a_header_counts_beside_a_scale_of_the_item():
    decision = decide(replace(ONE, scales=(0.5,), offsets=(-3.0,)), scale=0.5)
    assert decision.rescale(np.array([10], np.float32))[0] * 0.5 == 2.0
    assert list(decision.notes) == ["offset"]


@pytest.mark.parametrize(
    ("trust", "value"), [("file", 0.001), ("declaration", 0.0001), ("baseline", 0.0001), ("flag", 0.0001)]
)
def test_trust_decides_between_two_scales(trust, value):
    header = replace(ONE, scales=(0.001,))
    assert "its header has scale 0.001, item and collection say 0.0001" in str(refusal(header, scale=0.0001))
    decision = decide(header, scale=0.0001, trust=trust)
    assert decision.gain * 0.0001 == pytest.approx(value)
    assert "0.001 by the file, 0.0001 by item and collection" in decision.notes["scale"]


@pytest.mark.parametrize(("scale", "offset"), [(0.0, 0.0), (float("nan"), 0.0), (1.0, float("inf"))])
def test_a_scale_that_is_none_is_refused(scale, offset):
    assert "no number can be calibrated" in str(refusal(replace(ONE, scales=(scale,), offsets=(offset,))))


def test_numbers_of_another_kind_than_the_item_says_are_refused_where_they_are_scaled():
    floats = replace(ONE, dtypes=("float32",))
    assert refusal(floats, dtype="uint16", scale=0.0001).subject == "type"
    assert decide(floats, dtype="uint16").notes == {"type": "float32 by the file, uint16 by the item"}
    assert "type" in decide(floats, dtype="uint16", scale=0.0001, trust="file").notes
    assert "type" in decide(ONE, dtype="int16", scale=0.0001).notes
    assert refusal(replace(ONE, dtypes=("complex64",))).subject == "type"


def test_a_file_lies_where_it_says_and_a_contradiction_is_noted():
    other = decide(crs="EPSG:32632", transform=north_up(600000, 5700000, 20), shape=(32, 32))
    assert other.notes["CRS"] == "EPSG:32633 by the file, EPSG:32632 by the item"
    assert "32 x 32 px of 20 x 20" in other.notes["place"]
    assert decide(crs="EPSG:32633", transform=north_up(600000.2, 5700000, 10), shape=(64, 64)).notes == {}
    assert "place" in decide(transform=north_up(600010, 5700000, 10), shape=(64, 64)).notes
