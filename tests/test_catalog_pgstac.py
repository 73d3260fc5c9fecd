"""Searches of a STAC API that others wrote, on a database, and the demo made from it with all files read over HTTP."""

import copy
import json
import random
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import shapely
import urllib3
from catalog_fakes import SOUTH, WEST, make_item, make_items, make_spec
from file_server import FileServer
from pgstac_server import PostgresCluster, find_postgres
from region import SEEN, SEEN_CHANNELS, run_json, write_weights
from shared import SHARED, needs_shared

from mapper.catalog.items import freeze_items
from mapper.catalog.normalise import normalise_item
from mapper.catalog.query import CollectionQuery, make_queries
from mapper.catalog.references import resolve
from mapper.catalog.search import SEARCH_RETRY, SearchRetry, search
from mapper.catalog.static import read_catalog, write_catalog
from mapper.errors import SearchError
from mapper.store.map_store import MapStore

QUICK = SearchRetry(
    request=replace(SEARCH_RETRY.request, initial_backoff_s=0.01),
    query=replace(SEARCH_RETRY.query, initial_backoff_s=0.01),
)
COLLECTIONS = ("sentinel-2-l2a", "sentinel-1-rtc", "esa-cci-biomass")
SPELLED = {"filter": ("filter", "pagination"), "query": ("query", "pagination"), "neither": ("pagination",)}
"""What an API is told to implement, and so to advertise."""


