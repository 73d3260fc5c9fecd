"""Items: order, repeats, digests, what touches what; and what happens to an item on its way in."""

import copy
import json
from datetime import UTC, datetime
from pathlib import PurePosixPath

import numpy as np
import pytest
import shapely
from affine import Affine
from catalog_fakes import make_item, make_items, make_spec
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from mapper.catalog.items import Items, _file_name, freeze_items, item_datetime, item_digest
from mapper.catalog.normalise import normalise_item
from mapper.catalog.query import make_queries
from mapper.errors import GridError, SearchError

TO_LONLAT = Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True)
FROM_LONLAT = Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True)
ALL = frozenset({"B04", "B08", "SCL", "vv", "vh", "agb", "agb_sd", "preview"})


@given(st.randoms(use_true_random=False))
def test_neither_order_nor_repeats_change_what_is_frozen(rng):
    items = make_items()
    mixed = copy.deepcopy(items + rng.sample(items, 5))
    rng.shuffle(mixed)
    assert freeze_items(mixed).digest == freeze_items(items).digest
    assert freeze_items(mixed).items == freeze_items(items).items


def test_items_are_ordered_by_collection_time_and_id():
    items = freeze_items(make_items())
    keys = [(item["collection"], item_datetime(item), item["id"]) for item in items]
    assert keys == sorted(keys)


def test_repeats_are_refused_where_nothing_would_drop_them():
    item = make_item("a")
    with pytest.raises(ValueError, match="not unique"):
        Items(items=(item, item))


def project(geometry, transformer):
    return shapely.transform(geometry, lambda xy: np.column_stack(transformer.transform(*xy.T)))


def boxes():
    degrees = st.floats(-0.4, 0.4)
    return st.builds(
        lambda x, y, w, h: (12 + x, 50 + y, 12 + x + w, 50 + y + h),
        degrees,
        degrees,
        st.floats(0.01, 0.3),
        st.floats(0.01, 0.3),
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(boxes(), min_size=1, max_size=8), st.integers(-4000, 4000), st.integers(-4000, 4000))
def test_every_item_with_a_pixel_in_a_geobox_touches_it(bounds, east, north):
    items = freeze_items(make_item(f"i{k}", bounds=box) for k, box in enumerate(bounds))
    geobox = GeoBox((128, 128), Affine(10, 0, 4437000 + east, 0, -10, 3001000 + north), "EPSG:3035")
    outline = project(shapely.segmentize(geobox.extent.geom, 100), TO_LONLAT)
    holding = {item["id"] for item in items if shapely.geometry.shape(item["geometry"]).intersects(outline)}
    near = {item["id"] for item in items if shapely.geometry.shape(item["geometry"]).distance(outline) < 0.001}
    assert holding <= {item["id"] for item in items.touching(geobox)} <= near


def test_items_are_picked_by_collection_month_and_orbit():
    items = freeze_items(make_items())
    assert {item["collection"] for item in items.of("sentinel-1-rtc")} == {"sentinel-1-rtc"}
    assert {item_datetime(item).month for item in items.of("sentinel-2-l2a").in_months((4, 8))} == {4, 8}
    assert len(items.of("sentinel-1-rtc").on_orbit("ascending")) == 5
    assert not items.on_orbit("descending")
    assert items.on_orbit(None) is items


@pytest.mark.parametrize(
    "change",
    [
        lambda item: item["properties"].update({"s2:processing_baseline": "05.10"}),
        lambda item: item["assets"]["B04"].update({"file:checksum": "1220ab"}),
        lambda item: item["assets"]["B04"].update({"href": "https://archive.test/other.tif"}),
        lambda item: item["assets"].pop("B08"),
        lambda item: item["geometry"]["coordinates"][0][0].__setitem__(0, 0.0),
        lambda item: item.update(id="b"),
    ],
)
def test_a_digest_tells_items_apart(change):
    item, other = make_item("a"), make_item("a")
    change(other)
    assert item_digest(item) != item_digest(other)


def test_a_digest_does_not_depend_on_where_files_lie():
    item, moved = make_item("a"), make_item("a")
    for asset in moved["assets"].values():
        asset["href"] = f"/mirror/{asset['href'].rsplit('/', 1)[1]}?sig=x"
    moved["links"] = []
    assert item_digest(item) == item_digest(json.loads(json.dumps(moved)))


@pytest.mark.parametrize(
    ("when", "utc"),
    [
        ("2020-06-01T00:00:00", (2020, 6, 1)),
        ("2020-06-01", (2020, 6, 1)),
        ("2020-06-01T01:30:00+02:00", (2020, 5, 31, 23, 30)),
        ("2020-05-31T19:00:00-05:00", (2020, 6, 1)),
        ("2020-06-01t00:00:00z", (2020, 6, 1)),
        ("2020-06-01 00:00:00.250000+00:00", (2020, 6, 1, 0, 0, 0, 250000)),
        ("2020-06-01T00:00:00.123456789Z", (2020, 6, 1, 0, 0, 0, 123456)),
    ],
)
def test_times_are_utc_however_they_are_written(when, utc):
    moment = item_datetime(make_item("a", when=when))
    assert moment == datetime(*utc, tzinfo=UTC)
    assert moment.tzinfo is UTC
    year = {"start_datetime": when, "end_datetime": "2021-01-01T00:00:00Z"}
    assert item_datetime(make_item("a", when=None, **year)) == moment


