"""Polygons: totals that equal those of the array, areas that equal those of the ellipsoid, errors that add up right."""

import json

import numpy as np
import pytest
import rasterio
import run_maps
import shapely
from affine import Affine
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Geod, Transformer
from pyramids import read_level, write_field
from store_maps import NATIVE, PROJECTED, make_spec, write_tiles

from mapper.execute.executors import SerialExecutor
from mapper.plan.context import make_context
from mapper.plan.plan import make_plan
from mapper.predict.quality import mask_of
from mapper.run.pyramid import build_pyramid
from mapper.run.runner import run_plan
from mapper.serve.app import make_app
from mapper.serve.settings import AppSettings
from mapper.serve.stats import routes as stats
from mapper.serve.stats.pixel_area import Ground
from mapper.serve.stats.pixel_coverage import cover_window
from mapper.serve.stats.sum_uncertainty import compute_sum_sd
from mapper.store import rasters
from mapper.store.product import map_product
from mapper.store.writer import open_writer

GRIDS = {"projected": PROJECTED, "native": NATIVE}


@pytest.fixture(scope="module", params=GRIDS)
def spec(request, tmp_path_factory):
    return write_field(tmp_path_factory.mktemp("stats") / "map.icechunk", grid=GRIDS[request.param])


@pytest.fixture(scope="module")
def client(spec):
    return TestClient(make_app(spec.store))


def ask(client, area, **query):
    answer = client.post("/stats", json=json.loads(shapely.to_geojson(area)), params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def inside_of(spec, *, holes=True):
    """A polygon of odd shape amid the map, in degrees."""
    west, south, east, north = spec.area.geometry.bounds
    x, y = (west + east) / 2, (south + north) / 2
    ring = shapely.affinity.scale(
        shapely.Point(x, y).buffer(1, quad_segs=5), (east - west) / 2.2, (north - south) / 2.3
    )
    ring = shapely.affinity.skew(ring, 8)
    hole = shapely.affinity.scale(ring, 0.3, 0.2)
    return ring.difference(hole) if holes else ring


def cover_plainly(area, grid):
    """Share of every pixel of a map inside a polygon in degrees, one intersection at a time."""
    to_map = Transformer.from_crs("EPSG:4326", grid.crs, always_xy=True)
    projected = shapely.transform(shapely.segmentize(area, 0.001), to_map.transform, interleaved=False)
    at, (rows, cols) = grid.geobox.transform, grid.shape
    left, top = at.c + at.a * np.arange(cols), at.f + at.e * np.arange(rows)
    boxes = shapely.box(left[None, :], (top + at.e)[:, None], (left + at.a)[None, :], top[:, None])
    return shapely.area(shapely.intersection(projected, boxes)) / abs(at.a * at.e)


def measure_plainly(transform, shape, crs):
    """Area of every pixel in square metres: its outline in an equal-area projection around the middle."""
    geodetic = CRS.from_user_input(crs).geodetic_crs
    middle = transform @ (shape[1] / 2, shape[0] / 2)
    lon, lat = Transformer.from_crs(crs, geodetic, always_xy=True).transform(*middle)
    axes = geodetic.ellipsoid.semi_major_metre, geodetic.ellipsoid.semi_minor_metre
    local = f"+proj=laea +lon_0={lon} +lat_0={lat} +a={axes[0]!r} +b={axes[1]!r}"
    turn = Transformer.from_crs(geodetic, local, always_xy=True)
    to_degrees = Transformer.from_crs(crs, geodetic, always_xy=True)
    col, row = np.meshgrid(np.arange(shape[1]), np.arange(shape[0]))
    side, ones, zeros = np.linspace(0, 1, 4, endpoint=False), np.ones(4), np.zeros(4)
    rights, downs = np.concatenate([side, ones, 1 - side, zeros]), np.concatenate([zeros, side, ones, 1 - side])
    points = [
        np.stack(turn.transform(*to_degrees.transform(*(transform @ (col + right, row + down)))))
        for right, down in zip(rights, downs, strict=True)
    ]
    points = [point - points[0] for point in points]
    pairs = zip(points, [*points[1:], points[0]], strict=True)
    return abs(sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in pairs)) / 2