@pytest.fixture(scope="module")
def cluster():
    try:
        find_postgres()
    except FileNotFoundError as missing:
        pytest.skip(f"no STAC API to search: {missing}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        with PostgresCluster() as cluster:
            yield cluster


@dataclass(frozen=True)
class Scene:
    """An item, and what is true of it, kept apart from what it says as STAC."""

    id: str
    collection: str
    box: tuple
    when: str
    cloud: float
    orbit: str
    item: dict = field(repr=False)


def draw_scenes(number, *, seed):
    draw = random.Random(seed)
    scenes = []
    for k in range(number):
        collection = draw.choice(["sentinel-2-l2a", "sentinel-2-l2a", "sentinel-1-rtc"])
        west, south = WEST + draw.uniform(-0.4, 0.3), SOUTH + draw.uniform(-0.4, 0.2)
        box = (west, south, west + draw.uniform(0.05, 0.4), south + draw.uniform(0.05, 0.4))
        when = f"2020-{draw.randint(2, 12):02d}-{draw.randint(1, 28):02d}T10:{k % 60:02d}:30.123456Z"
        cloud, orbit = draw.choice([0, 19.9, 20, 20.1, 79.9, 80, 80.1, 100]), draw.choice(["ascending", "descending"])
        stated = {"eo:cloud_cover": cloud} if collection == "sentinel-2-l2a" else {"sat:orbit_state": orbit}
        item = make_item(f"scene-{k:03d}", collection, when=when, bounds=box, **stated)
        scenes.append(Scene(item["id"], collection, box, when, cloud, orbit, item))
    return scenes


SCENES = draw_scenes(400, seed=4)


@pytest.fixture(scope="module")
def scenes(cluster):
    """An archive of all scenes."""
    source = next(item for item in make_items() if item["collection"] == "esa-cci-biomass")
    return cluster.store([*(scene.item for scene in SCENES), source])


@pytest.fixture(scope="module", params=SPELLED)
def archive(request, cluster, scenes):
    """Address of an API of all scenes, which filters clouds in one of three ways."""
    return cluster.serve(scenes, extensions=SPELLED[request.param])


def process_again():
    """Three processings of one scene."""
    scene = {"platform": "sentinel-2a", "s2:mgrs_tile": "33UUR", "eo:cloud_cover": 0}
    baselines = ("03.01", "05.10", "05.00")
    return [make_item(f"again-{name}", **scene, **{"s2:processing_baseline": name}) for name in baselines]


@pytest.fixture(scope="module")
def found(cluster):
    """What is found of a few items, one scene of them processed again."""
    address = cluster.serve(cluster.store([*make_items(), *process_again()]))
    return search(make_spec(address), retry=QUICK)


def meets(box, other):
    return box[0] <= other[2] and other[0] <= box[2] and box[1] <= other[3] and other[1] <= box[3]


def ids(items, collection):
    return {item["id"] for item in items if item["collection"] == collection}


def wanted(spec, *, cloud_limit, months, orbits):
    """Ids of the scenes that a map wants, by collection, straight from the list."""
    area = make_queries(spec)[0].area.bounds
    first, last = str(spec.period.start), str(spec.period.end)
    near = [scene for scene in SCENES if meets(scene.box, area) and first <= scene.when[:10] <= last]
    near = [scene for scene in near if int(scene.when[5:7]) in months]
    return {
        "sentinel-2-l2a": {s.id for s in near if s.collection == "sentinel-2-l2a" and s.cloud <= cloud_limit},
        "sentinel-1-rtc": {s.id for s in near if s.collection == "sentinel-1-rtc" and s.orbit in orbits},
    }


@pytest.mark.parametrize(
    ("cloud_limit", "period", "page"),
    [
        (20, ("2020-04-01", "2020-08-31"), 7),
        (80, ("2020-04-15", "2020-06-14"), 200),
        (100, ("2020-02-01", "2020-12-31"), 20),
    ],
)
def test_a_search_gives_what_a_filter_of_the_same_list_gives(archive, cloud_limit, period, page):
    layers = [
        {"collection": "sentinel-2-l2a", "bands": ["B04"], "cloud_limit": cloud_limit},
        {"collection": "sentinel-1-rtc", "bands": ["vv"], "orbit": "descending"},
    ]
    spec = make_spec(
        archive,
        guide__layers=layers,
        period=dict(zip(("start", "end"), period, strict=True)),
        catalog__override={"access": {"limits": {"page": page}}},
    )
    found = search(spec, retry=QUICK)
    expected = wanted(spec, cloud_limit=cloud_limit, months={4, 5, 6, 7, 8}, orbits={"descending"})
    assert {name: ids(found, name) for name in expected} == expected
    assert all(expected.values()), "a search that finds nothing shows nothing"
    assert ids(found, "esa-cci-biomass") == {"agb-2019"}


@pytest.mark.parametrize("archive", ["filter", "query"], indirect=True)
def test_the_server_understands_how_clouds_are_filtered(archive, monkeypatch):
    monkeypatch.setattr(CollectionQuery, "accepts", lambda *_: True)
    spec = make_spec(archive)
    expected = wanted(spec, cloud_limit=80, months=range(1, 13), orbits={"ascending", "descending"})
    assert ids(search(spec, retry=QUICK), "sentinel-2-l2a") == expected["sentinel-2-l2a"]


def test_the_count_that_the_server_states_is_that_of_all_pages(archive):
    area = make_queries(make_spec(archive))[0].area.bounds
    body = {"collections": ["sentinel-2-l2a"], "bbox": area, "limit": 3}
    stated = urllib3.request("POST", f"{archive}/search", json=body).json()["numberMatched"]
    assert stated == sum(scene.collection == "sentinel-2-l2a" and meets(scene.box, area) for scene in SCENES)


def test_items_are_the_same_from_the_server_as_from_disk(found, tmp_path):
    notes = {name: {"title": name, "description": name, "license": "other"} for name in COLLECTIONS}
    catalog = {"id": "test", "description": "test"}
    static = write_catalog(tmp_path, catalog=catalog, collections=notes, items=[*make_items(), *process_again()])
    assert found.digest == search(make_spec(static)).digest


def test_of_a_scene_processed_again_the_newest_baseline_is_kept(found):
    assert {name for name in ids(found, "sentinel-2-l2a") if name.startswith("again")} == {"again-05.10"}
    assert found.query["superseded"] == ["again-03.01", "again-05.00"]


def read_real_items():
    """Items of archives as they served them; a database wants a footprint, which some of them leave to their box."""
    files = [json.loads(path.read_text()) for path in sorted((SHARED / "stac_items").rglob("*.json"))]
    features = [item for file in files if isinstance(file, dict) for item in file.get("features", [file])]
    whole = [item for item in features if item.get("type") == "Feature" and item.get("id") and item.get("assets")]
    boxes = [json.loads(shapely.to_geojson(shapely.box(*item["bbox"]))) for item in whole]
    filled = [{**item, "geometry": item.get("geometry") or box} for item, box in zip(whole, boxes, strict=True)]
    return list({(item["collection"], item["id"]): item for item in filled}.values())


@needs_shared
def test_items_of_real_archives_pass_through_unchanged(cluster):
    real = read_real_items()
    address = cluster.serve(cluster.store(real))
    for item in real:
        body = {"collections": [item["collection"]], "ids": [item["id"]]}
        (served,) = urllib3.request("POST", f"{address}/search", json=body).json()["features"]
        data = frozenset(name for name, asset in item["assets"].items() if "data" in asset.get("roles", ()))
        given, found = (freeze_items([normalise_item(each, assets=data)]) for each in (item, served))
        assert found.digest == given.digest, item["id"]
    assert len(real) > 5


@pytest.mark.parametrize("archive", ["filter"], indirect=True)
def test_a_collection_that_the_api_lacks_is_named(archive):
    with pytest.raises(SearchError, match=r"unknown collection 'truth'.*has esa-cci-biomass, sentinel-1-rtc"):
        search(make_spec(archive, source__collection="truth"), retry=QUICK)


def publish(folder, server):
    """Items of a catalogue on disk whose files are where a server has them."""
    items = copy.deepcopy(read_catalog(str(folder / "catalog.json"), collections=frozenset(COLLECTIONS)).items)
    for item in items:
        here = next(link["href"] for link in item["links"] if link["rel"] == "self")
        for asset in item["assets"].values():
            asset["href"] = server.url(Path(resolve(asset["href"], here)))
    return items


def checksums(region):
    return {str(record.tile): record.content_sha256 for record in MapStore.open(str(region.store)).ledger.records()}


def test_the_demo_is_the_same_from_an_api_and_over_http_as_from_disk(cluster, region, tmp_path_factory):
    write_weights(region.folder, channels=SEEN_CHANNELS)
    region.change(guide=SEEN, model={"name": "tiny", "weights": "tiny.safetensors"})
    far = region.copy(tmp_path_factory.mktemp("far"))
    run_json("run", region.map)
    with FileServer(region.folder / "catalog") as server:
        address = cluster.serve(cluster.store(publish(region.folder / "catalog", server)))
        far.change(catalog={"provider": "demo", "href": address})
        found = run_json("search", far.map)
        planned = run_json("plan", far.map)
        run_json("run", far.map)
        requests = server.log()
    assert found["n"] == 11
    assert planned["tiles"] == len(checksums(region)) > 1
    assert checksums(far) == checksums(region)
    assert {request.path.split("/")[1] for request in requests} == {
        "sentinel-2-l2a",
        "sentinel-1-rtc",
        "esa-cci-biomass",
    }
    assert run_json("verify", far.map)["complete"]
