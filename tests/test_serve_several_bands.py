"""Maps of several target bands and of heights: every band is drawn, told at a pixel and added up as its units allow."""

import io
import json

import numpy as np
import pytest
import shapely
from band_maps import COLOURS, ELEVATION, REFLECTANCE, write_map
from fastapi.testclient import TestClient
from pyproj import Transformer
from store_maps import make_spec

from mapper.execute.executors import SerialExecutor
from mapper.run.pyramid import build_pyramid
from mapper.serve.app import make_app
from mapper.serve.settings import AppSettings
from mapper.serve.tiles.web_mercator import TileLocator
from mapper.store.map_store import MapStore, open_map
from mapper.store.product import map_product


def serve(folder, changes, **limits):
    spec, written = write_map(folder, changes, **limits)
    return spec, written, TestClient(make_app(spec.store))


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Four reflectances, each with its standard deviation."""
    return serve(tmp_path_factory.mktemp("colours"), REFLECTANCE | {"target": {"sd": True, "quality": []}})


@pytest.fixture(scope="module")
def heights(tmp_path_factory):
    """Heights below and above the sea."""
    return serve(tmp_path_factory.mktemp("heights"), ELEVATION, low=-420, high=-20)


def pixel_of(spec, tile, row, col):
    """The middle of a pixel of a tile in the CRS of the map."""
    window = spec.map_grid.window(tile)
    return spec.map_grid.geobox.transform @ (window.left + col + 0.5, window.top + row + 0.5)


def inside_of(spec):
    """A polygon amid the map, in longitude and latitude."""
    west, south, east, north = TileLocator(spec.map_grid).bounds
    x, y, width, height = (west + east) / 2, (south + north) / 2, (east - west) / 6, (north - south) / 6
    return shapely.box(x - width, y - height, x + width, y + height)


def add_up(client, area, **query):
    return client.post("/stats", json=json.loads(shapely.to_geojson(area)), params=query)


def test_every_band_is_a_layer_with_its_role_and_the_first_is_shown(colours):
    spec, _, client = colours
    bands = map_product(spec).bands
    first = client.get("/tilejson.json").json()
    assert first["variable"] == "B02"
    assert first["variables"] == [band.name for band in bands]
    for band in bands:
        told = client.get("/tilejson.json", params={"variable": band.name}).json()
        assert (told["role"], told["of"], told["units"]) == (band.role, band.of, band.units)
    capabilities = client.get("/wmts").text
    assert all(f"<ows:Identifier>{band.name}</ows:Identifier>" in capabilities for band in bands)
    variables = client.get("/stac/item").json()["properties"]["cube:variables"]
    assert variables.keys() == {band.name for band in bands}


def test_every_band_has_a_range_and_colours_of_its_own(colours, heights):
    _, _, client = colours
    told = {name: client.get("/tilejson.json", params={"variable": name}).json() for name in (*COLOURS, "B03_sd")}
    ranges = [told[name]["rescale"] for name in COLOURS]
    assert [low for low, _ in ranges] == sorted({low for low, _ in ranges}), "each is a tenth above the one before"
    assert {told[name]["colormap"] for name in COLOURS} == {"viridis"}
    for low, high in ranges:
        assert client.get(f"/tilejson.json?rescale={low!r},{high!r}").status_code == 200, (
            "a range is good in an address"
        )
    assert told["B03_sd"]["colormap"] == "magma"
    assert told["B03_sd"]["rescale"][0] == 0
    low, high = heights[2].get("/tilejson.json").json()["rescale"]
    assert -500 < low < -400
    assert -50 < high <= 0


@pytest.mark.parametrize("which", ["colours", "heights"])
def test_a_pixel_holds_every_band(which, request):
    spec, written, client = request.getfixturevalue(which)
    tile, arrays = next(iter(written.items()))
    x, y = pixel_of(spec, tile, 20, 33)
    product, asked = map_product(spec), {"x": x, "y": y, "crs": "map"}
    told = client.get("/pixel", params=asked).json()
    assert [(band["name"], band["units"]) for band in told["bands"]] == [(b.name, b.units) for b in product.values]
    for band in told["bands"]:
        assert band["value"] == pytest.approx(arrays[band["name"]][20, 33], abs=0.006 if which == "heights" else 6e-5)
        sd = product.sd_of(band["name"])
        assert (band["sd"] is None) == (sd is None)
        if sd:
            assert band["sd"] == pytest.approx(arrays[sd.name][20, 33], rel=0.01, abs=0.006)
    assert told["value"] == told["bands"][0]["value"]
    (version,) = client.get("/history", params=asked).json()["versions"]
    assert version["bands"] == told["bands"]


def test_a_hole_in_one_band_is_none_in_the_others(colours):
    spec, written, client = colours
    x, y = pixel_of(spec, next(iter(written)), 1, 1)
    values = [band["value"] for band in client.get("/pixel", params={"x": x, "y": y, "crs": "map"}).json()["bands"]]
    assert values[0] is None
    assert None not in values[1:]


def test_tiles_show_the_numbers_of_their_band(colours):
    spec, _, client = colours
    west, south, east, north = TileLocator(spec.map_grid).bounds
    direct = open_map(spec.store)
    for name in COLOURS[1:]:
        zoom = client.get("/tilejson.json", params={"variable": name}).json()["maxzoom"]
        x = int(((west + east) / 2 + 180) / 360 * 2**zoom)
        latitude = np.radians((south + north) / 2)
        y = int((1 - np.arcsinh(np.tan(latitude)) / np.pi) / 2 * 2**zoom)
        shown = np.load(io.BytesIO(client.get(f"/tiles/main/{name}/{zoom}/{x}/{y}.npy").content))
        assert np.isfinite(shown).any()
        stored = np.rint(direct[name].to_numpy() * 1e4)
        assert np.isin(np.rint(shown[np.isfinite(shown)].astype(float) * 1e4), stored).all()
        assert client.get(f"/tiles/main/{name}/{zoom}/{x}/{y}.png").status_code == 200


def test_values_that_are_not_per_area_have_a_mean_and_no_total(heights):
    spec, _, client = heights
    area = inside_of(spec)
    told = add_up(client, area).json()
    assert told["total"] is None
    assert told["resolution"]["total_tolerance"] is None
    to_map = Transformer.from_crs("EPSG:4326", spec.grid.crs, always_xy=True)
    dataset = open_map(spec.store)[told["variable"]]
    x, y = np.meshgrid(dataset.x, dataset.y)
    inside = shapely.contains_xy(shapely.transform(area, to_map.transform, interleaved=False), x, y)
    assert told["mean"]["value"] == pytest.approx(np.nanmean(dataset.to_numpy()[inside]), abs=3)
    assert told["mean"]["units"] == "m"
    assert told["mean"]["value"] < 0
    assert sum(told["histogram"]["area_ha"]) > 0.9 * told["valid_area_ha"]


def test_a_large_polygon_has_the_mean_of_a_level(tmp_path):
    spec, _, client = serve(tmp_path, ELEVATION, low=-420, high=-20)
    build_pyramid(spec.store, SerialExecutor())
    exact = add_up(client, inside_of(spec)).json()["mean"]["value"]
    coarse = TestClient(make_app(spec.store, AppSettings(max_polygon_pixels=900)))
    told = add_up(coarse, inside_of(spec)).json()
    assert told["resolution"]["level"] > 0
    assert told["mean"]["value"] == pytest.approx(exact, rel=0.05)


def test_statistics_are_of_the_band_that_is_asked_for(colours):
    spec, _, client = colours
    area = inside_of(spec)
    means = [add_up(client, area, variable=name).json()["mean"] for name in COLOURS]
    assert np.diff([mean["value"] for mean in means]) == pytest.approx(0.1, abs=0.05)
    assert all(mean["sd"]["fully_correlated"] > 0 for mean in means)
    assert add_up(client, area).json()["variable"] == "B02"
    for name, words in (("qa", "B02, B03, B04, B08"), ("B02_sd", "no statistics"), ("B99", "no such variable")):
        refused = add_up(client, area, variable=name)
        assert refused.status_code == 404
        assert words in refused.json()["detail"]


def test_a_band_without_a_standard_deviation_has_a_mean_alone(tmp_path):
    spec, _, client = serve(tmp_path, REFLECTANCE)
    told = add_up(client, inside_of(spec), variable="B04").json()
    assert told["mean"]["value"] is not None
    assert told["mean"]["sd"] is None


def test_a_map_without_pixels_is_coloured_by_the_range_of_its_band(tmp_path):
    spec = make_spec(tmp_path / "map.icechunk", **REFLECTANCE, guide={})
    MapStore.create(spec.store, map_product(spec))
    low, high = TestClient(make_app(spec.store)).get("/tilejson.json").json()["rescale"]
    assert (low, high - low) == pytest.approx((-0.1, 1))
