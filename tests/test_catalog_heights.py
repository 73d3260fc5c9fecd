"""Rules of heights: datums are told apart and refused by name, the ground is not held against a surface."""

import pytest
from height_maps import ELLIPSOID, GEOID, HEIGHTS, TO_GEOID, make_content

from mapper.catalog.heights import check_heights, check_truth, find_datum
from mapper.catalog.provider import Provider
from mapper.errors import SpecError
from mapper.spec import parse_spec

COLLECTIONS = {
    "geoid": HEIGHTS | {"vertical_datum": GEOID, "heights": "surface"},
    "ellipsoid": HEIGHTS | {"vertical_datum": ELLIPSOID, "heights": "surface"},
    "ground": HEIGHTS | {"vertical_datum": GEOID, "heights": "ground"},
    "unnamed": HEIGHTS,
    "cover": HEIGHTS
    | {
        "vertical_datum": ELLIPSOID,
        "bands": {"elevation": "data", "canopy_height": "canopy", "tree": {"asset": "map", "classes": [10]}},
    },
}
PROVIDER = Provider(name="t", title="", kind="static", licence="", attribution="", collections=COLLECTIONS)


def spec_of(tmp_path, collection, **parts):
    return parse_spec(make_content(collection, **parts), base=tmp_path)


@pytest.mark.parametrize(
    ("collection", "target", "shift", "datum"),
    [
        ("geoid", None, None, GEOID),
        ("geoid", "epsg:3855", None, "epsg:3855"),
        ("geoid", "EPSG:9518", None, "EPSG:9518"),  # WGS 84 + EGM2008 height
        ("ellipsoid", GEOID, TO_GEOID, GEOID),
        ("ellipsoid", None, TO_GEOID, "EPSG:4979 +34.88 m"),
        ("unnamed", None, None, ""),
        ("unnamed", GEOID, None, GEOID),
        ("unnamed", GEOID, 1.5, GEOID),
    ],
)
def test_the_datum_of_a_map_is_that_of_its_target_else_of_its_source(tmp_path, collection, target, shift, datum):
    spec = spec_of(tmp_path, collection, target={"vertical_datum": target}, source={"datum_shift": shift})
    check_heights(spec, PROVIDER)
    assert find_datum(spec, PROVIDER) == datum


def layer(collection, *bands, **more):
    return {"layers": [{"collection": collection, "bands": list(bands), "static": True, **more}]}


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (
            {"target": {"vertical_datum": ELLIPSOID}},
            "source geoid has heights in EPSG:3855, the map in EPSG:4979: g",
        ),
        ({"target": {"vertical_datum": GEOID}, "source": {"datum_shift": 3}}, r"both .* datum_shift adds \+3 m"),
        (
            {"guide": layer("ellipsoid", "elevation")},
            "guide layer ellipsoid has heights in EPSG:4979, the map in",
        ),
        ({"guide": layer("cover", "canopy_height", "elevation")}, "guide layer cover has heights"),
        ({"consistency": "hard"}, "the mean of bare earth is not the mean of the surface"),
        ({"consistency": "soft"}, "consistency soft holds the ground against the surface of geoid"),
    ],
)
def test_heights_that_do_not_agree_are_refused_in_one_line(tmp_path, parts, words):
    with pytest.raises(SpecError, match=words) as caught:
        check_heights(spec_of(tmp_path, "geoid", **parts), PROVIDER)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("collection", "parts"),
    [
        ("geoid", {"guide": layer("ellipsoid", "elevation", datum_shift=TO_GEOID)}),
        ("geoid", {"guide": layer("cover", "canopy_height", "tree")}),
        ("geoid", {"guide": layer("unnamed", "elevation")}),
        ("geoid", {"consistency": "hard", "target": {"heights": "surface"}}),
        ("ground", {"consistency": "soft"}),
        ("unnamed", {"consistency": "hard"}),
        ("geoid", {"consistency": {"operator": "none"}}),
    ],
)
def test_heights_that_agree_are_not(tmp_path, collection, parts):
    check_heights(spec_of(tmp_path, collection, **parts), PROVIDER)


def test_a_truth_is_in_the_datum_of_its_map_or_shifted_to_it(tmp_path):
    spec = spec_of(tmp_path, "geoid")
    for datum, shift in ((GEOID, None), ("", None), (ELLIPSOID, TO_GEOID), (ELLIPSOID, 0.0), ("NZVD2016", -0.3)):
        check_truth(spec, PROVIDER, truth="truth", datum=datum, shift=shift)
    for datum, shift in ((ELLIPSOID, None), (GEOID, 1.0), (ELLIPSOID, float("nan")), ("NZVD2016", None)):
        with pytest.raises(SpecError, match="truth"):
            check_truth(spec, PROVIDER, truth="truth", datum=datum, shift=shift)
