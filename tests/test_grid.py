"""The grid: lattice, nesting, windows, area."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
import rasterio.transform
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from mapper.errors import GridError
from mapper.grid import MapGrid, Tile, Window

AREA = shapely.box(11.95, 50.0, 12.05, 50.06)
NATIVE = {"crs": "EPSG:4326", "resolution": Fraction(1, 11250), "source_resolution": Fraction(1, 1125)}
PROJECTED = {"crs": "EPSG:3035", "resolution": Fraction(10), "source_resolution": Fraction(100)}


def cover(area=AREA, *, tile_px=256, chunk_px=256, **lattice):
    return MapGrid.cover(area, **(PROJECTED | lattice), tile_px=tile_px, chunk_px=chunk_px)


def areas():
    return st.builds(
        lambda lon, lat, w, h: shapely.box(lon, lat, lon + w, lat + h),
        st.floats(-9, 25),
        st.floats(38, 64),
        st.floats(0.002, 0.12),
        st.floats(0.002, 0.12),
    )


@settings(max_examples=30, deadline=None)
@given(areas(), st.sampled_from([PROJECTED, NATIVE]), st.sampled_from([64, 256, 320]))
def test_tiles_cover_the_area_and_lie_on_the_source_lattice(area, lattice, tile_px):
    grid = cover(area, **lattice, tile_px=tile_px, chunk_px=tile_px)
    assert shapely.box(*grid.geobox.boundingbox.bbox).buffer(1e-6).contains(grid.area.geom)
    left, top = grid.geobox.boundingbox.left, grid.geobox.boundingbox.top
    source = float(lattice["source_resolution"])
    assert left / source == pytest.approx(round(left / source), abs=1e-6)
    assert top / source == pytest.approx(round(top / source), abs=1e-6)
    touched = shapely.union_all(
        [shapely.box(*grid.geobox_of(grid.window(tile)).boundingbox.bbox) for tile in grid.tiles()]
    )
    assert touched.buffer(source * 1e-6).contains(grid.area.geom)


@given(st.integers(-5000, 5000), st.integers(-5000, 5000), st.integers(1, 900), st.integers(0, 200), st.integers(1, 12))
def test_grown_windows_hold_the_margin_and_lie_on_steps(top, left, size, margin, step):
    core = Window(top=top, left=left, bottom=top + size, right=left + size)
    grown = core.grown(margin, step)
    assert grown.top <= top - margin
    assert grown.bottom >= core.bottom + margin
    assert top - margin - grown.top < step
    assert grown.bottom - core.bottom - margin < step
    assert all(edge % step == 0 for edge in (grown.top, grown.left, grown.bottom, grown.right))
    rows, cols = core.inside(grown)
    assert (rows.stop - rows.start, cols.stop - cols.start) == core.shape


@pytest.mark.parametrize("lattice", [PROJECTED, NATIVE], ids=["projected", "native"])
def test_source_pixels_nest_in_windows(lattice):
    grid = cover(**lattice)
    window = grid.window(Tile(0, 1), halo_px=24)
    fine, coarse = grid.geobox_of(window), grid.source_geobox_of(window)
    assert coarse.boundingbox.bbox == pytest.approx(fine.boundingbox.bbox)
    assert tuple(s * grid.scale for s in coarse.shape) == tuple(fine.shape)


def test_a_tile_size_that_is_no_multiple_of_the_scale_still_gives_whole_source_pixels():
    grid = cover(tile_px=256)
    assert grid.scale == 10
    window = grid.window(Tile(0, 1), halo_px=30)
    assert window.left % 10 == 0
    assert window.left <= 226


def test_the_lattice_does_not_depend_on_the_tile_size():
    small, large = cover(tile_px=256), cover(tile_px=512)
    assert small.geobox.transform == large.geobox.transform


def test_a_window_off_the_source_lattice_is_refused():
    with pytest.raises(ValueError, match="source pixel edges"):
        cover().source_geobox_of(Window(top=0, left=0, bottom=256, right=256))


def test_a_source_that_does_not_nest_is_refused():
    with pytest.raises(GridError, match="does not nest"):
        cover(resolution=Fraction(30))


def test_an_area_across_the_antimeridian_is_refused():
    with pytest.raises(GridError, match="antimeridian"):
        cover(shapely.box(179.5, 50, 181, 51))


def test_an_area_without_image_in_the_crs_is_refused():
    with pytest.raises(GridError, match="finite"):
        cover(shapely.box(-170, -60, -168, -50))


def test_pixels_inside_the_area_are_those_whose_centre_is():
    grid = cover()
    tile = next(iter(grid.tiles()))
    window = grid.window(tile)
    mask = grid.inside_area(window)
    transform = grid.geobox_of(window).transform
    rows, cols = np.mgrid[: window.shape[0] : 7, : window.shape[1] : 7]
    x, y = rasterio.transform.xy(transform, rows.ravel(), cols.ravel())
    expected = shapely.contains_xy(grid.area.geom, np.asarray(x), np.asarray(y)).reshape(rows.shape)
    assert (mask[::7, ::7] == expected).all()
    assert 0 < mask.mean() < 1


def test_the_area_mask_does_not_depend_on_the_window():
    grid = cover()
    whole = grid.inside_area(Window(top=0, left=0, bottom=grid.shape[0], right=grid.shape[1]))
    for tile in grid.tiles():
        window = grid.window(tile)
        assert (grid.inside_area(window) == whole[window.slices]).all()


def test_threads_mask_the_area_as_one_does():
    """GEOS builds the index of a prepared geometry while it is first asked; two threads that do it at once crash."""
    rim = shapely.Point(12, 50).buffer(0.05, quad_segs=2000)
    windows = [cover(rim).window(tile) for tile in cover(rim).tiles()]
    expected = [cover(rim).inside_area(window).sum() for window in windows]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            grid = cover(rim)
            assert [mask.sum() for mask in pool.map(grid.inside_area, windows)] == expected


def test_a_point_is_found_in_its_pixel():
    grid = cover()
    row, col, tile = grid.locate(12.0, 50.03, crs="EPSG:4326")
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True).transform(12.0, 50.03)
    assert (row, col) == rasterio.transform.rowcol(grid.geobox.transform, x, y)
    assert tile == Tile(row // 256, col // 256)
    with pytest.raises(GridError, match="outside the map"):
        grid.locate(0, 0, crs="EPSG:4326")


def test_digests_tell_grids_apart():
    assert cover().digest == cover().digest
    assert cover().digest != cover(tile_px=512).digest
