"""Searching: a STAC API in a process of its own, a catalogue on disk, a frozen file; complete or an error."""

import logging
import time

import pystac
import pytest
import urllib3
from catalog_fakes import SOUTH, WEST, make_item, make_items, make_spec

from mapper.catalog.freeze import save_items
from mapper.catalog.items import freeze_items
from mapper.catalog.normalise import normalise_item
from mapper.catalog.search import Patience, search, search_collection
from mapper.catalog.static import write_catalog
from mapper.errors import GridError, SearchError, SpecError

QUICK = Patience(pause_s=0.01, backoff_s=0.01)
NOWHERE = "http://127.0.0.1:9"


def served(address):
    return urllib3.request("GET", f"{address}/log").json()


def conditions(address):
    searches = urllib3.request("GET", f"{address}/searches").json()
    return [{name: search[name] for name in ("filter", "query") if name in search} for search in searches]


def ids(items):
    return {item["id"] for item in items}


def search_error(href, *, patience=QUICK, **parts):
    with pytest.raises(SearchError) as error:
        search(make_spec(href, **parts), patience=patience)
    line = str(error.value)
    assert "\n" not in line
    assert str(href) in line
    assert error.value.exit_code == 2
    return line


def on_disk(folder, items):
    names = {item["collection"] for item in items}
    return write_catalog(
        folder,
        catalog={"id": "test", "description": "test"},
        collections={name: {"title": name, "description": name, "license": "other"} for name in sorted(names)},
        items=items,
    )


def test_an_api_gives_every_item_over_many_pages(stac_api):
    address = stac_api(make_items(), "--page", "7")
    items = search(make_spec(address), patience=QUICK)
    assert ids(items) == ids(make_items())
    assert served(address).count("POST /search") == 2 * (4 + 1 + 1)
    assert {query["endpoint"] for query in items.query["queries"]} == {address}
    assert [query["collection"] for query in items.query["queries"]] == [
        "sentinel-2-l2a", "sentinel-1-rtc", "esa-cci-biomass",
    ]  # fmt: skip


def test_what_was_found_does_not_depend_on_where_it_lies(stac_api, tmp_path):
    spread = [*make_items(), make_item("elsewhere", bounds=(20, 40, 21, 41))]
    over_http = search(make_spec(stac_api(spread)), patience=QUICK)
    static = search(make_spec(on_disk(tmp_path / "static", spread)))
    save_items(static, tmp_path / "items.parquet")
    frozen = search(make_spec(tmp_path / "items.parquet"))
    assert over_http.digest == static.digest == frozen.digest
    assert [item["assets"] for item in over_http] == [item["assets"] for item in frozen]
    assert list(frozen.query["origins"].values()) == [static.query]


@pytest.mark.parametrize(
    "options",
    [(), ("--no-query",), ("--no-count",), ("--filter",), ("--filter", "deaf")],
    ids=["query", "no query", "no count", "filter", "deaf to filters"],
)
def test_filters_hold_whatever_the_server_implements(stac_api, options):
    unwanted = [
        make_item("cloudy", **{"eo:cloud_cover": 80.1}),
        make_item("unknown-cover"),
        make_item("before", when="2020-03-31T23:59:59Z", **{"eo:cloud_cover": 1}),
        make_item("after", when="2020-11-01T00:00:00Z", **{"eo:cloud_cover": 1}),
        make_item("autumn", when="2020-10-01T00:00:00Z", **{"eo:cloud_cover": 1}),
        make_item("beside", bounds=(WEST + 0.25, SOUTH, WEST + 1, SOUTH + 1), **{"eo:cloud_cover": 1}),
        make_item("descending", "sentinel-1-rtc", **{"sat:orbit_state": "descending"}),
        make_item("agb-2020", "esa-cci-biomass", when="2020-01-01T00:00:00Z"),
    ]
    wanted = [make_item("near", bounds=(WEST + 0.21, SOUTH, WEST + 1, SOUTH + 1), **{"eo:cloud_cover": 80.0})]
    address = stac_api([*make_items(), *unwanted, *wanted], *options)
    assert ids(search(make_spec(address), patience=QUICK)) == ids([*make_items(), *wanted])


@pytest.mark.parametrize(
    ("options", "condition"),
    [
        (("--filter",), {"filter": {"op": "<=", "args": [{"property": "eo:cloud_cover"}, 80]}}),
        ((), {"query": {"eo:cloud_cover": {"lte": 80}}}),
        (("--no-query",), {}),
    ],
    ids=["filter", "query", "neither"],
)
def test_a_server_filters_clouds_in_the_words_that_it_says_it_understands(stac_api, options, condition):
    address = stac_api(make_items(), *options)
    search(make_spec(address), patience=QUICK)
    assert conditions(address) == [condition] * 2 + [{}] * 4, "clouds are asked of the layer that limits them only"


