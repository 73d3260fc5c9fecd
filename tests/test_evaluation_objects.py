"""Objects are matched as the published scorer matches them, whether they are polygons or pixels."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from shared import SHARED, needs_shared

from mapper.errors import InputError
from mapper.evaluation.objects import (
    ObjectCounts,
    PixelCounts,
    count_pixels,
    label_objects,
    overlap_masks,
    overlap_polygons,
)

GOLDEN = SHARED / "super_resolution" / "buildings_f1"
MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))


def read_table(name):
    """Polygons by image."""
    csv.field_size_limit(10**7)
    polygons = {}
    with (GOLDEN / name).open() as file:
        for row in csv.DictReader(file):
            polygons.setdefault(row["ImageId"], []).append(shapely.from_wkt(row["PolygonWKT_Pix"]))
    return polygons


def read_features(name):
    return [shapely.geometry.shape(each["geometry"]) for each in json.loads((GOLDEN / name).read_text())["features"]]


@pytest.fixture(scope="module")
def tables():
    return read_table("SN2_sample_preds.csv"), read_table("SN2_sample_truth.csv")


@needs_shared
@pytest.mark.parametrize(
    ("town", "least_px", "threshold", "counts", "f1"),
    [
        ("Vegas", 0, 0.5, (35, 2, 7), 0.8861),
        ("Vegas", 20, 0.5, (35, 2, 7), 0.8861),
        ("Vegas", 0, 0.25, (37, 0, 5), 0.9367),
        ("Khartoum", 20, 0.5, (52, 55, 75), 0.4444),
        ("Khartoum", 0, 0.5, (52, 55, 77), 0.4407),
        ("Khartoum", 0, 0.25, (76, 31, 53), 0.6441),
    ],
)
def test_published_tables_are_reproduced(tables, town, least_px, threshold, counts, f1):
    predicted, true = tables
    total = ObjectCounts()
    for image in (name for name in true if town in name):
        kept = [polygon for polygon in true[image] if polygon.area >= least_px]
        total += overlap_polygons(predicted[image], kept).match(threshold)
    assert (total.found, total.invented, total.missed) == counts
    assert total.f1 == pytest.approx(f1, abs=5e-5)
    if town == "Vegas" and threshold == 0.5:
        assert (total.precision, total.recall) == pytest.approx((0.9459459459459459, 0.8333333333333334), abs=1e-15)


@needs_shared
@pytest.mark.parametrize("threshold", [0.5, 0.25])
def test_the_published_pair_is_reproduced(threshold):
    names = (f"{what}_108_1040010044D30600.geojson" for what in ("preds", "gt"))
    counts = overlap_polygons(*map(read_features, names)).match(threshold)
    assert counts == ObjectCounts(found=132, invented=3, missed=0)
    assert counts.f1 == pytest.approx(0.9888, abs=5e-5)


def polygons_of(mask):
    """Each object as the union of its pixels: nothing of the labels' areas is used."""
    labels, number = label_objects(mask)
    return [
        shapely.unary_union([shapely.box(x, y, x + 1, y + 1) for y, x in np.argwhere(labels == k)])
        for k in range(1, number + 1)
    ]


@settings(max_examples=40, deadline=None)
@given(MASKS, st.randoms(use_true_random=False), st.sampled_from([0.1, 0.25, 0.5, 1.0]))
def test_masks_and_polygons_have_the_same_overlaps(mask, chance, threshold):
    true = mask ^ (np.array([chance.random() for _ in range(mask.size)]).reshape(mask.shape) < 0.2)
    pixels, polygons = overlap_masks(mask, true), overlap_polygons(polygons_of(mask), polygons_of(true))
    assert (pixels.predictions, pixels.truths) == (polygons.predictions, polygons.truths)
    assert sorted(zip(pixels.prediction, pixels.truth, pixels.iou.round(12), strict=True)) == sorted(
        zip(polygons.prediction, polygons.truth, polygons.iou.round(12), strict=True)
    )
    counts = pixels.match(threshold)
    assert counts.found + counts.invented == pixels.predictions
    assert counts.found + counts.missed == pixels.truths


