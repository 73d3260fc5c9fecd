"""Which items make one image: decided by each item alone, whatever spelling it uses and whatever bands it has."""

import itertools

import numpy as np
import pytest
from scenes import HERE, MAP, S1, S2, flat, write_item

from mapper.catalog.items import freeze_items
from mapper.catalog.provider import name_pass
from mapper.cube.observations import group_items
from mapper.cube.open import open_cube
from mapper.cube.read import read_block
from mapper.errors import SpecError

SQUARE = {"type": "Polygon", "coordinates": [[[14, 50], [15, 50], [15, 51], [14, 51], [14, 50]]]}


def item(name="x", when="2020-06-01T10:00:00Z", assets=("B02",), *, declared=None, geometry=SQUARE, **properties):
    return {
        "id": name,
        "collection": "s",
        "geometry": geometry,
        "properties": {"datetime": when, "s2:processing_baseline": "02.11", **properties},
        "assets": {key: {"href": f"{key}.tif", **(declared or {}).get(key, {})} for key in assets},
    }


def ids(groups):
    return [[each["id"] for each in group.items] for group in groups]


@pytest.mark.parametrize("spelling", ["SENTINEL-1C", "Sentinel-1C", "sentinel-1c", "S1C", "s1c", "Sentinel 1C"])
def test_satellites_and_orbits_are_the_same_in_any_spelling(spelling):
    served = item(platform=spelling, **{"sat:orbit_state": "ASCENDING", "sat:relative_orbit": 44})
    assert name_pass(served, S1) == "2020-06-01 sentinel-1c ascending 44"


def test_satellites_and_orbits_that_differ_are_images_of_their_own():
    kinds = [
        {"platform": platform, "sat:orbit_state": state, "sat:relative_orbit": number}
        for platform in ("sentinel-1a", "sentinel-1c")
        for state, number in (("ascending", 44), ("descending", 95), ("ascending", 117))
    ]
    items = [item(f"{k}", assets=("vv",), **kind) for k, kind in enumerate(kinds)]
    assert len(group_items(items, S1, ["vv"])) == len(kinds)
    assert len(group_items(items, S1.model_copy(update={"group_by": ()}), ["vv"])) == 1


def test_zero_is_an_orbit_number():
    assert name_pass(item(**{"sat:relative_orbit": 0}), S2) == "2020-06-01 0"


def test_single_and_dual_polarisation_of_one_pass_are_one_image_in_any_order():
    items = [item("a", assets=("vv",)), item("b", assets=("vv", "vh")), item("c", assets=("vh",))]
    for order in itertools.permutations(items):
        (group,) = group_items(order, S1, ["vv", "vh"])
        assert ids([group]) == [["a", "b", "c"]]
        assert set(group.calibrations) == {"vv", "vh"}


def test_items_whose_bands_are_calibrated_otherwise_are_never_mixed():
    half, full = {"raster:scale": 5e-5, "raster:offset": 0}, {"raster:scale": 1e-4, "raster:offset": 0}
    items = [
        item("a", assets=("B02", "B11"), declared={"B02": full, "B11": half}),
        item("b", assets=("B02", "B11"), declared={"B02": half, "B11": full}),
        item("c", assets=("B02", "B11"), declared={"B02": full, "B11": half}),
    ]
    for order in itertools.permutations(items):
        groups = group_items(order, S2, ["B02", "B11"])
        assert ids(groups) == [["a", "c"], ["b"]]
        assert [group.calibrations["B02"].scale for group in groups] == [1e-4, 5e-5]


def test_a_pass_over_the_antimeridian_has_the_day_of_its_own_sun():
    """Both halves of longitude 180: near noon by the sun, close to midnight of UTC."""
    uncut = {"type": "Polygon", "coordinates": [[[179, 60], [-179, 60], [-179, 61], [179, 61], [179, 60]]]}
    west = {"type": "Polygon", "coordinates": [[[178, 60], [179.9, 60], [179.9, 61], [178, 61], [178, 60]]]}
    cut = {
        "type": "MultiPolygon",
        "coordinates": [
            [[[179.5, 60], [180, 60], [180, 61], [179.5, 61], [179.5, 60]]],
            [[[-180, 60], [-178.4, 60], [-178.4, 61], [-180, 61], [-180, 60]]],
        ],
    }
    for geometry, day in ((uncut, "2020-06-02"), (west, "2020-06-02"), (cut, "2020-06-01")):
        served = item(when="2020-06-01T23:59:00Z", geometry=geometry, **{"proj:epsg": 32660})
        assert name_pass(served, S2)[:10] == day


def test_radar_without_a_grid_is_refused_with_the_reason():
    ground = item("S1A_IW_GRDH", assets=("vv",), **{"sar:product_type": "GRD", "proj:epsg": None})
    with pytest.raises(SpecError, match="item S1A_IW_GRDH is a GRD product without a projection"):
        group_items([ground], S1, ["vv"])
    on_grid = item("rtc", assets=("vv",), **{"sar:product_type": "GRD", "proj:code": "EPSG:32633"})
    assert len(group_items([on_grid], S1, ["vv"])) == 1


@pytest.mark.parametrize("read", [read_block, open_cube])
def test_every_item_has_its_own_missing_values(tmp_path, read):
    """One pass, whose files mark what is missing in three ways: what is missing in one is filled by the next."""
    marks = {"a": -9999.0, "b": float("-inf"), "c": float("nan")}
    items = []
    for k, (name, mark) in enumerate(marks.items()):
        pixels, place = flat(10.0 + k, dtype=np.float32)
        pixels[:, 20 * k :] = mark
        pixels[0, 0] = 0
        served = write_item(tmp_path, name, "2020-06-01T10:00:00Z", {"agb": (pixels, place)}, collection="map")
        served["assets"]["agb"]["nodata"] = str(mark)
        items.append(served)
    rule = MAP.model_copy(update={"nodata": None})
    image = read(freeze_items(items), HERE, bands=["agb"], rule=rule)["agb"].isel(time=0).values
    expected = np.full(HERE.shape, np.nan)
    expected[:, :20], expected[:, 20:40] = 11, 12
    expected[0, 0] = 0
    np.testing.assert_array_equal(image, expected)
