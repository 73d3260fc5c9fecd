"""The area of a map from GeoJSON of any kind: the polygons that are meant, or one line that says what is wrong."""

import json

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer

from mapper.errors import GridError, SpecError
from mapper.grid import project_area
from mapper.spec.area_file import read_area

SQUARE = [[12, 50], [13, 50], [13, 51], [12, 51], [12, 50]]
BOX = shapely.box(12, 50, 13, 51)
ELSEWHERE = [[14, 50], [15, 50], [15, 51], [14, 51], [14, 50]]


def polygon(*rings):
    return {"type": "Polygon", "coordinates": list(rings)}


def feature(geometry):
    return {"type": "Feature", "properties": None, "geometry": geometry}


def collection(*features):
    return {"type": "FeatureCollection", "features": list(features)}


def together(*geometries):
    return {"type": "GeometryCollection", "geometries": list(geometries)}


def read(folder, content):
    path = folder / "area.geojson"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_area(path)


POINT = {"type": "Point", "coordinates": [12, 50]}
LINE = {"type": "LineString", "coordinates": SQUARE}
EMPTY = {"type": "Polygon", "coordinates": []}


@pytest.mark.parametrize(
    "content",
    [
        polygon(SQUARE),
        polygon(SQUARE[::-1]),
        polygon(SQUARE[:-1]),  # not closed
        polygon([[*point, 300 + k] for k, point in enumerate(SQUARE)]),
        feature(polygon([[*point, 0.0] for point in SQUARE])),
        collection(feature(None), feature(polygon(SQUARE)), None, feature(POINT), feature(EMPTY)),
        together(POINT, together(LINE, polygon(SQUARE))),
        feature(together(polygon(SQUARE), EMPTY)),
        {"type": "MultiPolygon", "coordinates": [[SQUARE], [SQUARE]]},
        polygon([[x - 360, y] for x, y in SQUARE]),
        polygon(SQUARE) | {"crs": None},
        polygon(SQUARE) | {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}},
        polygon(SQUARE) | {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::4326"}}},
        "\ufeff" + json.dumps(polygon(SQUARE)),
    ],
)
def test_what_means_a_square_is_the_square(tmp_path, content):
    found = read(tmp_path, content)
    assert found.equals(BOX)
    assert not found.has_z


def test_what_is_valid_keeps_its_numbers_to_the_last_bit(tmp_path):
    # they enter the digest of the map
    rng = np.random.default_rng(2)
    shape = shapely.union_all([shapely.Point(*rng.uniform(10, 11, 2)).buffer(0.1) for _ in range(9)])
    text = shapely.to_geojson(shape)
    expected = shapely.union_all(shapely.get_parts(shapely.from_geojson(text)))
    assert read(tmp_path, text).wkb_hex == expected.wkb_hex
    features = collection(feature(json.loads(text)), feature(polygon(ELSEWHERE)))
    expected = shapely.union_all(shapely.get_parts(shapely.from_geojson(json.dumps(features))))
    assert read(tmp_path, features).wkb_hex == expected.wkb_hex


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=4, max_size=9))
def test_a_ring_that_crosses_itself_is_mended_to_all_it_encloses(tmp_path_factory, points):
    ring = [[10 + x / 8, 50 + y / 8] for x, y in points]
    ring.append(ring[0])
    expected = shapely.make_valid(shapely.Polygon(ring))
    folder = tmp_path_factory.mktemp("crossing")
    if not expected.area:
        with pytest.raises(SpecError, match="no polygon with an area"):
            read(folder, polygon(ring))
        return
    found = read(folder, polygon(ring))
    assert found.is_valid
    assert found.area == pytest.approx(expected.area)


def test_holes_before_their_shell_are_holes(tmp_path):
    hole = [[12.2, 50.2], [12.4, 50.2], [12.4, 50.4], [12.2, 50.4], [12.2, 50.2]]
    right, wrong = read(tmp_path, polygon(SQUARE, hole)), read(tmp_path, polygon(hole, SQUARE))
    assert wrong.equals(right)
    assert right.area == pytest.approx(1 - 0.04)


def test_longitudes_beyond_180_are_those_of_the_other_side(tmp_path):
    found = read(tmp_path, polygon([[x + 170, y] for x, y in SQUARE]))
    assert found.equals(shapely.box(-178, 50, -177, 51))
    touching = read(tmp_path, polygon([[x + 168, y] for x, y in SQUARE]))
    assert touching.equals(shapely.box(-180, 50, -179, 51))
    with pytest.raises(GridError, match=r"179.5 to 180.5: areas across the antimeridian"):
        project_area(read(tmp_path, polygon([[x + 167.5, y] for x, y in SQUARE])), "EPSG:32701")


