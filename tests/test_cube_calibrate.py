"""Calibration is decided for every item, from what it declares."""

import json
import re

import numpy as np
import pytest
from scenes import MAP, S1, S2
from shared import SHARED, needs_shared

from mapper.catalog.provider import MaskRule
from mapper.cube.calibrate import Calibration, apply, decide, find_clear, missing_values, to_decibel, to_power
from mapper.errors import SpecError


def item(asset=None, **properties):
    return {"id": "x", "assets": {"B02": asset or {}}, "properties": properties}


def dn(*values):
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("described", "offset"),
    [
        (item(**{"s2:processing_baseline": "05.10"}), -0.1),
        (item(**{"s2:processing_baseline": "04.00"}), -0.1),
        (item(**{"s2:processing_baseline": "03.01"}), 0),
        (item(**{"s2:processing_baseline": "N0211"}), 0),
        (item(**{"s2:processing_baseline": "99.99"}), -0.1),
        (item(**{"processing:version": "05.12"}), -0.1),
        (item(**{"sentinel:processing_baseline": "04.00"}), -0.1),
        (item(**{"s2:product_uri": "S2A_MSIL2A_20231008T175231_N0509_R141_T13TDE_20231008T233154.SAFE"}), -0.1),
        (item(**{"s2:product_uri": "S2A_MSIL2A_20190101T000001_N0212_R116_T60VUJ_20201007T214652.SAFE"}), 0),
        (item({"raster:scale": 1e-4, "raster:offset": -0.1}, **{"s2:processing_baseline": "05.00"}), -0.1),
        (item({"raster:bands": [{"scale": 1e-4, "offset": 0}]}, **{"s2:processing_baseline": "03.01"}), 0),
        (item({"raster:bands": [{"scale": 1e-4, "offset": 0}]}), 0),
        (item(**{"raster:scale": 1e-4, "raster:offset": -0.1}), -0.1),
        (item({"raster:offset": -0.1}, **{"processing:version": "1.4.2"}), -0.1),
        (item({"bands": [{"raster:scale": 1e-4, "raster:offset": -0.1}]}), -0.1),
        (item({"raster:bands": [{"scale": 1e-4}]}, **{"s2:processing_baseline": "05.10"}), -0.1),
        (item(**{"earthsearch:boa_offset_applied": True, "s2:processing_baseline": "05.10"}), 0),
        (item(**{"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "05.10"}), -0.1),
        (item(**{"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "03.00"}), 0),
        (item({"raster:offset": 0}, **{"sentinel:boa_offset_applied": True, "s2:processing_baseline": "05.10"}), 0),
        (item(**{"sentinel:boa_offset_applied": "true", "s2:processing_baseline": "02.10"}), 0),
        (item({"raster:offset": -0.1}, **{"earthsearch:boa_offset_applied": False}), -0.1),
    ],
)
def test_the_offset_is_what_the_item_says_with_one_voice(described, offset):
    assert decide(described, S2, "B02").offset == offset


def test_the_date_decides_nothing():
    early = item(datetime="2018-06-01T00:00:00Z", **{"s2:processing_baseline": "05.00"})
    late = item(datetime="2023-06-01T00:00:00Z", **{"s2:processing_baseline": "02.00"})
    assert decide(early, S2, "B02").offset == -0.1
    assert decide(late, S2, "B02").offset == 0


def test_an_item_that_does_not_say_is_refused_by_name():
    with pytest.raises(SpecError, match=r"item x declares neither raster:offset for B02 nor a processing baseline"):
        decide(item(), S2, "B02")


NEW = {"s2:processing_baseline": "05.10"}
APPLIED, KEPT = {"earthsearch:boa_offset_applied": True}, {"earthsearch:boa_offset_applied": False}
MINUS, ZERO = {"raster:bands": [{"scale": 1e-4, "offset": -0.1}]}, {"raster:scale": 1e-4, "raster:offset": 0}
# asset, properties: what flag, declaration and baseline each make of it; None where the item has no such word
CONTRADICTIONS = [
    (MINUS, APPLIED | NEW, {"flag": 0, "declaration": -0.1, "baseline": -0.1}),
    (MINUS, APPLIED, {"flag": 0, "declaration": -0.1, "baseline": None}),
    (MINUS, {"s2:processing_baseline": "02.00"}, {"flag": None, "declaration": -0.1, "baseline": 0}),
    (ZERO, NEW, {"flag": None, "declaration": 0, "baseline": -0.1}),
    (ZERO, KEPT | NEW, {"flag": -0.1, "declaration": 0, "baseline": -0.1}),
    (MINUS, KEPT | {"s2:processing_baseline": "02.00"}, {"flag": 0, "declaration": -0.1, "baseline": 0}),
]


@pytest.mark.parametrize(("asset", "properties", "words"), CONTRADICTIONS)
def test_an_item_that_contradicts_itself_is_refused_unless_someone_is_trusted(asset, properties, words):
    known = ", ".join(trust for trust in ("declaration", "flag", "baseline") if words[trust] is not None)
    with pytest.raises(SpecError, match=r"item x contradicts itself about the offset of B02: ") as error:
        decide(item(asset, **properties), S2, "B02")
    told = re.search(r"cannot be told: .* trust decides \((.*?)\)", str(error.value))
    assert sorted(told[1].split(", ")) == sorted(known.split(", "))
    for trust, offset in words.items():
        rule = S2.model_copy(update={"trust": trust})
        if offset is None:
            with pytest.raises(SpecError, match=f"trust is {trust}, of which the item says nothing"):
                decide(item(asset, **properties), rule, "B02")
        else:
            decision = decide(item(asset, **properties), rule, "B02")
            assert decision.offset == offset
            assert "trusted although" in str(decision)


def test_trust_changes_nothing_where_there_is_no_contradiction():
    for trust in ("flag", "declaration", "baseline"):
        rule = S2.model_copy(update={"trust": trust})
        assert decide(item(MINUS, **NEW), rule, "B02") == decide(item(MINUS, **NEW), S2, "B02")


@pytest.mark.parametrize(
    ("described", "line"),
    [
        (item({"raster:offset": -1000}), "offset of -1000 for B02: .* no reflectance"),
        (item({"raster:scale": 1, "raster:offset": 0}), "scale of 1 for asset B02, whose whole numbers"),
        (item({"raster:scale": 0}), "scale of 0"),
        (item({"raster:scale": "a lot"}), "scale 'a lot' for asset B02: not a number"),
        (item({"raster:offset": float("inf")}), "offset inf for asset B02: not a number"),
        (item(**{"earthsearch:boa_offset_applied": "perhaps"}), "neither true nor false"),
        (item({"raster:bands": [{"offset": -0.1}, {"offset": 0}]}), "several bands in asset B02 that differ in offset"),
        (item({"raster:bands": [{"offset": -0.1}], "raster:offset": 0}), "several values of offset for asset B02"),
    ],
)
def test_declarations_that_cannot_be_meant_are_refused_by_name(described, line):
    with pytest.raises(SpecError, match=f"item x.*{line}"):
        decide(described, S2, "B02")


def test_reflectance_stored_as_such_keeps_its_scale():
    stored = {"raster:scale": 1, "raster:offset": 0, "data_type": "float32"}
    assert decide(item(stored), S2, "B02").scale == 1


def test_bands_of_one_item_may_have_scales_of_their_own():
    assets = {"B02": {"raster:scale": 1e-4}, "B11": {"raster:bands": [{"scale": 2e-4}]}}
    described = {"id": "x", "assets": assets, "properties": {"s2:processing_baseline": "02.00"}}
    assert [decide(described, S2, band).scale for band in ("B02", "B11")] == [1e-4, 2e-4]


def test_a_baseline_that_is_no_number_is_refused():
    with pytest.raises(SpecError, match="not a number"):
        decide(item(**{"s2:processing_baseline": "latest"}), S2, "B02")


def test_reflectance_has_its_offset_removed_and_is_clipped_at_zero():
    new = decide(item(**{"s2:processing_baseline": "05.10"}), S2, "B02")
    old = decide(item(**{"s2:processing_baseline": "02.10"}), S2, "B02")
    np.testing.assert_allclose(apply(dn(1000, 2500, 400, np.nan), new), [0, 0.15, 0, np.nan], rtol=1e-6)
    np.testing.assert_allclose(apply(dn(1000, 2500), old), [0.1, 0.25], rtol=1e-6)
    np.testing.assert_array_equal(apply(dn(2500, 6000), new), apply(dn(1500, 5000), old))


def test_the_decision_reads_well():
    new = decide(item(**{"s2:processing_baseline": "05.10"}), S2, "B02")
    assert str(new) == "(DN - 1000) / 10000: processing baseline 05.10"
    old = decide(item({"raster:bands": [{"scale": 1e-4, "offset": 0}]}), S2, "B02")
    assert str(old) == "DN / 10000: offset declared by the item"
    trusting = S2.model_copy(update={"trust": "flag"})
    assert str(decide(item(MINUS, **APPLIED), trusting, "B02")) == (
        "DN / 10000: offset already applied, says the item, trusted although it declares an offset of -0.1; "
        "earthsearch:boa_offset_applied says that the offset was removed"
    )
    assert str(Calibration(rule="linear-power", reason="r")) == "10 log10(stored): r"


def test_power_becomes_decibel_and_no_power_is_missing():
    decibel = apply(dn(1, 0.1, 0, -0.5, np.nan), Calibration(rule="linear-power"))
    np.testing.assert_allclose(decibel, [0, -10, np.nan, np.nan, np.nan], atol=1e-5)


def test_decibel_and_power_are_inverse():
    decibel = np.linspace(-35, 10, 91, dtype=np.float32)
    np.testing.assert_allclose(to_decibel(to_power(decibel)), decibel, atol=2e-5)


def test_a_physical_band_is_kept_unless_the_item_declares_a_scale():
    stored = {"id": "x", "assets": {"agb": {}}, "properties": {}}
    np.testing.assert_array_equal(apply(dn(0, 320), decide(stored, MAP, "agb")), [0, 320])
    scaled = {"id": "x", "assets": {"agb": {"raster:scale": 0.1, "raster:offset": 5}}, "properties": {}}
    np.testing.assert_allclose(apply(dn(0, 320), decide(scaled, MAP, "agb")), [5, 37])


def test_items_that_declare_no_scale_take_that_of_the_collection():
    rule = MAP.model_copy(update={"scale": 0.0000275, "offset": -0.2})
    silent = {"id": "x", "assets": {"agb": {}}, "properties": {}}
    np.testing.assert_allclose(apply(dn(7273, 43636), decide(silent, rule, "agb")), [7.5e-6, 0.99999], atol=1e-6)
    told = {"id": "x", "assets": {"agb": {"raster:scale": 1, "raster:offset": 0}}, "properties": {}}
    np.testing.assert_array_equal(apply(dn(7273), decide(told, rule, "agb")), [7273])


@pytest.mark.parametrize("unit", ["dB", "decibel"])
def test_decibels_where_power_is_expected_are_refused_unless_trusted(unit):
    served = {"id": "x", "assets": {"vv": {"raster:bands": [{"unit": unit}]}}, "properties": {}}
    with pytest.raises(SpecError, match=f"item x declares the unit {unit} for vv.*linear-power: trust: declaration"):
        decide(served, S1, "vv")
    trusted = decide(served, S1.model_copy(update={"trust": "declaration"}), "vv")
    np.testing.assert_array_equal(apply(dn(-12.5), trusted), [-12.5])
    assert "trusted: its unit is" in trusted.reason


def test_power_where_decibels_are_expected_is_refused_unless_trusted():
    served = {"id": "x", "assets": {"vv": {"unit": "linear"}}, "properties": {}}
    decibel = S1.model_copy(update={"calibration": "decibel"})
    with pytest.raises(SpecError, match="declares the unit linear"):
        decide(served, decibel, "vv")
    trusted = decide(served, decibel.model_copy(update={"trust": "declaration"}), "vv")
    np.testing.assert_allclose(apply(dn(0.1), trusted), [-10], rtol=1e-6)


def test_zero_is_missing_only_where_it_cannot_be_a_measurement():
    plain = {"id": "x", "assets": {}, "properties": {}}
    assert missing_values(plain, S2, "B02") == (0.0,)
    assert missing_values(plain, S1, "vv") == (-32768.0, 0.0)
    assert missing_values(plain, MAP, "agb") == (65535.0,)
    decibel = S1.model_copy(update={"calibration": "decibel", "nodata": -9999, "zero_is_border": False})
    assert missing_values(plain, decibel, "vv") == (-9999.0,)
    assert missing_values(plain, MAP.model_copy(update={"nodata": None}), "agb") == ()


@pytest.mark.parametrize(
    ("asset", "values"),
    [
        ({"nodata": -9999}, (-9999.0,)),
        ({"raster:bands": [{"nodata": 0}]}, (0.0,)),
        ({"bands": [{"nodata": 255}]}, (255.0,)),
        ({"file:nodata": [0, 255]}, (0.0, 255.0)),
        ({"file:nodata": 7}, (7.0,)),
        ({"nodata": "nan"}, ()),
        ({"raster:bands": [{"nodata": "-inf"}]}, (float("-inf"),)),
        ({"nodata": "inf"}, (float("inf"),)),
        ({"nodata": "-9999"}, (-9999.0,)),
        ({"nodata": None}, ()),
    ],
)
def test_an_item_adds_its_own_nodata_in_any_spelling(asset, values):
    described = {"id": "x", "assets": {"agb": asset}, "properties": {}}
    assert missing_values(described, MAP.model_copy(update={"nodata": None}), "agb") == values
    assert set(missing_values(described, MAP, "agb")) == {*values, 65535.0}


def test_nodata_that_is_no_number_is_refused():
    described = {"id": "x", "assets": {"agb": {"nodata": "none"}}, "properties": {}}
    with pytest.raises(SpecError, match="item x declares nodata 'none' for asset agb: not a number"):
        missing_values(described, MAP, "agb")


def test_masks_let_listed_classes_and_missing_pixels_not_pass():
    np.testing.assert_array_equal(find_clear(dn(4, 9, 5, np.nan), S2.mask), [True, False, True, False])
    above = MaskRule(asset="CLP", rule="above", limit=40)
    np.testing.assert_array_equal(find_clear(dn(0, 40, 41, np.nan), above), [True, True, False, False])
    bits = MaskRule(asset="QA", rule="bits", bits=(1, 3))
    np.testing.assert_array_equal(
        find_clear(dn(0, 1, 2, 8, 10, 21824, np.nan), bits), [True, True, False, False, False, True, False]
    )


@needs_shared
@pytest.mark.parametrize(
    ("path", "band", "asset", "expected"),
    [
        (
            "planetary-computer/sentinel-2-l2a/S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531.json",
            "B02",
            "B02",
            "baseline",
        ),
        ("cdse/sentinel-2-l2a/search_2026-05-27.json", "B02", "B02_10m", "-0.1"),
    ],
)
def test_items_as_served(path, band, asset, expected):
    served = json.loads((SHARED / "stac_items" / path).read_text())
    served = served.get("features", [served])[0]
    rule = S2.model_copy(update={"bands": {band: asset}})
    decision = decide(served, rule, band)
    assert decision.scale == 1e-4
    if expected == "baseline":
        assert decision.reason.startswith("processing baseline")
    else:
        assert decision.offset == float(expected)


def test_bands_of_one_asset_are_declared_apart():
    """By number, by name, and as we call them; in any of the lists that STAC knows."""
    rule = MAP.model_copy(
        update={"nodata": None, "bands": {"agb": "map", "agb_sd": {"asset": "map", "band": "spread"}}}
    )
    numbers = [{"scale": 0.1, "nodata": -1}, {"scale": 0.5, "nodata": -2}]
    names = [{"name": "agb"}, {"eo:common_name": "spread"}]
    prefixed = [{f"raster:{key}": value for key, value in band.items()} for band in numbers]
    listed = [name | band for name, band in zip(names, prefixed, strict=True)]
    cases = [{"raster:bands": numbers, "eo:bands": names}, {"bands": listed}]
    for asset in cases:
        described = {"id": "x", "assets": {"map": asset}, "properties": {}}
        assert [decide(described, rule, band).scale for band in ("agb", "agb_sd")] == [0.1, 0.5]
        assert [missing_values(described, rule, band) for band in ("agb", "agb_sd")] == [(-1,), (-2,)]
    numbered = rule.model_copy(update={"bands": {"agb": {"asset": "map", "band": 2}}})
    assert (
        decide({"id": "x", "assets": {"map": {"raster:bands": numbers}}, "properties": {}}, numbered, "agb").scale
        == 0.5
    )
    with pytest.raises(SpecError, match="which is meant cannot be told"):
        decide({"id": "x", "assets": {"map": {"raster:bands": numbers}}, "properties": {}}, rule, "agb")
