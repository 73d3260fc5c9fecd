"""The standard deviation of area averages: the double sum over stored pixels, and a field that really correlates."""

import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Transformer
from rasterio import Affine
from scenes import MAP, box_at, write_item

from mapper.access.files import Access
from mapper.cube.area_sd import average_deviation, find_stored_grid
from mapper.cube.projection import AssetGrid
from mapper.cube.source import average_blocks
from mapper.errors import GridError

STEP = 1 / 1125
SCALE = 10
STORED = AssetGrid(crs=CRS("EPSG:4326"), transform=Affine(STEP, 0, 10, 0, -STEP, 60), shape=(11250, 11250))
GRID = box_at("EPSG:3035", 4_520_000, 3_190_000, size=6, step=100.0)
LENGTHS = [0, 60.0, 500.0, 20_000.0]


def samples_of(grid, scale=SCALE):
    """Longitude and latitude of the fine samples of a grid; (y * scale, x * scale)."""
    (height, width), at = grid.shape, grid.transform
    x = at.c + at.a * (np.arange(width * scale) + 0.5) / scale
    y = at.f + at.e * (np.arange(height * scale) + 0.5) / scale
    return Transformer.from_crs(str(grid.crs), "EPSG:4326", always_xy=True).transform(*np.meshgrid(x, y))


def held_by(grid, scale=SCALE):
    """Row and column of the stored pixel under each fine sample."""
    lon, lat = samples_of(grid, scale)
    return np.floor((60 - lat) / STEP).astype(int), np.floor((lon - 10) / STEP).astype(int)


def draw_sd(rows, cols, seed=5):
    """A deviation for every stored pixel, laid under the samples."""
    top, left = rows.min(), cols.min()
    field = np.random.default_rng(seed).uniform(5, 80, (np.ptp(rows) + 1, np.ptp(cols) + 1)).astype(np.float32)
    return field[rows - top, cols - left]


def blocks_of(values, scale=SCALE):
    height, width = values.shape[0] // scale, values.shape[1] // scale
    return values.reshape(height, scale, width, scale).swapaxes(1, 2).reshape(height * width, scale * scale)


def covariance_of(pixels, sd, length):
    """Of stored pixels (n, row and column), by geodesic distances."""
    lat, lon = 60 - (pixels[:, 0] + 0.5) * STEP, 10 + (pixels[:, 1] + 0.5) * STEP
    one, other = np.meshgrid(np.arange(len(pixels)), np.arange(len(pixels)), indexing="ij")
    _, _, distance = Geod(ellps="WGS84").inv(lon[one], lat[one], lon[other], lat[other])
    correlation = np.exp(-distance / length) if length else (distance < 1e-6).astype(float)
    return np.outer(sd, sd) * correlation


def stored_under(rows, cols, sd):
    """The stored pixels under one block: positions, shares of its valid samples, deviations."""
    valid = np.isfinite(sd)
    pixels, first, counts = np.unique(
        np.stack([rows[valid], cols[valid]], axis=1), axis=0, return_index=True, return_counts=True
    )
    return pixels, counts / counts.sum(), sd[valid][first].astype(np.float64)


def double_sum(fine, grid, length):
    found = []
    for rows, cols, sd in zip(*(blocks_of(v) for v in (*held_by(grid), fine)), strict=True):
        pixels, shares, each = stored_under(rows, cols, sd)
        found.append(np.sqrt(shares @ covariance_of(pixels, each, length) @ shares))
    return np.reshape(found, grid.shape)


@pytest.fixture(scope="module")
def fine():
    return draw_sd(*held_by(GRID))


@pytest.mark.parametrize("length", LENGTHS)
def test_the_variance_is_the_double_sum_over_stored_pixels(fine, length):
    found = average_deviation(fine, GRID, stored=STORED, correlation_m=length)
    np.testing.assert_allclose(found, double_sum(fine, GRID, length), rtol=1e-5)


