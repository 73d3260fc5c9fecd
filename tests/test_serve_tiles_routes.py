"""Tiles: the numbers of the map where they belong, in the right colours, from the right level, and nothing else."""

import io
import math
from concurrent.futures import ThreadPoolExecutor
from threading import get_ident
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
import rasterio
from affine import Affine
from fastapi.testclient import TestClient
from map_server import MapServer
from PIL import Image
from pyproj import Transformer
from pyramids import read_level, write_field
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT
from store_maps import NATIVE, PROJECTED, make_spec, write_tiles

from mapper.serve.app import make_app
from mapper.serve.settings import AppSettings
from mapper.serve.tiles import layers, render
from mapper.serve.tiles.cache import ByteCache
from mapper.serve.tiles.colours import encode_png, palette_of, place_values
from mapper.serve.tiles.web_mercator import TOLERANCE, Positions, WebTile
from mapper.store.product import map_product
from mapper.store.repository import open_store
from mapper.store.writer import open_writer

GRIDS = {"projected": PROJECTED, "native": NATIVE}


@pytest.fixture(scope="module", params=GRIDS)
def spec(request, tmp_path_factory):
    """3 x 3 tiles or so with two levels; the last tile was never written."""
    return write_field(tmp_path_factory.mktemp("tiles") / "map.icechunk", grid=GRIDS[request.param], skip=1)


