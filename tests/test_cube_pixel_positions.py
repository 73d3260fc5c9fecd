"""Positions are those of the projection, to a millionth of a pixel, and the same numbers in every window."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from rasterio import Affine
from scenes import box_at

from mapper.cube.pixel_positions import Extent, SourceGrid, cut_to_file, locate

UTM = SourceGrid(crs=str(box_at("EPSG:32633", 0, 0).crs.to_wkt()), step=(10.0, -10.0), phase=(0.0, 0.0))
DEGREES = SourceGrid(
    crs=str(box_at("EPSG:4326", 0, 0, step=1.0).crs.to_wkt()), step=(1 / 1125, -1 / 1125), phase=(0.0, 0.0)
)
GRIDS = {
    "metres": (box_at("EPSG:3035", 4464400, 3101300, size=300), UTM),
    "degrees": (GeoBox((300, 300), Affine(1 / 11250, 0, 11.9, 0, -1 / 11250, 51.2), "EPSG:4326"), UTM),
    "coarse": (box_at("EPSG:3035", 4464000, 3101000, size=300, step=100.0), UTM),
    "far from the meridian": (box_at("EPSG:3035", 2700000, 2000000, size=300), UTM),
    "from degrees": (box_at("EPSG:3035", 4464400, 3101300, size=300), DEGREES),
}


def positions(found):
    """Rows and columns on the endless source grid, of the corner and the way from it."""
    row, col = np.divmod(found.corner, found.shape[1])
    return row + found.top + found.weights[0].astype(float), col + found.left + found.weights[1].astype(float)


@pytest.mark.parametrize("name", GRIDS)
def test_positions_are_those_of_the_projection(name):
    geobox, grid = GRIDS[name]
    x, y = np.meshgrid(
        geobox.transform.c + geobox.transform.a * (np.arange(geobox.width) + 0.5),
        geobox.transform.f + geobox.transform.e * (np.arange(geobox.height) + 0.5),
    )
    x, y = Transformer.from_crs(str(geobox.crs), grid.crs, always_xy=True).transform(x, y)
    rows, cols = positions(locate(geobox, grid))
    np.testing.assert_allclose(rows + 0.5, (y - grid.phase[1]) / grid.step[1], rtol=0, atol=2e-6)
    np.testing.assert_allclose(cols + 0.5, (x - grid.phase[0]) / grid.step[0], rtol=0, atol=2e-6)


@pytest.fixture(scope="module")
def wholes():
    return {name: locate(*case) for name, case in GRIDS.items()}


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(GRIDS)), st.integers(0, 298), st.integers(0, 298), st.integers(1, 300), st.integers(1, 300)
)
def test_positions_are_the_same_in_every_window(wholes, name, top, left, height, width):
    geobox, grid = GRIDS[name]
    window = np.s_[top : min(top + height, 300), left : min(left + width, 300)]
    part, whole = locate(geobox[window], grid), wholes[name]
    for found, expected in zip(positions(part), positions(whole), strict=True):
        np.testing.assert_array_equal(found, expected[window])


def test_beyond_the_reach_of_the_source_crs_pixels_are_outside():
    # the transverse Mercator of a zone has no image of the other side of the earth
    world = GeoBox((90, 180), Affine(2, 0, -180, 0, -2, 90), "EPSG:4326")
    found = locate(world, UTM)
    assert found.outside is not None
    assert not found.outside[:, 90:100].any()


def test_grids_that_coincide_have_no_weights():
    found = locate(box_at("EPSG:32633", 300000, 5700000, size=40), UTM)
    assert found.weights is None
    row, col = np.divmod(found.corner, found.shape[1])
    np.testing.assert_array_equal(row[:, 0] + found.top, np.arange(40) - 570000)
    np.testing.assert_array_equal(col[0] + found.left, np.arange(40) + 30000)


def nearest_of(positions):
    """Rows and columns on the endless source grid of the source pixel that holds each target pixel; None outside."""
    row, col = np.divmod(positions.corner.astype(np.int64), positions.shape[1])
    if positions.weights is not None:
        row, col = row + (positions.weights[0] >= 0.5), col + (positions.weights[1] >= 0.5)
    found = np.stack([row + positions.top, col + positions.left]).astype(float)
    return found if positions.outside is None else np.where(positions.outside, np.nan, found)


def test_a_frame_of_more_pixels_than_a_number_of_32_bits_counts_does_not_wrap():
    fine = SourceGrid(crs=UTM.crs, step=(0.5, -0.5), phase=(0.0, 0.0))
    coarse = box_at("EPSG:32633", 300000, 5700000, size=96, step=600.0)
    found = locate(coarse, fine)
    assert found.frame_px > 2**33
    assert 0 <= found.corner.min() <= found.corner.max() < found.frame_px
    centres = 300000 + 600 * (np.arange(96) + 0.5), 5700000 - 600 * (np.arange(96) + 0.5)
    rows, cols = nearest_of(found)
    np.testing.assert_array_equal(cols[0], np.floor(centres[0] / 0.5))
    np.testing.assert_array_equal(rows[:, 0], np.floor(-centres[1] / 0.5))


def test_a_window_without_an_image_in_the_source_crs_needs_no_source_pixel():
    # a quarter of the earth from the meridian of the zone, on the equator
    far = box_at("EPSG:32715", 750000, 9950000, size=24)
    found = locate(far, SourceGrid(crs=CRS(32760).to_wkt(), step=(10.0, -10.0), phase=(0.0, 0.0)))
    assert found.outside.all()
    assert found.frame_px == 0


def test_a_window_across_180_degrees_has_a_frame_as_large_as_others():
    frames = [locate(box_at("EPSG:32760", x, 8200000, size=200), DEGREES).shape for x in (500000, 819500)]
    assert np.abs(np.subtract(*frames)).max() < 6


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(GRIDS)),
    st.integers(-40, 320),
    st.integers(-40, 320),
    st.integers(1, 500),
    st.integers(1, 500),
    st.sampled_from([64, 700, 2**22]),
)
def test_pieces_hold_the_pixels_that_lie_in_a_file_and_no_other(wholes, name, top, left, height, width, most):
    positions, (geobox, grid) = wholes[name], GRIDS[name]
    extent = Extent(top=positions.top + top, left=positions.left + left, shape=(height, width))
    rows, cols = nearest_of(positions)
    inside = (rows >= extent.top) & (rows < extent.top + height) & (cols >= extent.left) & (cols < extent.left + width)
    found = np.full((2, *geobox.shape), np.nan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mapper.cube.pixel_positions.most_pixels", lambda _: most)
        for part, piece in cut_to_file(positions, extent, grid.turn):
            assert piece.frame_px <= most or piece.corner.size == 1
            assert np.isnan(found[0][part]).all()
            found[:, *part] = nearest_of(piece)
    if most == 2**22:  # one piece, the whole frame: what is beside the file is cut off where the file is read
        found[:, ~inside] = np.nan
    np.testing.assert_array_equal(found[0], np.where(inside, rows, np.nan))
    np.testing.assert_array_equal(found[1], np.where(inside, cols, np.nan))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([1.0, 0.25, 1 / 3, 0.7, 1 / 112.5, 0.0008888888888889]),
    st.integers(-720, 720),
    st.integers(1, 360),
    st.integers(-360, 360),
)
@example(step=0.7, first=95, degrees=1, west=-265)  # the file begins within the last column of a turn
def test_longitudes_come_round_whatever_turn_a_file_counts_from(step, first, degrees, west):
    # 300 targets in a row from `west`, a file of `degrees` from `first`: those in it modulo 360 are found
    grid = SourceGrid(crs=DEGREES.crs, step=(step, -step), phase=(0.0, 0.0))
    geobox = GeoBox((1, 300), Affine(0.1, 0, west + 0.013, 0, -0.1, 50.03), "EPSG:4326")
    extent = Extent(top=-2000000, left=round(first / step), shape=(4000000, round(degrees / step)))
    longitude = west + 0.013 + 0.1 * (np.arange(300) + 0.5)
    column = np.floor(extent.left + ((longitude / step - extent.left) % grid.turn))
    expected = np.where(column < extent.left + extent.shape[1], column, np.nan)
    found = np.full(300, np.nan)
    for part, piece in cut_to_file(locate(geobox, grid), extent, grid.turn):
        cols = nearest_of(piece)[1]
        cols[(cols < extent.left) | (cols >= extent.left + extent.shape[1])] = np.nan
        found[part[1]] = cols[0]
    tied = np.abs(longitude / step - np.round(longitude / step)) < 1e-3  # on an edge of pixels
    np.testing.assert_array_equal(found[~tied], expected[~tied])
