"""Calibration is decided for every item, from what it declares."""

import json

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
        (item({"raster:scale": 1e-4, "raster:offset": -0.1}, **{"s2:processing_baseline": "02.00"}), -0.1),
        (item({"raster:bands": [{"scale": 1e-4, "offset": 0}]}, **{"s2:processing_baseline": "05.10"}), 0),
        (item({"bands": [{"raster:scale": 1e-4, "raster:offset": -0.1}]}), -0.1),
        (item({"raster:bands": [{"scale": 1e-4}]}, **{"s2:processing_baseline": "05.10"}), -0.1),
        (item(**{"earthsearch:boa_offset_applied": True, "s2:processing_baseline": "05.10"}), 0),
        (item(**{"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "05.10"}), -0.1),
    ],
)
def test_the_offset_follows_declaration_then_baseline(described, offset):
    assert decide(described, S2, "B02").offset == offset


def test_the_date_decides_nothing():
    early = item(datetime="2018-06-01T00:00:00Z", **{"s2:processing_baseline": "05.00"})
    late = item(datetime="2023-06-01T00:00:00Z", **{"s2:processing_baseline": "02.00"})
    assert decide(early, S2, "B02").offset == -0.1
    assert decide(late, S2, "B02").offset == 0


def test_an_item_that_does_not_say_is_refused_by_name():
    with pytest.raises(SpecError, match=r"item x declares neither raster:offset for B02 nor a processing baseline"):
        decide(item(), S2, "B02")


def test_an_item_that_contradicts_itself_is_refused():
    asset = {"raster:bands": [{"scale": 1e-4, "offset": -0.1}]}
    with pytest.raises(SpecError, match="cannot be told"):
        decide(item(asset, **{"earthsearch:boa_offset_applied": True}), S2, "B02")


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


def test_zero_is_missing_only_where_it_cannot_be_a_measurement():
    assert missing_values(S2) == (0.0,)
    assert missing_values(S1) == (-32768.0, 0.0)
    assert missing_values(MAP) == (65535.0,)
    decibel = S1.model_copy(update={"calibration": "decibel", "nodata": -9999, "zero_is_border": False})
    assert missing_values(decibel) == (-9999.0,)


def test_masks_let_listed_classes_and_missing_pixels_not_pass():
    np.testing.assert_array_equal(find_clear(dn(4, 9, 5, np.nan), S2.mask), [True, False, True, False])
    above = MaskRule(asset="CLP", rule="above", limit=40)
    np.testing.assert_array_equal(find_clear(dn(0, 40, 41, np.nan), above), [True, True, False, False])


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
        ("earth-search/sentinel-2-l2a/S2A_13TDE_20231008_0_L2A.json", "B02", "blue", "refused"),
        ("cdse/sentinel-2-l2a/search_2026-05-27.json", "B02", "B02_10m", "-0.1"),
    ],
)
def test_items_as_served(path, band, asset, expected):
    served = json.loads((SHARED / "stac_items" / path).read_text())
    served = served.get("features", [served])[0]
    rule = S2.model_copy(update={"bands": {band: asset}})
    if expected == "refused":
        with pytest.raises(SpecError, match="sentinel-2-c1-l2a"):
            decide(served, rule, band)
        return
    decision = decide(served, rule, band)
    assert decision.scale == 1e-4
    if expected == "baseline":
        assert decision.reason.startswith("processing baseline")
    else:
        assert decision.offset == float(expected)
