"""Footprints across 180 degrees, without geometry, and of the whole world."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer
from scenes import box_at

from mapper.catalog.footprint import central_longitude, footprint, mend_geometry, span, window_footprint
from mapper.catalog.normalise import normalise_item
from mapper.errors import SearchError, SpecError

EXPECTED = shapely.union_all([shapely.box(179, 60, 180, 61), shapely.box(-180, 60, -178, 61)])
RING = [[179, 60], [-178, 60], [-178, 61], [179, 61], [179, 60]]
UTM = {"proj:epsg": 32601}


def item(geometry, bbox=None, **properties):
    return {"id": "x", "collection": "s", "geometry": geometry, "bbox": bbox, "properties": properties, "assets": {}}


def polygon(*rings):
    return {"type": "Polygon", "coordinates": list(rings)}


@pytest.mark.parametrize(
    "served",
    [
        item(polygon(RING), **UTM),
        item(polygon(RING)),
        item(polygon(RING), [179, 60, -178, 61], **{"proj:epsg": 4326}),
        item(polygon([[x % 360, y] for x, y in RING]), **UTM),
        item({"type": "MultiPolygon", "coordinates": [[RING]]}, **UTM),
        item(None, [179, 60, -178, 61]),
        item(None, [179, 60, 0, -178, 61, 100]),
        item(shapely.geometry.mapping(EXPECTED)),
    ],
)
def test_what_crosses_180_degrees_is_on_both_sides_and_nowhere_else(served):
    assert footprint(served).equals(EXPECTED)
    assert central_longitude(served) == pytest.approx(-179.5)
    assert shapely.geometry.shape(mend_geometry(served)).equals(EXPECTED)


@pytest.mark.parametrize(
    "served",
    [
        item(shapely.geometry.mapping(shapely.box(-180, -90, 180, 90))),
        item(shapely.geometry.mapping(shapely.box(-180, -60, 180, 80)), [-180, -60, 180, 80], **UTM),
        item(shapely.geometry.mapping(shapely.box(-179.9, -60, 179.9, 80)), **{"proj:code": "EPSG:4326"}),
    ],
)
def test_maps_of_the_whole_world_stay_whole(served):
    assert footprint(served).area > 50000
    assert central_longitude(served) == 0
    assert mend_geometry(served) == served["geometry"]


def test_a_sound_geometry_is_kept_to_the_letter():
    served = item(polygon([[14, 50], [15, 50], [15, 51], [14, 50]]))
    assert mend_geometry(served) == served["geometry"]


def test_an_item_that_lies_nowhere_is_refused():
    with pytest.raises(SpecError, match="item x has neither a geometry nor a box"):
        footprint(item(None))
    with pytest.raises(SearchError, match=r"x.*neither a geometry nor a box"):
        normalise_item(item(None, datetime="2020-01-01T00:00:00Z"), assets=frozenset())


@pytest.mark.parametrize("numbers", [float("nan"), float("inf")])
def test_coordinates_that_are_no_numbers_are_refused(numbers):
    with pytest.raises(SpecError, match="item x has a geometry"):
        footprint(item(polygon([[14, 50], [numbers, 50], [15, 51], [14, 50]])))
    with pytest.raises(SpecError, match="item x has a box that is none"):
        footprint(item(None, [14, 50, numbers, 51]))


WINDOWS = [
    ("EPSG:32601", 166021 - 30000, 6650000, 200.0),  # from zone 1 across 180
    ("EPSG:32760", 810000, 8200000, 100.0),
    ("EPSG:3857", 20037508 - 20000, 8000000, 300.0),
    ("EPSG:3413", -2500000, 900000, 20000.0),  # around the pole
    ("EPSG:3031", 1000000, 1500000, 3000.0),
    ("EPSG:4326", 175.0, -10.0, 0.1),
    ("EPSG:3035", 4400000, 3200000, 100.0),
]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(WINDOWS), st.integers(0, 127), st.integers(0, 127), st.floats(-179.999, 179.999), st.floats(-89, 89)
)
def test_the_footprint_of_a_window_holds_its_pixels_and_no_point_far_from_them(window, row, col, longitude, latitude):
    geobox = box_at(*window[:3], step=window[3])
    found = window_footprint(geobox)
    assert found.is_valid
    assert found.bounds[0] >= -180
    assert found.bounds[2] <= 180
    x, y = geobox.transform @ (col + 0.5, row + 0.5)
    lon, lat = Transformer.from_crs(window[0], "EPSG:4326", always_xy=True).transform(x, y)
    assert shapely.intersects_xy(found.buffer(1e-9), (lon + 180) % 360 - 180, lat)
    x, y = Transformer.from_crs("EPSG:4326", window[0], always_xy=True).transform(longitude, latitude)
    left, bottom, right, top = geobox.pad(4).boundingbox.bbox
    if np.isfinite(x) and not (left <= x <= right and bottom <= y <= top):
        turned = Transformer.from_crs("EPSG:4326", window[0], always_xy=True).transform(longitude + 360, latitude)[0]
        assert shapely.intersects_xy(found, longitude, latitude) <= (left <= turned <= right)


def test_a_footprint_spans_the_shorter_way():
    assert span(EXPECTED) == (179, 60, 182, 61)
    assert span(shapely.box(-180, -90, 180, 90)) == (-180, -90, 180, 90)
    assert span(shapely.MultiPolygon([shapely.box(10, 0, 11, 1), shapely.box(14, 0, 15, 1)])) == (10, 0, 15, 1)