def test_totals_are_those_of_the_array(spec, client):
    area = inside_of(spec)
    told = ask(client, area, bins=8, range="40,200")
    value, sd, flags, _ = read_level(spec.store, spec, 0)
    weights = cover_plainly(area, spec.map_grid) * measure_plainly(
        spec.map_grid.geobox.transform, spec.map_grid.shape, spec.grid.crs
    )
    valid = np.isfinite(value)
    products = weights[valid] * value[valid].astype(float)
    assert told["total"]["value"] == pytest.approx(products.sum() / 1e4, rel=1e-6)
    assert told["total"]["units"] == "Mg"
    assert told["mean"]["value"] == pytest.approx(products.sum() / weights[valid].sum(), rel=1e-6)
    assert told["area_ha"] == pytest.approx(weights.sum() / 1e4, rel=1e-5)
    assert told["area_in_map_ha"] == pytest.approx(weights.sum() / 1e4, rel=1e-6)
    assert told["valid_area_ha"] == pytest.approx(weights[valid].sum() / 1e4, rel=1e-6)
    assert 0.5 < told["valid_fraction"] < 1
    expected, edges = np.histogram(value[valid], 8, (40, 200), weights=weights[valid])
    assert told["histogram"]["edges"] == pytest.approx(edges)
    assert told["histogram"]["area_ha"] == pytest.approx(expected / 1e4, rel=1e-5, abs=1e-6)
    assert sum(told["histogram"]["area_ha"]) + told["histogram"]["below_ha"] + told["histogram"][
        "above_ha"
    ] == pytest.approx(told["valid_area_ha"])
    shares = {entry["flag"]: entry["share"] for entry in told["quality"]}
    for flag in (mask_of("source_missing"), mask_of("few_observations")):
        share = weights[(flags.astype(int) & flag) != 0].sum() / weights.sum()
        assert shares[flag.name.lower()] == pytest.approx(share, rel=1e-5, abs=1e-9)
    assert told["mean"]["sd"]["fully_correlated"] == pytest.approx(
        (weights[valid] * sd[valid]).sum() / weights[valid].sum(), rel=1e-5
    )
    assert told["resolution"]["level"] == 0
    assert told["resolution"]["total_tolerance"] == 0


