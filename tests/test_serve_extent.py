"""Boxes of a map: the area that was asked for, within -180 to 180 degrees."""

from types import SimpleNamespace
from xml.etree.ElementTree import fromstring

import pystac
import pytest
import shapely
import yaml
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geom import Geometry
from pyproj import Transformer
from store_maps import make_spec, write_tiles

from mapper.serve.app import make_app
from mapper.serve.extent import find_extent
from mapper.store.map_store import MapStore
from mapper.store.product import map_product

EDGE = {"kind": "projected", "crs": "EPSG:32660", "resolution": 10, "tile": 64, "chunk": 32}
PACIFIC = "EPSG:3832"
"""A Mercator of the Pacific, where the antimeridian is a line like any other."""


def describe(area, crs="EPSG:4326", **keys):
    """What :func:`find_extent` looks at."""
    return SimpleNamespace(
        spec_yaml=yaml.safe_dump({"area": keys}), kind="map", grid=SimpleNamespace(crs=crs, area=Geometry(area, crs))
    )


def project(area, crs):
    """An area in degrees, whose longitudes may go on beyond 180, in another CRS."""
    to_crs = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    return shapely.transform(shapely.segmentize(area, 0.5), to_crs.transform, interleaved=False)


def check(extent):
    """What holds of every extent."""
    west, south, east, north = extent.box
    assert -180 <= west <= 180
    assert -180 <= east <= 180
    assert -90 <= south < north <= 90
    longitude, latitude = extent.centre
    assert any(w <= longitude <= e and s <= latitude <= n for w, s, e, n in extent.boxes)
    assert extent.geometry.is_valid
    outer = shapely.union_all([shapely.box(*box) for box in extent.boxes]).buffer(1e-9)
    assert outer.contains(extent.geometry)
    return extent.box


@given(west=st.floats(-180, 180), width=st.floats(0.01, 170), south=st.floats(-80, 70), height=st.floats(0.01, 10))
def test_a_box_comes_back_and_is_split_at_the_antimeridian(west, width, south, height):
    area = shapely.box(west, south, west + width, south + height)
    extent = find_extent(describe(area))
    found = check(extent)
    assert (found[2] - found[0]) % 360 == pytest.approx(width, abs=1e-5)
    assert found[0] == pytest.approx(west, abs=1e-5) or abs(found[0] - west) == pytest.approx(360, abs=1e-5)
    assert extent.geometry.area == pytest.approx(area.area, rel=1e-3)
    assert len(extent.boxes) == (2 if found[0] > found[2] else 1)


@pytest.mark.parametrize(
    ("west", "east", "expected"),
    [(170, 190, (170, -170)), (170, 180, (170, 180)), (180, 190, (-180, -170)), (150, 179, (150, 179)),
     (-170, -150, (-170, -150))],
)  # fmt: skip
def test_polygons_of_a_projection_that_knows_no_antimeridian(west, east, expected):
    area = shapely.box(west, -20, east, 10).difference(shapely.box(west + 4, -10, west + 6, 0))
    extent = find_extent(describe(project(area, PACIFIC), PACIFIC))
    box = check(extent)
    assert (box[0], box[2]) == pytest.approx(expected, abs=1e-6)
    assert extent.geometry.area == pytest.approx(area.area, rel=1e-6)


def test_polygons_on_both_sides_have_the_short_box():
    fiji = shapely.union_all([shapely.box(177, -19, 180, -16), shapely.box(-180, -19, -178, -16)])
    extent = find_extent(describe(fiji))
    assert check(extent) == (177, -19, -178, -16)
    assert extent.centre == pytest.approx((179.5, -17.5))


def test_parts_far_apart_have_a_box_that_does_not_go_round():
    apart = shapely.union_all([shapely.box(-100, 30, -90, 40), shapely.box(100, 30, 110, 40)])
    assert check(find_extent(describe(apart))) == (-100, 30, 110, 40)


@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3413", 90), ("EPSG:3031", -90)])
def test_an_area_around_a_pole_reaches_it_and_has_all_longitudes(crs, pole):
    box = check(find_extent(describe(shapely.Point(0, 0).buffer(1e6), crs)))
    assert (box[0], box[2]) == (-180, 180)
    assert pole in box
    assert abs(box[1] + box[3]) / 2 == pytest.approx(85.4, abs=0.5)


def test_a_box_of_the_description_is_told_as_it_was_given():
    given_box = [12.0, 50.0, 12.02, 50.012]
    assert check(find_extent(describe(shapely.box(0, 0, 1, 1), "EPSG:3035", bbox=given_box))) == tuple(given_box)
    assert check(find_extent(describe(shapely.box(0, 0, 1, 1), bbox=[179, 0, -179, 1]))) == (179, 0, -179, 1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A map up to the antimeridian, whose tiles go on beyond it."""
    folder = tmp_path_factory.mktemp("edge")
    area = shapely.box(179.985, 50.0, 180.0, 50.004)
    (folder / "area.geojson").write_text(shapely.to_geojson(area))
    spec = make_spec(folder / "map.icechunk", grid=EDGE, area={"geojson": str(folder / "area.geojson")})
    MapStore.create(spec.store, map_product(spec))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        write_tiles(writer, spec, list(spec.map_grid.tiles())[:1])
    return spec.store


def test_a_map_at_the_antimeridian_is_no_map_of_the_world(store):
    client = TestClient(make_app(store))
    box = pytest.approx((179.985, 50.0, 180.0, 50.004), abs=1e-6)
    tilejson = client.get("/tilejson.json").json()
    assert tilejson["bounds"] == box
    assert tilejson["center"][:2] == pytest.approx((179.9925, 50.002), abs=1e-6)
    item, collection = client.get("/stac/item").json(), client.get("/stac").json()
    assert item["bbox"] == box
    assert pystac.Collection.from_dict(collection).extent.spatial.bboxes == [box]
    assert shapely.geometry.shape(item["geometry"]).bounds == box
    root = fromstring(client.get("/wmts").content)  # noqa: S314
    corners = {"west": "LowerCorner", "east": "UpperCorner"}
    told = [
        tuple(float(part) for name in corners.values() for part in box.find(f"{{http://www.opengis.net/ows/1.1}}{name}").text.split())
        for box in root.iter("{http://www.opengis.net/ows/1.1}WGS84BoundingBox")
    ]  # fmt: skip
    assert told[0] == box


def test_a_map_across_the_antimeridian_is_told_in_the_way_of_each_format(store, monkeypatch):
    across = find_extent(describe(shapely.box(179, 50, 181, 51)))
    monkeypatch.setattr("mapper.serve.stac.find_extent", lambda _: across)
    monkeypatch.setattr("mapper.serve.tiles.layers.find_extent", lambda _: across)
    client = TestClient(make_app(store))
    assert client.get("/stac/item").json()["bbox"] == [179, 50, -179, 51]
    assert client.get("/stac/item").json()["geometry"]["type"] == "MultiPolygon"
    tilejson = client.get("/tilejson.json").json()
    assert tilejson["bounds"] == [-180, 50, 180, 51]
    assert abs(tilejson["center"][0]) == 180
    assert client.get("/wmts").text.count("WGS84BoundingBox>") == 2 * 2 * len(tilejson["variables"])