@pytest.fixture(scope="module")
def client(spec):
    return TestClient(make_app(spec.store))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A map without levels, one of its tiles written."""
    spec = make_spec(tmp_path_factory.mktemp("plain") / "map.icechunk")
    with open_created(spec) as writer:
        write_tiles(writer, spec, list(spec.map_grid.tiles())[:1])
    return spec


def open_created(spec):
    from mapper.store.repository import create_store  # noqa: PLC0415

    create_store(spec.store, product=map_product(spec))
    return open_writer(spec.store, product=map_product(spec), run_id="run-1")


def tiles_at(spec, zoom):
    """Tiles of a zoom that the map touches."""
    west, south, east, north = Positions(spec.map_grid).bounds
    (left, bottom), (right, top) = (place_of(lon, lat, zoom) for lon, lat in ((west, south), (east, north)))
    return [
        WebTile(z=zoom, x=x, y=y) for x in range(int(left), int(right) + 1) for y in range(int(top), int(bottom) + 1)
    ]


def place_of(lon, lat, zoom):
    height = math.asinh(math.tan(math.radians(lat))) / math.pi
    return (lon + 180) / 360 * 2**zoom, (1 - height) / 2 * 2**zoom


def read_numbers(client, tile, variable="agb", ref="main", **query):
    answer = client.get(f"/tiles/{ref}/{variable}/{tile.z}/{tile.x}/{tile.y}.npy", params=query)
    assert answer.status_code == 200, answer.text
    return np.load(io.BytesIO(answer.content)), answer.headers


def warp(values, spec, level, tile):
    """What GDAL makes of an array, nearest, its positions exact."""
    transform = spec.map_grid.geobox.transform @ Affine.scale(2**level)
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "crs": spec.grid.crs, "transform": transform}
    left, _, _, top = tile.bounds
    target = Affine(tile.pixel_m, 0, left, 0, -tile.pixel_m, top)
    with MemoryFile() as memory:
        with memory.open(height=values.shape[0], width=values.shape[1], nodata=np.nan, **profile) as dataset:
            dataset.write(values, 1)
        with (
            memory.open() as dataset,
            WarpedVRT(
                dataset, crs="EPSG:3857", transform=target, width=tile.size, height=tile.size, tolerance=1e-6,
                resampling=Resampling.nearest,
            ) as warped,
        ):  # fmt: skip
            return warped.read(1)


@pytest.mark.parametrize("zoom", [11, 12, 13, 14, 15, 17])
def test_numbers_are_those_that_gdal_resamples_from_the_level(spec, client, zoom):
    tile = tiles_at(spec, zoom)[len(tiles_at(spec, zoom)) // 2]
    values, headers = read_numbers(client, tile)
    level = int(headers["x-level"])
    expected = warp(read_level(spec.store, spec, level)[0], spec, level, tile)
    assert values.shape == (256, 256)
    assert values.dtype == np.float32
    assert np.isfinite(expected).any()
    same = (values == expected) | (np.isnan(values) & np.isnan(expected))
    assert same.mean() > 0.998
    assert headers["x-units"] == "Mg ha-1"
    assert headers["x-bounds"] == ",".join(f"{edge:.6f}" for edge in tile.bounds)


def test_each_zoom_has_the_coarsest_level_with_pixels_no_larger_than_its_own(spec, client):
    ground = Positions(spec.map_grid)
    seen = set()
    for zoom in range(9, 17):
        _, headers = read_numbers(client, tiles_at(spec, zoom)[0])
        level, ratio = int(headers["x-level"]), ground.ratio(zoom)
        assert 2**level <= max(1, ratio)
        assert level == 2 or 2 ** (level + 1) > ratio
        seen.add(level)
    assert seen == {0, 1, 2}


@pytest.mark.parametrize("crs", ["EPSG:3035", "EPSG:4326", "EPSG:32633", "EPSG:3067", "EPSG:6933"])
def test_positions_are_within_a_tenth_of_a_pixel(crs):
    grid = make_grid(crs)
    positions = Positions(grid)
    to_map = Transformer.from_crs("EPSG:3857", crs, always_xy=True)
    west, south, east, north = positions.bounds
    dice = np.random.default_rng(4)
    for zoom in (3, 5, 6, 7, 8, 10, 12, 15, 18):
        for _ in range(3):
            x, y = place_of(dice.uniform(west, east), dice.uniform(south, north), zoom)
            tile = WebTile(z=zoom, x=int(x), y=int(y))
            left, _, _, top = tile.bounds
            steps = (np.arange(256) + 0.5) * tile.pixel_m
            exact = np.stack(to_map.transform(*np.meshgrid(left + steps, top - steps)))
            col, row = ~grid.geobox.transform @ tuple(exact)
            found = positions.locate(tile).expand(256)
            pixel = max(1.0, positions.ratio(zoom) / 2)  # a level has pixels of half a tile's pixel or more
            assert np.nanmax(np.abs(found - np.stack([row, col]))) < TOLERANCE * pixel


def test_one_thread_projects_for_all_since_each_would_prepare_it_anew(spec, monkeypatch):
    positions, seen = Positions(spec.map_grid), set()
    to_map = positions._to_map
    noting = SimpleNamespace(transform=lambda *given, **how: seen.add(get_ident()) or to_map.transform(*given, **how))
    monkeypatch.setattr(positions, "_to_map", noting)
    tiles = tiles_at(spec, 15) + tiles_at(spec, 16)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(positions.locate, tiles))
    assert len(seen) == 1
    alone = Positions(spec.map_grid)
    assert all(
        np.array_equal(lattice.nodes, alone.locate(tile).nodes) for tile, lattice in zip(tiles, found, strict=True)
    )


def test_tiles_asked_for_at_once_are_those_asked_for_one_by_one(spec, client):
    fresh = TestClient(make_app(spec.store))
    places = [f"/tiles/main/agb/{tile.z}/{tile.x}/{tile.y}.png" for z in (12, 14, 15) for tile in tiles_at(spec, z)]
    with ThreadPoolExecutor(8) as pool:
        at_once = list(pool.map(lambda place: fresh.get(place).content, places))
    assert at_once == [client.get(place).content for place in places]


def make_grid(crs):
    """A map of 10 degrees."""
    from fractions import Fraction  # noqa: PLC0415

    import shapely  # noqa: PLC0415

    from mapper.grid import MapGrid  # noqa: PLC0415

    step = Fraction(1, 11250) if crs == "EPSG:4326" else Fraction(10)
    return MapGrid.cover(
        shapely.box(10, 46, 20, 56), crs=crs, resolution=step, source_resolution=10 * step, tile_px=1000, chunk_px=500
    )


def test_half_pixels_show_the_same_place(spec, client):
    tile = tiles_at(spec, 14)[0]
    small, _ = read_numbers(client, tile)
    large, headers = read_numbers(client, tile, scale=2)
    assert large.shape == (512, 512)
    assert int(headers["x-level"]) == 0
    below = [
        read_numbers(client, WebTile(z=15, x=2 * tile.x + right, y=2 * tile.y + down))[0]
        for down in (0, 1)
        for right in (0, 1)
    ]
    together = np.block([[below[0], below[1]], [below[2], below[3]]])
    assert np.array_equal(large, together, equal_nan=True)
    assert small.shape == (256, 256)


def test_between_pixels_values_are_mixed_and_what_is_missing_keeps_its_outline(spec, client):
    for tile in tiles_at(spec, 16)[:6]:
        nearest, _ = read_numbers(client, tile, resampling="nearest")
        mixed, _ = read_numbers(client, tile, resampling="bilinear")
        assert np.array_equal(np.isnan(nearest), np.isnan(mixed))
        if np.isfinite(mixed).any():
            assert np.nanmin(mixed) >= np.nanmin(nearest) - 15
            assert len(np.unique(mixed)) > len(np.unique(nearest))


def test_mixing_leaves_a_plane_as_it_is():
    row, col = np.meshgrid(np.linspace(1, 7, 50), np.linspace(1, 9, 40), indexing="ij")
    window = render._Window(rows=slice(0, 9), cols=slice(0, 11), places=np.stack([row, col]), inside=None)
    y, x = np.mgrid[:9, :11].astype(np.float32)
    plane = 3 * (y + 0.5) - 2 * (x + 0.5)
    assert render._interpolate(plane, window, np.asarray) == pytest.approx(3 * row - 2 * col, abs=1e-4)
    holed = plane.copy()
    holed[4, 5] = np.nan
    mixed = render._interpolate(holed, window, np.asarray)
    assert np.array_equal(np.isnan(mixed), (np.floor(row) == 4) & (np.floor(col) == 5))
    level = render._interpolate(np.where(np.isnan(holed), holed, np.float32(7)), window, np.asarray)
    assert np.nanmax(np.abs(level - 7)) < 1e-5


def test_counts_and_flags_tell_nothing_where_nothing_was_written(spec, client):
    zoom = 14
    for tile in tiles_at(spec, zoom):
        flags, headers = read_numbers(client, tile, "qa")
        counts, _ = read_numbers(client, tile, "n_valid")
        assert np.array_equal(np.isnan(flags), np.isnan(counts))
        level = int(headers["x-level"])
        written = warp(read_level(spec.store, spec, level)[2], spec, level, tile)
        expected = np.where(written >= 1 << 15, np.nan, written)
        same = (flags == expected) | (np.isnan(flags) & np.isnan(expected))
        assert same.mean() > 0.998


def test_colours_are_those_of_the_values(spec, client):
    tile = tiles_at(spec, 14)[1]
    values, _ = read_numbers(client, tile)
    answer = client.get(f"/tiles/main/agb/14/{tile.x}/{tile.y}.png?colormap=plasma&rescale=20,180&resampling=nearest")
    assert answer.headers["content-type"] == "image/png"
    drawn = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA")).astype(int)
    assert np.array_equal(drawn[..., 3] == 0, np.isnan(values))
    known = np.isfinite(values)
    expected = mpl.colormaps["plasma"](np.clip((values[known] - 20) / 160, 0, 1), bytes=True).astype(int)
    assert np.abs(drawn[known] - expected).max() <= 6, "one of 255 colours in place of one of 256"


@pytest.mark.parametrize("name", ["viridis", "plasma", "inferno", "magma", "cividis", "gray", "ylgn", "rdylgn"])
def test_colour_maps_are_those_of_matplotlib(name):
    known = {key.lower(): key for key in mpl.colormaps}
    table = mpl.colormaps[known[name]](np.arange(256), bytes=True)[:, :3].astype(int)
    ours = np.frombuffer(palette_of(name), np.uint8).reshape(256, 3).astype(int)
    assert ours[0].tolist() == [0, 0, 0]
    assert ours[[1, 255]].tolist() == table[[0, 255]].tolist()
    assert (ours[1:, None] == table[None]).all(axis=2).any(axis=1).all()


def test_values_beyond_the_range_have_the_colours_of_its_ends():
    values = np.array([[np.nan, -1e30, 0, 1, 0.5, 1e30, np.inf, -np.inf]], np.float32)
    assert place_values(values, 0, 1).tolist() == [[0, 1, 1, 255, 128, 255, 255, 1]]


def test_the_gravest_flag_gives_the_colour(spec, client):
    legend = client.get("/tilejson.json?variable=qa").json()["legend"]
    colour = {entry["flag"]: entry["colour"] for entry in legend}
    assert len(set(colour.values())) == len(legend) == 7
    assert all(entry["meaning"] for entry in legend)
    for tile in tiles_at(spec, 15):
        flags, _ = read_numbers(client, tile, "qa")
        image = Image.open(io.BytesIO(client.get(f"/tiles/main/qa/15/{tile.x}/{tile.y}.png").content)).convert("RGBA")
        drawn = np.asarray(image)
        for bits, flag in ((0, ""), (2, "source_missing"), (4 + 32, "source_disagrees")):
            assert {f"#{r:02x}{g:02x}{b:02x}" for r, g, b, _ in drawn[flags == bits]} <= {colour[flag]}
        assert (drawn[..., 3] == 0).tolist() == np.isnan(flags).tolist()


def test_beside_the_map_tiles_are_clear_and_cost_nothing(client):
    for z, x, y in ((0, 0, 0), (3, 7, 7), (14, 16383, 0), (24, 0, (1 << 24) - 1)):
        numbers, _ = read_numbers(client, WebTile(z=z, x=x, y=y))
        image = Image.open(io.BytesIO(client.get(f"/tiles/main/agb/{z}/{x}/{y}.png").content)).convert("RGBA")
        if z:
            assert np.isnan(numbers).all()
            assert np.asarray(image)[..., 3].max() == 0


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/tiles/main/agb/25/0/0.png", 422, "less than or equal to 24"),
        ("/tiles/main/agb/-1/0/0.png", 422, "greater than or equal to 0"),
        ("/tiles/main/agb/3/8/0.png", 404, "columns and rows 0 to 7"),
        ("/tiles/main/agb/3/0/99999999999999999999999.npy", 422, "less than"),
        ("/tiles/main/agb/3/a/0.png", 422, "integer"),
        ("/tiles/main/x/3/0/0.png", 404, "there are agb, agb_sd, qa, n_valid"),
        ("/tiles/main/agb/zarr.json/3/0/0.png", 404, ""),
        ("/tiles/nobody/agb/3/0/0.png", 404, "no such version"),
        ("/tiles/main/agb/3/0/0.jpg", 404, ""),
        ("/tiles/main/agb/3/0/0.png?rescale=5,1", 422, "rising"),
        ("/tiles/main/agb/3/0/0.png?rescale=nan,1", 422, "rising"),
        ("/tiles/main/agb/3/0/0.png?rescale=-1e99,1e99", 422, "rising"),
        ("/tiles/main/agb/3/0/0.png?colormap=jet", 422, "viridis"),
        ("/tiles/main/qa/3/0/0.png?colormap=viridis", 422, "one colour for each flag"),
        ("/tiles/main/agb/3/0/0.png?scale=3", 422, "scale"),
        ("/tilejson.json?variable=x", 404, "there are"),
        ("/wmts?request=GetTile", 422, "GetCapabilities"),
    ],
)
def test_bad_requests_are_told_why(client, path, status, said):
    answer = client.get(path)
    assert answer.status_code == status
    assert said in answer.json()["detail"]


def test_a_snapshot_is_kept_for_ever_and_a_branch_is_asked_again(spec, client):
    tile = tiles_at(spec, 14)[0]
    place = f"agb/14/{tile.x}/{tile.y}.png"
    moving = client.get(f"/tiles/main/{place}")
    assert moving.headers["cache-control"] == "no-cache"
    again = client.get(f"/tiles/main/{place}", headers={"If-None-Match": moving.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get(f"/tiles/main/{place}?rescale=0,1", headers={"If-None-Match": moving.headers["etag"]})
    assert other.status_code == 200
    snapshot = open_store(spec.store).snapshot_id
    fixed = client.get(f"/tiles/{snapshot}/{place}")
    assert fixed.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert fixed.content == moving.content


def test_tilejson_says_where_the_map_is_and_what_its_colours_mean(spec, client):
    content = client.get("/tilejson.json").json()
    west, south, east, north = content["bounds"]
    asked = spec.area.geometry.bounds
    assert west <= asked[0] < asked[2] <= east
    assert south <= asked[1] < asked[3] <= north
    assert content["minzoom"] == 0
    assert (
        Positions(spec.map_grid).ratio(content["maxzoom"]) <= 1 < Positions(spec.map_grid).ratio(content["maxzoom"] - 1)
    )
    assert content["units"] == "Mg ha-1"
    assert len(content["colours"]) == 255
    low, high = content["rescale"]
    values = read_level(spec.store, spec, 0)[0]
    assert low <= np.nanpercentile(values, 5)
    assert np.nanpercentile(values, 95) <= high <= 2 * np.nanmax(values)
    x, y = place_of((west + east) / 2, (south + north) / 2, 14)
    template = content["tiles"][0].replace("http://testserver", "")
    assert client.get(template.format(z=14, x=int(x), y=int(y))).status_code == 200
    given = client.get("/tilejson.json?variable=agb_sd&colormap=gray&rescale=0,50&ref=main").json()
    assert given["tiles"][0].endswith("/tiles/main/agb_sd/{z}/{x}/{y}.png?colormap=gray&rescale=0,50")
    assert given["rescale"] == [0, 50]


def test_without_levels_low_zooms_are_refused_before_anything_is_read(plain, monkeypatch):
    for module in (layers, render):
        monkeypatch.setattr(module, "MOST_PIXELS", 100 * 100)
    client = TestClient(make_app(plain.store))
    assert client.get("/tilejson.json").json()["minzoom"] > 8
    monkeypatch.setattr(render, "read_window", lambda *_: pytest.fail("something was read"))
    refused = client.get(f"/tiles/main/agb/8/{tiles_at(plain, 8)[0].x}/{tiles_at(plain, 8)[0].y}.npy")
    assert refused.status_code == 422
    assert "mapper pyramid" in refused.json()["detail"]
    monkeypatch.undo()
    assert client.get(f"/tiles/main/agb/8/{tiles_at(plain, 8)[0].x}/{tiles_at(plain, 8)[0].y}.npy").status_code == 200


def test_a_desktop_program_reads_the_capabilities_and_the_tiles(spec):
    with MapServer(spec.store) as server, rasterio.Env(NO_PROXY="127.0.0.1", GDAL_HTTP_NO_PROXY="127.0.0.1"):
        with rasterio.open(f"WMTS:{server.url}/wmts,layer=agb") as dataset:
            assert dataset.crs.to_epsg() == 3857
            assert dataset.count == 4
            west, south, east, north = Positions(spec.map_grid).bounds
            x, y = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform(
                (west + east) / 2, (south + north) / 2
            )
            row, col = dataset.index(x, y)
            window = rasterio.windows.Window(col - 50, row - 50, 100, 100)
            read = dataset.read(window=window)
        assert read[3].max() == 255
        assert len(np.unique(read[:3].reshape(3, -1), axis=1).T) > 10


def test_a_new_commit_is_drawn_and_the_old_version_stays(tmp_path):
    spec = make_spec(tmp_path / "map.icechunk")
    with open_created(spec) as writer:
        tiles = list(spec.map_grid.tiles())
        write_tiles(writer, spec, tiles[:1])
        before = open_store(spec.store).snapshot_id
        client = TestClient(make_app(spec.store, AppSettings(stale_after_s=0.0)))
        tile = tiles_at(spec, 13)[0]
        old, _ = read_numbers(client, tile)
        write_tiles(writer, spec, tiles)
        new, _ = read_numbers(client, tile)
    assert np.isfinite(new).sum() > np.isfinite(old).sum() > 0
    assert np.array_equal(read_numbers(client, tile, ref=before)[0], old, equal_nan=True)


def test_what_is_kept_stays_within_its_bytes():
    cache = ByteCache(100)
    for number in range(30):
        cache.keep(number % 7, number, 30)
        assert cache.bytes <= 100
        assert cache.find(number % 7) == number
    cache.keep("huge", 1, 101)
    assert cache.find("huge") is None
    assert cache.bytes == 0


def test_an_image_of_one_colour_is_small():
    assert len(encode_png(np.zeros((256, 256), np.uint8), bytes(3))) < 600