def test_errors_add_up_over_pixels_of_the_source(spec, client):
    area = inside_of(spec, holes=False)
    _, sd, _, _ = read_level(spec.store, spec, 0)
    grid = spec.map_grid
    products = (
        np.nan_to_num(cover_plainly(area, grid) * measure_plainly(grid.geobox.transform, grid.shape, grid.crs) * sd)
        / 1e4
    )
    rows, cols = (-(-size // grid.scale) * grid.scale for size in grid.shape)
    padded = np.zeros((rows, cols))
    padded[: grid.shape[0], : grid.shape[1]] = products
    cells = padded.reshape(rows // grid.scale, grid.scale, cols // grid.scale, grid.scale).sum(axis=(1, 3))
    row, col = np.nonzero(cells)
    geod, at = Geod(ellps="WGS84"), grid.geobox.transform
    to_degrees = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    corner = [to_degrees.transform(*(at @ (c, r))) for c, r in ((0, 0), (grid.scale, 0), (0, grid.scale))]
    width, height = (geod.inv(*corner[0], *other)[2] for other in corner[1:])
    distance = np.hypot((row[:, None] - row) * height, (col[:, None] - col) * width)
    weights = cells[row, col]
    previous = np.sqrt((weights**2).sum())
    for length in (50, 400, 3000):
        told = ask(client, area, correlation=length)["total"]["sd"]
        expected = np.sqrt(weights @ np.exp(-distance / length) @ weights)
        assert told["correlated"] == pytest.approx(expected, rel=2e-3)
        assert told["independent"] == pytest.approx(np.sqrt((weights**2).sum()), rel=1e-5)
        assert told["fully_correlated"] == pytest.approx(weights.sum(), rel=1e-5)
        assert previous < told["correlated"] < weights.sum()
        previous = told["correlated"]
    assert ask(client, area)["total"]["sd"]["correlated"] is None, "the map says no length"
    assert ask(client, area, correlation=0)["total"]["sd"]["correlated"] == pytest.approx(
        np.sqrt((weights**2).sum()), rel=1e-5
    )


def test_the_length_of_the_source_is_the_default(tmp_path):
    spec = make_spec(
        tmp_path / "map.icechunk",
        source={
            "collection": "esa-cci-biomass", "variable": "agb", "sd": "agb_sd", "resolution": 100, "sd_correlation": 700
        },
    )  # fmt: skip
    from mapper.store.repository import create_store  # noqa: PLC0415

    create_store(spec.store, product=map_product(spec))
    with open_writer(spec.store, product=map_product(spec), run_id="run-1") as writer:
        write_tiles(writer, spec, list(spec.map_grid.tiles()))
    told = ask(TestClient(make_app(spec.store)), inside_of(spec))["total"]["sd"]
    assert told["correlation_m"] == 700
    assert told["independent"] < told["correlated"] < told["fully_correlated"]


def test_the_total_of_a_map_is_that_of_its_source(tmp_path):
    """Hard consistency: over whole pixels of the source the map holds what the source holds."""
    items = run_maps.make_items(tmp_path)
    spec = run_maps.make_spec(tmp_path, tile=120, model=run_maps.save_network(tmp_path), consistency="hard")
    context = make_context(spec)
    assert run_plan(make_plan(spec, items, context=context), context, spec.store, SerialExecutor()).exit_code == 0
    to_degrees = Transformer.from_crs(run_maps.CRS, "EPSG:4326", always_xy=True)
    left, bottom, right, top = (round(edge, -2) for edge in spec.map_grid.area.geom.buffer(-150).bounds)
    left, bottom, right, top = left + 100, bottom + 100, right - 100, top - 100  # the area stands askew on the grid
    frame = shapely.segmentize(shapely.box(left, bottom, right, top), 20)
    assert spec.map_grid.area.geom.contains(frame)
    told = ask(TestClient(make_app(spec.store)), shapely.transform(frame, to_degrees.transform, interleaved=False))
    with rasterio.open(tmp_path / "cci-2020_agb.tif") as dataset:
        source = dataset.read(1, window=dataset.window(left, bottom, right, top))
    assert source.size > 60
    assert told["valid_fraction"] == pytest.approx(1, abs=1e-6)
    assert told["area_ha"] == pytest.approx(source.size, rel=1e-6), "a pixel of the source is one hectare"
    assert told["total"]["value"] == pytest.approx(source.sum(dtype=float), rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_shares_of_pixels_are_exact(data):
    """Stars with holes, anywhere around and across the window."""
    number = st.floats(-4, 16).map(lambda value: round(value, data.draw(st.sampled_from([0, 1, 5]))))
    count = data.draw(st.integers(3, 9))
    centre = np.array([data.draw(number), data.draw(number)])
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    lengths = np.array([data.draw(st.floats(0.05, 9)) for _ in range(count)])
    spokes = np.stack([np.cos(angles), np.sin(angles)], axis=1) * lengths[:, None]
    star = shapely.Polygon(centre + spokes, [centre + spokes * 0.4])
    if not star.is_valid:
        return
    transform = Affine(2.0, 0, -1.5, 0, -2.0, 14.0)
    boxes = shapely.box(
        -1.5 + 2 * np.arange(6)[None], 12.0 - 2 * np.arange(7)[:, None],
        0.5 + 2 * np.arange(6)[None], 14.0 - 2 * np.arange(7)[:, None],
    )  # fmt: skip
    expected = shapely.area(shapely.intersection(star, boxes)) / 4
    found = cover_window(star, transform, (7, 6))
    assert (np.zeros((7, 6)) if found is None else found) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("crs", "x", "y", "step"),
    [
        ("EPSG:4326", 12.0, 50.0, 1 / 11250),
        ("EPSG:4326", 12.0, -10.0, 0.01),
        ("EPSG:3035", 4_300_000, 3_200_000, 10),
        ("EPSG:3035", 2_700_000, 1_500_000, 640),
        ("EPSG:32633", 200_000, 7_500_000, 20),
        ("EPSG:3857", 1_000_000, 8_000_000, 30),
        ("EPSG:2154", 200_000, 6_300_000, 30),
    ],
)
def test_areas_of_pixels_are_those_of_the_ellipsoid(crs, x, y, step):
    transform, shape = Affine(step, 0, x, 0, -step, y), (150, 70)
    areas = np.broadcast_to(Ground(crs).measure(transform, shape), shape)
    assert areas == pytest.approx(measure_plainly(transform, shape, crs), rel=1e-6)


def test_larger_cells_stand_for_the_pixels_of_the_source_in_them():
    fine = np.random.default_rng(2).gamma(2, 1, (6, 6)).repeat(4, axis=0).repeat(4, axis=1)
    coarse = fine.reshape(6, 4, 6, 4).sum(axis=(1, 3))
    for length in (30.0, 200.0, 2000.0):
        exact = compute_sum_sd(fine, parts=1, step_m=(100.0, 70.0), length_m=length)
        found = compute_sum_sd(coarse, parts=4, step_m=(400.0, 280.0), length_m=length)
        assert found.independent == pytest.approx(exact.independent)
        assert found.correlated == pytest.approx(exact.correlated, rel=0.01)
        assert found.fully_correlated == pytest.approx(exact.fully_correlated)


def test_the_work_is_done_in_blocks(spec, client, monkeypatch):
    whole = ask(client, inside_of(spec), correlation=300)
    monkeypatch.setattr("mapper.serve.stats.zonal_sums._BLOCK_PX", 32)
    pieces = ask(client, inside_of(spec), correlation=300)
    for told in (whole, pieces):
        told["resolution"].pop("pixels")
    assert flatten(pieces) == pytest.approx(flatten(whole), rel=1e-8)


def flatten(told, path=""):
    """Numbers by path."""
    if isinstance(told, dict):
        return {key: value for name, part in told.items() for key, value in flatten(part, f"{path}/{name}").items()}
    if isinstance(told, list):
        return {key: value for name, part in enumerate(told) for key, value in flatten(part, f"{path}/{name}").items()}
    return {path: told} if isinstance(told, float) else {}


def test_a_large_polygon_is_answered_from_a_level_within_the_tolerance_that_is_told(spec, client):
    area = inside_of(spec)
    exact = ask(client, area)
    seen = set()
    for most in (100_000, 5_000, 1_500):
        told = ask(TestClient(make_app(spec.store, AppSettings(max_polygon_pixels=most))), area)
        seen.add(told["resolution"]["level"])
        assert abs(told["total"]["value"] - exact["total"]["value"]) <= told["resolution"]["total_tolerance"] + 1e-6
        assert told["resolution"]["total_tolerance"] < 0.2 * exact["total"]["value"]
        assert told["mean"]["value"] == pytest.approx(exact["mean"]["value"], rel=0.02)
        assert told["total"]["sd"]["fully_correlated"] == pytest.approx(
            exact["total"]["sd"]["fully_correlated"], rel=0.15
        )
        assert told["resolution"]["up_to_date"]
    assert seen == {0, 1, 2}
    refused = TestClient(make_app(spec.store, AppSettings(max_polygon_pixels=50))).post(
        "/stats", json=json.loads(shapely.to_geojson(area))
    )
    assert refused.status_code == 422
    assert "at most 50" in refused.json()["detail"]


def test_levels_that_are_behind_the_map_are_said_to_be(tmp_path):
    spec = write_field(tmp_path / "map.icechunk")
    with open_writer(spec.store, product=map_product(spec), run_id="run-2") as writer:
        write_tiles(writer, spec, list(spec.map_grid.tiles())[:1], version=1)
    client = TestClient(make_app(spec.store, AppSettings(max_polygon_pixels=5_000, stale_after_s=0.0)))
    assert ask(client, inside_of(spec))["resolution"]["up_to_date"] is False
    assert client.get("/tilejson.json").json()["levels_up_to_date"] is False
    build_pyramid(spec.store, SerialExecutor())
    assert ask(client, inside_of(spec))["resolution"]["up_to_date"] is True
    assert client.get("/tilejson.json").json()["levels_up_to_date"] is True


def test_a_map_without_levels_has_none_that_are_behind(tmp_path, monkeypatch):
    spec = write_field(tmp_path / "map.icechunk", levels=False)
    monkeypatch.setattr(rasters, "read_state", lambda _: pytest.fail("there is nothing to look at"))
    client = TestClient(make_app(spec.store))
    assert client.get("/tilejson.json").json()["levels_up_to_date"] is True
    assert ask(client, inside_of(spec))["resolution"]["up_to_date"] is True


def test_whether_levels_are_behind_is_found_out_once_for_a_version(tmp_path, monkeypatch):
    spec, seen = write_field(tmp_path / "map.icechunk"), []
    read_state = rasters.read_state
    monkeypatch.setattr(rasters, "read_state", lambda store: seen.append(store) or read_state(store))
    client = TestClient(make_app(spec.store, AppSettings(max_polygon_pixels=5_000, stale_after_s=0.0)))
    for _ in range(3):
        ask(client, inside_of(spec))
    assert len(seen) == 1


def test_features_and_several_polygons_are_taken(spec, client):
    area = inside_of(spec)
    whole = ask(client, area)
    feature = {"type": "Feature", "properties": {"a": 1}, "geometry": json.loads(shapely.to_geojson(area))}
    assert client.post("/stats", json=feature).json() == whole
    middle = (area.bounds[0] + area.bounds[2]) / 2
    west, east = (area.intersection(shapely.box(*sides)) for sides in ((-10, 0, middle, 80), (middle, 0, 80, 80)))
    parts = [part for side in (west, east) for part in shapely.get_parts(side)]
    halves = [ask(client, part) for part in parts]
    assert sum(half["total"]["value"] for half in halves) == pytest.approx(whole["total"]["value"], rel=1e-6)
    shifted = shapely.MultiPolygon([parts[0], shapely.affinity.translate(parts[1], 1.0, 0)])
    assert ask(client, shifted)["total"]["value"] == pytest.approx(halves[0]["total"]["value"], rel=1e-6)
    assert ask(client, shifted)["area_in_map_ha"] < 0.9 * ask(client, shifted)["area_ha"]


SQUARE = [[12.0, 50.0], [12.01, 50.0], [12.01, 50.01], [12.0, 50.01], [12.0, 50.0]]


@pytest.mark.parametrize(
    ("polygon", "said"),
    [
        ({}, "expected GeoJSON"),
        ({"type": "Point", "coordinates": [12, 50]}, "expected GeoJSON"),
        ({"type": "Feature", "geometry": None}, "expected GeoJSON"),
        ({"type": "Polygon", "coordinates": "file:///etc/passwd"}, "expected GeoJSON"),
        ({"type": "Polygon", "coordinates": []}, "list of rings"),
        ({"type": "MultiPolygon", "coordinates": []}, "empty"),
        ({"type": "Polygon", "coordinates": [SQUARE[:3]]}, "4 to 20000"),
        ({"type": "Polygon", "coordinates": [SQUARE[:4]]}, "ends where it begins"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, "x"], [1, 1], [0, 0]]]}, "in degrees"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1], [1, 1], [0, 0]]]}, "in degrees"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [10**400, 0], [1, 1], [0, 0]]]}, "in degrees"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [181, 0], [1, 1], [0, 0]]]}, "antimeridian"),
        ({"type": "Polygon", "coordinates": [[[-179, 0], [179, 0], [179, 1], [-179, 0]]]}, "antimeridian"),
        ({"type": "Polygon", "coordinates": [[[12, 50], [12.01, 50.01], [12.01, 50], [12, 50.01], [12, 50]]]}, "valid"),
        ({"type": "Polygon", "coordinates": [[[12, 50], [12.01, 50], [12, 50], [12, 50]]]}, "coordinates"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}, "outside the map"),
        ({"type": "Polygon", "coordinates": [[[0, 0]] * 30_000]}, "20000"),
        ({"type": "MultiPolygon", "coordinates": [[SQUARE]] * 5000}, "20000"),
        ({"type": "Polygon", "coordinates": [SQUARE] * 6000}, "20000"),
    ],
)
def test_bad_polygons_are_told_why(client, polygon, said):
    answer = client.post("/stats", json=polygon)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


