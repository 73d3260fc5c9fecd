"""Footprints across 180 degrees, without geometry, and of the whole world."""

import pytest
import shapely

from mapper.catalog.footprint import central_longitude, footprint, mend_geometry
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