def test_overlapping_polygons_count_once(tmp_path):
    assert read(tmp_path, collection(*[feature(polygon(SQUARE))] * 3)).equals(BOX)


@pytest.mark.parametrize("name", ["EPSG:32633", "urn:ogc:def:crs:EPSG::3857", "EPSG:3035", "EPSG:4258"])
def test_a_crs_member_is_honoured(tmp_path, name):
    there = Transformer.from_crs("EPSG:4326", CRS.from_user_input(name), always_xy=True)
    left, bottom, right, top = there.transform_bounds(14.0, 51.0, 14.2, 51.1)
    square = shapely.geometry.mapping(shapely.box(left, bottom, right, top))
    found = read(tmp_path, square | {"crs": {"type": "name", "properties": {"name": name}}})
    rng = np.random.default_rng(0)
    x, y = rng.uniform(left - 500, right + 500, 400), rng.uniform(bottom - 500, top + 500, 400)
    inside = (x > left) & (x < right) & (y > bottom) & (y < top)
    lon, lat = Transformer.from_crs(CRS.from_user_input(name), "EPSG:4326", always_xy=True).transform(x, y)
    if name == "EPSG:4258":
        x, y, inside = lon, lat, shapely.contains_xy(shapely.box(left, bottom, right, top), lon, lat)
    assert (shapely.contains_xy(found, lon, lat) == inside).mean() > 0.995


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "no GeoJSON"),
        ("[1, 2]", "an object with a type is expected"),
        ("null", "no GeoJSON"),
        ("{" * 3000, "no GeoJSON"),
        ("[" * 200000, "no GeoJSON"),
        ('{"type": "Polygon", "coordinates": [[[NaN, 1], [2, 3], [4, 5]]]}', "NaN is no coordinate"),
        (polygon([[12, 50]]), "no GeoJSON"),
        (polygon([["a", "b"], ["c", "d"], ["e", "f"]]), "no GeoJSON"),
        ({"type": "Polygon"}, "no GeoJSON"),
        (POINT, "holds no polygon, but 1 Point"),
        (collection(feature(POINT), feature(LINE), feature(LINE)), "holds no polygon, but 2 LineString, 1 Point"),
        (collection(), "holds no polygon, but nothing"),
        (collection(feature(None)), "holds no polygon, but nothing"),
        (feature(EMPTY), "holds no polygon, but 1 Polygon"),
        (polygon([[12, 50], [13, 51], [12, 50]]), "no GeoJSON|no polygon with an area"),
        (polygon([[12, 50], [13, 51], [14, 52], [12, 50]]), "no polygon with an area"),
        (
            polygon([[600000, 5700000], [601000, 5700000], [601000, 5701000]]),
            r"in degrees .* crs",
        ),
        (polygon([[50, 112], [51, 112], [51, 113]]), "longitude and latitude in degrees are expected, in this order"),
        ('{"type": "Polygon", "coordinates": [[[1e999, 1], [2, 3], [4, 5]]]}', "longitude and latitude in degrees"),
        (
            polygon(SQUARE) | {"crs": {"type": "name", "properties": {"name": "EPSG:99999"}}},
            "names no coordinate",
        ),
        (polygon(SQUARE) | {"crs": {"type": "link", "properties": {"href": "http://a"}}}, "names no coordinate"),
        (polygon(SQUARE) | {"crs": "EPSG:4326"}, "names no coordinate reference"),
        (
            polygon([[1e12, 1e12], [2e12, 1e12], [2e12, 2e12]])
            | {"crs": {"type": "name", "properties": {"name": "EPSG:32633"}}},
            "have no longitude and latitude",
        ),
    ],
)
def test_what_is_no_area_is_refused_in_one_line(tmp_path, content, line):
    with pytest.raises(SpecError, match=line) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)
    assert "area.geojson" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_file_that_is_not_there_or_huge_is_refused(tmp_path, monkeypatch):
    with pytest.raises(SpecError, match="cannot be read"):
        read_area(tmp_path / "none.geojson")
    (tmp_path / "binary.geojson").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match="no GeoJSON"):
        read_area(tmp_path / "binary.geojson")
    ring = np.round(np.array(shapely.Point(12, 50).buffer(1, quad_segs=200).exterior.coords), 4).tolist()
    monkeypatch.setattr("mapper.spec.area_file._MOST_VERTICES", 700)
    with pytest.raises(SpecError, match="801 vertices, at most 700 make an area: simplify it"):
        read(tmp_path, polygon(ring))
    monkeypatch.setattr("mapper.spec.area_file._MOST_BYTES", 100)
    with pytest.raises(SpecError, match="MiB, at most 0 are read: simplify it"):
        read(tmp_path, polygon(ring))