def test_a_provider_states_how_large_a_page_may_be(stac_api):
    address = stac_api(make_items(), "--most", "7")
    assert "limit is more than 7" in search_error(address)
    limits = {"access": {"limits": {"page": 7}}}
    assert ids(search(make_spec(address, catalog__override=limits), patience=QUICK)) == ids(make_items())


def test_the_last_moment_of_the_period_is_in_it(stac_api):
    late = make_item("late", when="2020-08-31T23:59:59.999Z", **{"eo:cloud_cover": 0})
    spec = make_spec(stac_api([*make_items(), late]), period={"start": "2020-04-01", "end": "2020-08-31"})
    assert "late" in ids(search(spec, patience=QUICK))


def test_a_source_without_year_is_searched_in_the_period(stac_api):
    source = make_item("agb-2020", "esa-cci-biomass", when="2020-07-01T00:00:00Z")
    spec = make_spec(stac_api([*make_items(), source]), source__year=None)
    assert ids(search(spec, patience=QUICK).of("esa-cci-biomass")) == {"agb-2020"}


def test_a_truth_is_searched_at_the_time_of_the_source(tmp_path):
    truths = [make_item(f"truth-{year}", "truth", when=f"{year}-07-01T00:00:00Z") for year in (2018, 2019, 2020)]
    catalog = on_disk(tmp_path, [*make_items(), *truths])
    assert ids(search_collection(make_spec(catalog), "truth")) == {"truth-2019"}
    with pytest.raises(SpecError, match="unknown collection 'lidar'"):
        search_collection(make_spec(catalog), "lidar")


def test_a_season_without_radar_does_not_stop_the_search(stac_api):
    few = [item for item in make_items() if item["id"] not in ("s1-0", "s1-1")]
    items = search(make_spec(stac_api(few)), patience=QUICK)
    assert not items.of("sentinel-1-rtc").in_months((4, 5))


@pytest.mark.parametrize("options", [(), ("--no-count",)], ids=["count", "no count"])
def test_an_answer_that_drifts_is_asked_for_until_it_settles(stac_api, options, caplog):
    address = stac_api(make_items(), "--page", "8", "--drift", "2", *options)
    with caplog.at_level(logging.WARNING):
        assert ids(search(make_spec(address), patience=QUICK)) == ids(make_items())
    assert "not the same as before" in caplog.text


def test_an_answer_that_never_settles_is_an_error(stac_api):
    line = search_error(stac_api(make_items(), "--page", "8", "--drift", "999"))
    assert "same complete answer twice in 5 attempts" in line
    assert "21 items of 24" in line
    assert "sentinel-2-l2a, 2020-04-01 to 2020-10-31" in line


@pytest.mark.parametrize("status", [429, 503])
def test_throttled_requests_are_repeated(stac_api, status):
    address = stac_api(make_items(), "--fail", "3", "--status", str(status))
    assert ids(search(make_spec(address), patience=QUICK)) == ids(make_items())
    assert served(address).count("POST /search") == 3 + 2 * 3


def test_a_server_decides_how_long_to_wait(stac_api):
    address = stac_api(make_items(), "--fail", "1", "--status", "429", "--retry-after", "1")
    begun = time.monotonic()
    search(make_spec(address), patience=QUICK)
    assert time.monotonic() - begun >= 1


def test_throttling_without_end_is_an_error(stac_api):
    line = search_error(stac_api(make_items(), "--fail", "999", "--status", "429"))
    assert "cannot be searched" in line
    assert "429" in line


def test_a_server_that_is_not_there_is_an_error():
    begun = time.monotonic()
    assert "cannot be searched" in search_error(NOWHERE)
    assert time.monotonic() - begun < 5


def test_a_server_that_is_no_stac_api_is_an_error(stac_api):
    assert "cannot be searched" in search_error(f"{stac_api(make_items())}/log")


def test_an_unknown_collection_is_named_with_those_that_exist(stac_api, tmp_path):
    items = [item for item in make_items() if item["collection"] != "esa-cci-biomass"]
    frozen = freeze_items(normalise_item(item, assets=frozenset({"B04", "vv"})) for item in items)
    save_items(frozen, tmp_path / "items.parquet")
    for href in (stac_api(items), on_disk(tmp_path / "static", items), tmp_path / "items.parquet"):
        line = search_error(href)
        assert "unknown collection 'esa-cci-biomass'" in line
        assert "has sentinel-1-rtc, sentinel-2-l2a" in line


def test_of_many_collections_the_most_similar_are_named(stac_api):
    names = [option for k in range(40) for option in ("--collection", f"other-{k}")]
    items = [item for item in make_items() if item["collection"] != "esa-cci-biomass"]
    line = search_error(stac_api(items, *names, "--collection", "cci-biomass"))
    assert "has cci-biomass, " in line
    assert "and 31 more" in line