def test_missing_samples_have_no_share_and_half_of_them_are_needed(fine):
    holes = fine.copy()
    rows, cols = held_by(GRID)
    holes[(rows + cols) % 3 == 0] = np.nan
    holes[:SCALE, : SCALE // 2 + 1] = np.nan
    found = average_deviation(holes, GRID, stored=STORED, correlation_m=300.0)
    assert np.isnan(found[0, 0])
    np.testing.assert_array_equal(np.isnan(found), np.isnan(average_blocks(holes, SCALE)))
    assert np.isfinite(found).sum() > 20
    expected = np.where(np.isnan(found), np.nan, double_sum(np.where(np.isnan(holes), np.nan, fine), GRID, 300.0))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_endless_length_gives_the_mean_of_the_deviations(fine):
    found = average_deviation(fine, GRID, stored=STORED, correlation_m=1e12)
    np.testing.assert_allclose(found, average_blocks(fine, SCALE), rtol=1e-6)


def test_one_stored_pixel_does_not_average_away():
    coarse = replace(STORED, transform=Affine(1, 0, 10, 0, -1, 60))
    fine = np.full((60, 60), 30, np.float32)
    np.testing.assert_allclose(average_deviation(fine, GRID, stored=coarse, correlation_m=0), 30, rtol=1e-6)


def test_the_deviation_grows_with_the_length(fine):
    found = [average_deviation(fine, GRID, stored=STORED, correlation_m=length) for length in LENGTHS]
    assert all((later > earlier).all() for earlier, later in pairwise(found))


def test_a_field_that_correlates_varies_as_much():
    grid, length, draws = box_at("EPSG:3035", 4_520_000, 3_190_000, size=1, step=300.0), 150.0, 20_000
    fine = draw_sd(*held_by(grid))
    pixels, shares, sd = stored_under(*(values.ravel() for values in (*held_by(grid), fine)))
    assert len(pixels) > 12
    root = np.linalg.cholesky(covariance_of(pixels, sd, length))
    means = shares @ root @ np.random.default_rng(8).standard_normal((len(pixels), draws))
    found = float(average_deviation(fine, grid, stored=STORED, correlation_m=length)[0, 0])
    assert found == pytest.approx(means.std(), rel=4 / np.sqrt(2 * draws))
    assert found > 1.3 * float(average_deviation(fine, grid, stored=STORED, correlation_m=0)[0, 0])


@pytest.mark.parametrize("length", LENGTHS)
def test_the_deviation_does_not_depend_on_the_window(fine, length):
    whole = average_deviation(fine, GRID, stored=STORED, correlation_m=length)
    window = fine[2 * SCALE : 5 * SCALE, 3 * SCALE : 4 * SCALE]
    part = average_deviation(window, GRID[2:5, 3:4], stored=STORED, correlation_m=length)
    np.testing.assert_allclose(part, whole[2:5, 3:4], rtol=1e-6)


def test_distances_on_a_projected_grid_are_in_its_units_as_metres():
    feet = 0.3048
    stored = AssetGrid(crs=CRS("EPSG:2263"), transform=Affine(100, 0, 0, 0, -100, 0), shape=(10, 10))
    foot = stored.crs.axis_info[0].unit_conversion_factor
    grid = GeoBox((1, 1), Affine(200, 0, 0, 0, -200, 0), "EPSG:2263")
    found = average_deviation(np.full((4, 4), 10, np.float32), grid, stored=stored, correlation_m=25.0)
    near, far = np.exp(-100 * foot / 25), np.exp(-100 * foot * np.sqrt(2) / 25)
    assert found[0, 0] == pytest.approx(10 * np.sqrt((1 + 2 * near + far) / 4), rel=1e-6)
    assert foot == pytest.approx(feet, rel=1e-4)


def test_blocks_across_the_antimeridian_or_without_an_image_do_no_harm():
    stored = replace(STORED, transform=Affine(STEP, 0, -180, 0, -STEP, 80))
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:3571", always_xy=True).transform(180, 65.0)
    across = box_at("EPSG:3571", x - 150, y, size=3, step=100.0)
    fine = np.full((30, 30), 20, np.float32)
    found = average_deviation(fine, across, stored=stored, correlation_m=0)
    assert ((found > 5) & (found < 20)).all()
    nowhere = box_at("EPSG:3035", 1e9, 1e9, size=2, step=100.0)
    assert np.isnan(
        average_deviation(np.full((20, 20), np.nan, np.float32), nowhere, stored=stored, correlation_m=9.0)
    ).all()


def test_a_tile_takes_little_time():
    grid = box_at("EPSG:3035", 4_520_000, 3_190_000, size=110, step=100.0)
    fine = np.random.default_rng(4).uniform(5, 80, (1100, 1100)).astype(np.float32)
    started = time.process_time()
    average_deviation(fine, grid, stored=STORED, correlation_m=1000.0)
    assert time.process_time() - started < 0.3


def test_source_pixels_of_too_many_stored_ones_are_refused():
    grid = box_at("EPSG:3035", 4_520_000, 3_190_000, size=2, step=10_000.0)
    with pytest.raises(GridError, match=r"sd_correlation: a source pixel spans .* stored pixels, at most 1024"):
        average_deviation(np.ones((20, 20), np.float32), grid, stored=STORED, correlation_m=10.0)


def write_stored(folder, name, grid):
    pixels = np.ones(grid.shape, np.uint16), grid
    return write_item(folder, name, "2020-01-01T00:00:00Z", {"agb": pixels, "agb_sd": pixels})


def degrees(x, y, step=STEP):
    return GeoBox((20, 20), Affine(step, 0, x, 0, -step, y), "EPSG:4326")


def test_the_grid_is_the_declared_one_or_what_the_file_says(tmp_path):
    west = write_stored(tmp_path, "west", degrees(10, 50))
    east = write_stored(tmp_path, "east", degrees(10 + 20 * STEP, 50, step=0.000888888888889))
    options = {"rule": MAP, "band": "agb_sd", "access": Access()}
    declared = find_stored_grid([west, east], **options)
    assert (declared.transform.c, declared.transform.f, declared.crs.to_epsg()) == (10, 50, 4326)
    del west["assets"]["agb_sd"]["proj:transform"]
    assert find_stored_grid([west, east], **options) == declared
    del west["assets"]["agb_sd"], east["assets"]["agb_sd"]
    assert find_stored_grid([west, east], **options) is None


@pytest.mark.parametrize("grid", [degrees(10 + STEP / 3, 50), degrees(10, 50, step=1 / 1000)], ids=["phase", "size"])
def test_files_on_different_grids_are_refused(tmp_path, grid):
    items = [write_stored(tmp_path, "first", degrees(10, 50)), write_stored(tmp_path, "second", grid)]
    with pytest.raises(GridError, match="first and second lie on different grids"):
        find_stored_grid(items, rule=MAP, band="agb_sd", access=Access())
