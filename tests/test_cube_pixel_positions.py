"""Positions are those of the projection, to a millionth of a pixel, and the same numbers in every window."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio import Affine
from scenes import box_at

from mapper.cube.pixel_positions import SourceGrid, locate

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