def test_what_is_not_json_or_not_finite_is_refused(client):
    for body in (b"", b"[", b"[1]", b"null", b"[" * 100_000, b'{"type": "Polygon", "coordinates": [[[NaN, 0]]]}'):
        answer = client.post("/stats", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422), answer.text
    ring = b"[[NaN,50],[12.01,50],[12.01,50.01],[NaN,50]]"
    answer = client.post("/stats", content=b'{"type":"Polygon","coordinates":[' + ring + b"]}")
    assert answer.status_code == 422
    long = [[-179 + 358 * (k % 2), -80 + k * 0.01] for k in range(3000)]
    zigzag = {"type": "Polygon", "coordinates": [[*long, long[0]]]}
    assert client.post("/stats", json=zigzag).status_code == 422


def test_a_polygon_that_takes_too_long_is_given_up(spec, monkeypatch):
    client = TestClient(make_app(spec.store, AppSettings(max_seconds=20)))
    moments = iter([0.0, 1.0] + [100.0] * 1000)
    monkeypatch.setattr(stats.time, "monotonic", lambda: next(moments))
    zone = inside_of(spec)
    with pytest.raises(stats.InputError, match="takes too long"):
        stats._check(deadline=0.5) or stats._check(deadline=0.5)
    monkeypatch.undo()
    assert ask(client, zone)["total"]["value"] > 0


def test_a_polygon_over_missing_pixels_has_an_area_and_no_mean(spec, client):
    grid = spec.map_grid
    row, col = 60, 70
    to_degrees = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    corners = [grid.geobox.transform @ (col + right, row + down) for right, down in ((0, 0), (0, 4), (4, 4), (4, 0))]
    told = ask(client, shapely.Polygon([to_degrees.transform(*corner) for corner in corners]))
    assert told["valid_area_ha"] == 0
    assert told["total"] == {"value": 0, "units": "Mg", "sd": None}
    assert told["mean"]["value"] is None
    assert told["area_ha"] > 0