def test_the_month_of_an_item_is_that_of_utc():
    items = freeze_items([make_item("may", when="2020-06-01T00:30:00+02:00"), make_item("june", when="2020-06-01")])
    assert [item["id"] for item in items.in_months((6,))] == ["june"]
    assert [item["id"] for item in items] == ["may", "june"]


@pytest.mark.parametrize("when", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2020-13-01", "", 7])
def test_a_time_that_is_none_makes_an_item_unusable(when):
    with pytest.raises(SearchError, match="item 'a' is not a usable STAC item"):
        normalise_item(make_item("a", when=when), assets=ALL)


def test_an_admitted_item_is_slim_absolute_and_unsigned():
    item = make_item("a")
    item["assets"]["B04"]["href"] = "./files/B04.tif"
    item["assets"]["B08"]["href"] += "?se=1&sig=secret"
    kept = normalise_item(item, assets=frozenset({"B04", "B08", "absent"}))
    assert {key: asset["href"] for key, asset in kept["assets"].items()} == {
        "B04": "https://archive.test/sentinel-2-l2a/files/B04.tif",
        "B08": "https://archive.test/sentinel-2-l2a/a/B08.tif",
    }
    assert [link["rel"] for link in kept["links"]] == ["self"]
    assert kept["properties"] == item["properties"]
    assert normalise_item(kept, assets=ALL) == kept


def test_admitting_leaves_the_original_alone():
    item = make_item("a")
    before = copy.deepcopy(item)
    normalise_item(item, assets=ALL)
    assert item == before


def test_an_item_without_geometry_takes_its_box():
    item = make_item("a") | {"geometry": None}
    kept = normalise_item(item, assets=ALL)
    assert shapely.geometry.shape(kept["geometry"]).bounds == tuple(item["bbox"])


@pytest.mark.parametrize(
    "broken",
    [
        make_item("a") | {"properties": {}},
        make_item("a") | {"properties": {"datetime": "yesterday"}},
        make_item("a") | {"geometry": None, "bbox": None},
        make_item("a") | {"assets": {"B04": {}}},
        make_item("a") | {"assets": {"B04": {"href": None}}},
        make_item("a") | {"assets": {"B04": {"href": ""}}},
        make_item("a") | {"geometry": {"type": "Point", "coordinates": [float("nan"), 50]}},
        make_item("a") | {"geometry": {"type": "Point", "coordinates": [10**400, 50]}},
        make_item("a") | {"geometry": {"type": "Point", "coordinates": [600000, 5700000]}},
        {"id": "a", "type": "Feature"},
    ],
)
def test_an_unusable_item_is_named(broken):
    with pytest.raises(SearchError, match="item 'a' is not a usable STAC item") as error:
        normalise_item(broken, assets=ALL)
    assert "\n" not in str(error.value)


def test_what_is_asked_covers_every_halo():
    spec = make_spec("catalog.json")
    grid = spec.map_grid
    for query in make_queries(spec):
        asked = project(shapely.segmentize(query.area, 0.01), FROM_LONLAT)
        assert asked.buffer(1).contains(grid.area.geom.buffer(128 * 10))


def test_an_area_at_the_antimeridian_is_asked_for_up_to_it():
    spec = make_spec("catalog.json", area={"bbox": [179.9, 64.0, 180.0, 64.1]}, grid__crs="EPSG:32660")
    west, _, east, _ = make_queries(spec)[0].area.bounds
    assert (round(west, 2), east) == (179.86, 180.0)
    with pytest.raises(GridError):
        make_queries(make_spec("catalog.json", source__resolution=95))


def test_layers_of_one_collection_are_asked_for_once():
    layers = [
        {"collection": "sentinel-1-rtc", "bands": ["vv"], "orbit": "ascending", "cloud_limit": 20},
        {"collection": "sentinel-1-rtc", "bands": ["vv"], "orbit": "descending", "cloud_limit": 60},
    ]
    query, source = make_queries(make_spec("catalog.json", guide__layers=layers))
    assert query.orbits == {"ascending", "descending"}
    assert query.cloud_limit == 60
    assert source.collection == "esa-cci-biomass"


@pytest.mark.parametrize("path", ["a/b.tif", "b.tif", "a/b/", "a/.", "a/..", "/", "//b", "", "a//b", "."])
def test_files_are_named_as_paths_name_them(path):
    assert _file_name(path) == PurePosixPath(path).name