def test_a_collection_the_provider_does_not_describe_is_refused_before_anything_is_asked():
    with pytest.raises(SpecError, match="unknown collection 'landsat': demo has esa-cci-biomass"):
        search(make_spec(NOWHERE, source__collection="landsat"))


def test_an_empty_answer_says_what_was_asked(stac_api, tmp_path):
    cloudy = [make_item("cloudy", **{"eo:cloud_cover": 99}), *make_items(0)]
    for href in (stac_api(cloudy), on_disk(tmp_path / "static", cloudy)):
        line = search_error(href)
        assert "no item found" in line
        for part in (
            "sentinel-2-l2a", "2020-04-01 to 2020-10-31", "longitude 11.876", "latitude 49.976", "months 4, 5, 6, 7, 8",
            "cloud cover up to 80 %",
        ):  # fmt: skip
            assert part in line


def test_a_source_of_another_year_is_an_empty_answer(stac_api):
    assert "esa-cci-biomass, 2018-01-01 to 2018-12-31" in search_error(stac_api(make_items()), source__year=2018)


def test_a_provider_without_endpoint_needs_an_address():
    spec = make_spec(NOWHERE)
    spec = spec.model_copy(update={"catalog": spec.catalog.model_copy(update={"href": None})})
    with pytest.raises(SpecError, match=r"give catalog\.href"):
        search(spec)


def test_a_source_that_does_not_nest_is_refused_before_anything_is_asked():
    with pytest.raises(GridError, match="does not nest"):
        search(make_spec(NOWHERE, source__resolution=95))


def test_of_a_scene_processed_again_the_newest_is_kept(stac_api):
    scene = {"platform": "sentinel-2a", "s2:mgrs_tile": "33UUR", "eo:cloud_cover": 0}
    old = make_item("old", **scene, **{"s2:processing_baseline": "03.01"})
    new = make_item("new", **scene, **{"s2:processing_baseline": "05.00"})
    items = search(make_spec(stac_api([*make_items(), old, new])), patience=QUICK)
    assert "new" in ids(items)
    assert "old" not in ids(items)
    assert items.query["superseded"] == ["old"]


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("catalog.json", None, "cannot be read"),
        ("catalog.json", "{", "is not JSON"),
        ("sentinel-1-rtc/collection.json", "[]", "not a STAC catalogue"),
        ("sentinel-2-l2a/s2-003/s2-003.json", None, "cannot be read"),
    ],
)
def test_a_broken_catalogue_is_named(tmp_path, name, content, line):
    catalog = on_disk(tmp_path, make_items())
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(SearchError, match=line) as error:
        search(make_spec(catalog))
    assert str(tmp_path / name) in str(error.value)


def test_collections_that_are_not_wanted_are_not_read(tmp_path):
    other = make_item("broken", "landsat")
    catalog = on_disk(tmp_path, [*make_items(), other])
    (tmp_path / "landsat" / "broken" / "broken.json").write_text("{")
    assert ids(search(make_spec(catalog))) == ids(make_items())


def test_relative_files_of_a_catalogue_on_disk_become_absolute(tmp_path):
    items = make_items()
    for item in items:
        for name, asset in item["assets"].items():
            asset["href"] = f"./{name}.tif"
    found = search(make_spec(on_disk(tmp_path, items)))
    first = next(iter(found.of("sentinel-2-l2a")))
    assert first["assets"]["B04"]["href"] == str(tmp_path / "sentinel-2-l2a" / first["id"] / "B04.tif")
    assert set(first["assets"]) == {"B04", "B08", "SCL"}


def test_an_item_is_the_same_whoever_spelt_it():
    item = make_item(
        "agb", "esa-cci-biomass", when=None, bounds=(10, 40, 20, 50), start_datetime="2020-01-01T00:00:00Z"
    )
    other = {
        **item,
        "geometry": {"type": "Polygon", "coordinates": [[[20, 40], [20, 50], [10, 50], [10, 40], [20, 40]]]},
    }
    other["properties"] = {key: value for key, value in item["properties"].items() if value is not None}
    first, second = (freeze_items([normalise_item(each, assets=frozenset({"agb"}))]) for each in (item, other))
    assert first.digest == second.digest


def test_a_catalogue_that_pystac_wrote_is_read(tmp_path):
    catalog = pystac.Catalog(id="test", description="test")
    for item in make_items():
        catalog.add_item(pystac.Item.from_dict(item))
    catalog.normalize_and_save(str(tmp_path), catalog_type=pystac.CatalogType.SELF_CONTAINED)
    assert ids(search(make_spec(tmp_path / "catalog.json"))) == ids(make_items())
