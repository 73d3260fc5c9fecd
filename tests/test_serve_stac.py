"""The served map as STAC."""

import pystac
import pytest
from fastapi.testclient import TestClient
from pystac.extensions.datacube import DatacubeExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.validation import validate_dict
from store_maps import NATIVE, PROJECTED, make_spec, write_tiles

from mapper.serve.app import make_app
from mapper.serve.settings import AppSettings
from mapper.store.map_store import MapStore, open_map
from mapper.store.product import map_product


@pytest.fixture(scope="module", params=[PROJECTED, NATIVE], ids=["projected", "native"])
def spec(tmp_path_factory, request):
    spec = make_spec(tmp_path_factory.mktemp("stac") / "map.icechunk", grid=request.param)
    MapStore.create(spec.store, map_product(spec))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        snapshot = write_tiles(writer, spec, list(spec.map_grid.tiles())[:4])
    MapStore.open(spec.store).repository.create_tag("v1.0", snapshot_id=snapshot)
    return spec


@pytest.fixture(scope="module")
def client(spec):
    return TestClient(make_app(spec.store))


def test_the_item_is_stac_and_says_where_the_pixels_lie(spec, client):
    content = client.get("/stac/item").json()
    item = pystac.Item.from_dict(content)
    validate_dict(content | {"stac_extensions": []})
    direct, grid = open_map(spec.store), spec.map_grid
    projection = ProjectionExtension.ext(item)
    assert projection.code == grid.crs
    assert projection.shape == list(grid.shape)
    assert projection.transform == list(grid.geobox.transform)[:6]
    assert item.bbox == pytest.approx([12.0, 50.0, *spec.area.bbox[2:]], abs=1e-7)
    cube = DatacubeExtension.ext(item)
    assert set(cube.variables) == set(direct.data_vars)
    assert cube.variables["agb"].unit == "Mg ha-1"
    half = float(grid.resolution) / 2
    for name in ("x", "y"):
        edges = [float(direct[name].min()) - half, float(direct[name].max()) + half]
        assert cube.dimensions[name].extent == pytest.approx(edges)


def test_the_item_says_what_made_it(spec, client):
    properties = client.get("/stac/item").json()["properties"]
    assert properties["version"] == client.get("/health").json()["snapshot"]
    assert properties["mapper:tiles"] == {"ok": 4, "empty": 0, "failed": 0}
    assert (properties["mlm:name"], properties["mapper:model_digest"]) == ("bicubic", "b" * 64)
    assert properties["mapper:spec_digest"] == spec.digest
    assert "esa-cci-biomass" in properties["processing:lineage"]
    assert (properties["start_datetime"], properties["end_datetime"]) == (
        "2021-01-01T00:00:00Z",
        "2021-12-31T23:59:59Z",
    )


def test_the_asset_is_the_same_version_on_the_same_server(client):
    for ref in ("main", "v1.0"):
        item = client.get(f"/stac/item?ref={ref}").json()
        href = item["assets"]["zarr"]["href"]
        assert href == f"http://testserver/zarr/{ref}"
        assert client.get(f"{href}/zarr.json").json()["attributes"]["mapper:name"] == "little-map"
        assert item["properties"]["version"] in client.get(f"{href}/zarr.json").headers["etag"]


def test_the_collection_is_stac_and_links_to_every_version(client):
    content = client.get("/stac").json()
    collection = pystac.Collection.from_dict(content)
    validate_dict(content | {"stac_extensions": []})
    links = [link for link in content["links"] if link["rel"] == "item"]
    assert [link["title"] for link in links] == ["main", "v1.0"]
    for link in links:
        item = client.get(link["href"]).json()
        assert item["collection"] == collection.id
        west, south, east, north = collection.extent.spatial.bboxes[0]
        assert item["bbox"] == [west, south, east, north]


def test_a_public_address_goes_into_every_link(spec):
    client = TestClient(make_app(spec.store, AppSettings(public_url="https://maps.example.org/forest/")))
    assert client.get("/stac/item").json()["assets"]["zarr"]["href"] == "https://maps.example.org/forest/zarr/main"
    assert all(
        link["href"].startswith("https://maps.example.org/forest/") for link in client.get("/stac").json()["links"]
    )


def test_a_map_without_a_tile_is_stac_too(tmp_path):
    spec = make_spec(tmp_path / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    properties = TestClient(make_app(spec.store)).get("/stac/item").json()["properties"]
    assert properties["mapper:tiles"] == {"ok": 0, "empty": 0, "failed": 0}
    assert properties["mlm:name"] == "bicubic"