@settings(max_examples=40, deadline=None)
@given(MASKS, st.randoms(use_true_random=False))
def test_pixels_are_counted_once(mask, chance):
    true = mask ^ (np.array([chance.random() for _ in range(mask.size)]).reshape(mask.shape) < 0.3)
    counts = count_pixels(mask, true)
    assert counts.both + counts.predicted + counts.true + counts.neither == mask.size
    either = (mask | true).sum()
    assert counts.iou == pytest.approx((mask & true).sum() / either) if either else math.isnan(counts.iou)
    swapped = count_pixels(~mask, ~true)
    assert counts.mean_iou == pytest.approx(swapped.mean_iou, nan_ok=True)


def test_an_object_is_matched_by_one_prediction_alone():
    truth = shapely.box(0, 0, 10, 10)
    halves = [shapely.box(0, 0, 4, 10), shapely.box(4, 0, 10, 10)]
    overlaps = overlap_polygons(halves, [truth])
    assert overlaps.match(0.3) == ObjectCounts(found=1, invented=1, missed=0)
    assert overlaps.match(0.7) == ObjectCounts(found=0, invented=2, missed=1)


def test_the_confident_choose_first():
    truths = [shapely.box(0, 0, 10, 10), shapely.box(10, 0, 20, 10)]
    wide, left = shapely.box(1, 0, 11, 10), shapely.box(0, 0, 10, 10)
    overlaps = overlap_polygons([wide, left], truths)
    assert overlaps.match(0.5).found == 1
    assert overlaps.match(0.05).found == 2, "the perfect one takes its truth, the wide one the other"
    assert overlaps.match(0.05, confidence=[0.9, 0.1]).found == 1, "the wide one takes what it overlaps most"


def test_corners_do_not_join_and_edges_do():
    mask = np.array([[1, 0, 1], [0, 1, 1], [1, 0, 0]], bool)
    labels, number = label_objects(mask)
    assert number == 3
    assert labels[0, 2] == labels[1, 1] == labels[1, 2]


def test_images_add_up():
    one, two = ObjectCounts(found=1, invented=2, missed=3), ObjectCounts(found=4, missed=1)
    assert one + two == ObjectCounts(found=5, invented=2, missed=4)
    pixels = PixelCounts(both=3, predicted=1, true=2, neither=10)
    assert pixels + pixels == PixelCounts(both=6, predicted=2, true=4, neither=20)
    assert (pixels.iou, pixels.mean_iou) == (0.5, pytest.approx((0.5 + 10 / 13) / 2))


def test_what_is_not_known_does_not_count():
    mask, known = np.array([[True, True, False]]), np.array([[True, False, True]])
    assert count_pixels(mask, ~mask, known=known) == PixelCounts(predicted=1, true=1)


def test_nothing_has_no_score():
    nothing = overlap_polygons([], []).match(0.5)
    assert nothing == ObjectCounts()
    assert all(map(math.isnan, (nothing.precision, nothing.recall, nothing.f1)))
    square = shapely.box(0, 0, 1, 1)
    assert overlap_polygons([square], []).match(0.5) == ObjectCounts(invented=1)
    assert overlap_polygons([shapely.Polygon()], [square]).match(0.5) == ObjectCounts(missed=1)
    empty = np.zeros((3, 4), bool)
    assert overlap_masks(empty, empty).match(0.5) == ObjectCounts()


def test_a_polygon_that_crosses_itself_is_what_lies_inside():
    bow = shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
    assert overlap_polygons([bow], [shapely.box(0, 0, 2, 2)]).iou.tolist() == pytest.approx([0.5])


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, math.nan])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(InputError, match="expected more than 0"):
        overlap_polygons([], []).match(threshold)


def test_confidences_are_one_for_each_prediction():
    overlaps = replace(overlap_polygons([shapely.box(0, 0, 1, 1)], []), predictions=2)
    with pytest.raises(InputError, match="1 confidences for 2 predictions"):
        overlaps.match(0.5, confidence=[1.0])


def test_masks_of_other_shapes_or_types_are_refused():
    mask = np.ones((2, 2), bool)
    for other in (np.ones((2, 3), bool), np.ones((2, 2), np.uint8)):
        with pytest.raises(InputError, match="bool arrays of one shape"):
            overlap_masks(mask, other)
        with pytest.raises(InputError, match="bool arrays of one shape"):
            count_pixels(mask, other)
