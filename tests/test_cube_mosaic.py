"""Fields across files: no step at a border, no invented pixel in a gap, the same in every window."""

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.warp import Resampling, reproject
from scenes import box_at
from terrain_tiles import (
    COLLECTION,
    CRS,
    SECOND,
    TO_DEGREES,
    TO_MAP,
    centres,
    elevation_spec,
    height,
    height_at,
    map_box,
    posts,
    write_tile,
)  # fmt: skip

from mapper.catalog.items import freeze_items
from mapper.catalog.provider import load_provider
from mapper.cube import mosaic
from mapper.cube.source import average_blocks, find_near, read_source
from mapper.errors import SpecError
from mapper.plan.context import make_context
from mapper.plan.plan import make_plan

PROVIDER = load_provider("planetary-computer")
WIDE = 1.5 * SECOND
"""Spacing in longitude north of 50 degrees."""


def read(items, box, folder, **source):
    """Heights of a window, (y, x)."""
    return read_source(freeze_items(items), box, spec=elevation_spec(folder, **source), provider=PROVIDER).mean


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """Three tiles: two spacings meet at 50 degrees, two tiles of one spacing at 15.03."""
    folder = tmp_path_factory.mktemp("tiles")
    return [
        write_tile(folder, "n50", posts(15 - 50 * SECOND, 50 + 120 * SECOND, (120, 216), WIDE)),
        write_tile(folder, "n49w", posts(15 - 72 * SECOND, 50.0, (120, 180))),
        write_tile(folder, "n49e", posts(15 + 108 * SECOND, 50.0, (120, 144))),
    ]


def test_a_change_of_spacing_and_a_border_are_no_steps(tiles, tmp_path):
    box = map_box(15.004, 50.02, (150, 120))
    error = read(tiles, box, tmp_path) - height(*centres(box))
    lon, lat = TO_DEGREES.transform(*centres(box))
    joint = np.abs(lat - 50 - SECOND / 2) < 1.5 * SECOND
    border = (np.abs(lon - 15.03 + SECOND / 2) < 1.5 * SECOND) & (lat < 50 - 2 * SECOND)
    north, south = (lat > 50 + 3 * SECOND), (lat < 50 - 2 * SECOND) & ~border
    assert np.isfinite(error).all()
    assert min(part.sum() for part in (joint, border, north, south)) > 100
    for part in (joint, border, north, south):
        assert rms(error[part]) < 0.15
        assert np.abs(error[part]).max() < 0.4
        assert abs(error[part].mean()) < 0.01
    means = read(tiles, box, tmp_path, resampling=None) - height(*centres(box))
    assert rms(means[north]) > 5 * rms(error[north]), "area means of stored pixels are terraces"


def test_slopes_are_those_of_the_terrain(tiles, tmp_path):
    box = map_box(15.004, 50.02, (150, 120))
    found, true = (np.gradient(values, 30.0) for values in (read(tiles, box, tmp_path), height(*centres(box))))
    slopes = [np.degrees(np.arctan(np.hypot(*each))) for each in (found, true)]
    assert rms(slopes[0] - slopes[1]) < 0.25
    coarse = np.gradient(read(tiles, box, tmp_path, resampling=None), 30.0)
    assert rms(np.degrees(np.arctan(np.hypot(*coarse))) - slopes[1]) > 1


def test_one_file_is_what_gdal_warps(tmp_path):
    tile = write_tile(tmp_path, "tile", posts(15.0, 50.0, (120, 120)))
    box = map_box(15.006, 49.994, (60, 40))
    with rasterio.open(tile["assets"]["data"]["href"]) as file:
        warped = np.full(box.shape, np.nan, np.float32)
        options = {"XSCALE": 1, "YSCALE": 1}  # a kernel of stored pixels
        reproject(
            file.read(1), warped, src_transform=file.transform, src_crs=file.crs, dst_transform=box.transform,
            dst_crs=CRS, resampling=Resampling.cubic, tolerance=0, **options,
        )  # fmt: skip
    np.testing.assert_allclose(read([tile], box, tmp_path), warped, atol=0.05)  # GDAL's places are near ones


@pytest.mark.parametrize("overlap", [0, 1, 7])
def test_tiles_of_one_grid_are_one_image_however_they_overlap(tmp_path, overlap):
    whole = posts(15.0, 50.0, (100, 100))
    parts = [whole[:, :50], whole[:50, 50 - overlap :], whole[50 - overlap :, 50 - overlap :]]
    items = [write_tile(tmp_path, f"part{number}", part) for number, part in enumerate(parts)]
    box = map_box(15.006, 49.994, (60, 40))
    expected = read([write_tile(tmp_path, "whole", whole)], box, tmp_path)
    np.testing.assert_array_equal(read(items, box, tmp_path), expected)
    np.testing.assert_array_equal(read(items[::-1], box, tmp_path), expected)


def test_windows_and_pieces_of_few_pixels_give_the_same_bits(tiles, tmp_path, monkeypatch):
    box = map_box(15.01, 50.01, (64, 48))
    whole = read(tiles, box, tmp_path)
    for rows, cols in ((slice(30, 41), slice(5, 48)), (slice(0, 1), slice(0, 1)), (slice(20, 64), slice(11, 12))):
        np.testing.assert_array_equal(read(tiles, box[rows, cols], tmp_path), whole[rows, cols])
    monkeypatch.setattr(mosaic, "most_pixels", lambda _: 900)
    np.testing.assert_array_equal(read(tiles, box, tmp_path), whole)


def test_a_window_that_ends_beside_a_border_needs_the_tile_beyond(tiles, tmp_path):
    x, y = (round(edge / 30) * 30 for edge in TO_MAP.transform(15.01, 50.0))
    whole = read(tiles, box_at(CRS, x, y + 300, size=(20, 12), step=30.0), tmp_path)
    for row in range(20):
        line = read(tiles, box_at(CRS, x, y + 300 - 30 * row, size=(1, 12), step=30.0), tmp_path)
        np.testing.assert_array_equal(line, whole[row : row + 1])


def test_tasks_are_planned_with_the_items_that_their_windows_need(tiles, tmp_path):
    items, beyond = freeze_items(tiles), 0
    for north in np.arange(49.9975, 49.9995, 0.0003):  # windows end on either side of the border
        spec = elevation_spec(tmp_path, bbox=(15.0, 49.993, 15.01, float(north)))
        context = make_context(spec)
        rule = context.provider.rule(COLLECTION)
        for task in make_plan(spec, items, context=context).tasks:
            box = context.grid.source_geobox_of(context.window(task.tile))
            needed = {item["id"] for item in find_near(items, box, spec=spec, rule=rule)}
            assert needed <= {item["id"] for item in task.source}
            beyond += len(needed - {item["id"] for item in items.touching(box)})
    assert beyond, "the case that is meant"


def test_pixels_on_the_lattice_of_the_file_are_copied_with_their_gaps(tmp_path):
    place = box_at(CRS, 500_010, 5_539_200, size=(40, 30), step=30.0)
    values = (height(*centres(place)) - 100).astype(np.float32)
    values[3, 4] = values[20:22, 8:] = -9999
    values[5, 5] = 0
    item = write_tile(tmp_path, "same", place, values=values, nodata=-9999)
    found = read([item], place, tmp_path)
    np.testing.assert_array_equal(found, np.where(values == -9999, np.nan, values))
    assert found[5, 5] == 0


def test_small_pixels_are_averaged(tmp_path):
    place = box_at(CRS, 500_000, 5_539_200, size=(120, 90), step=10.0)
    values = height(*centres(place)).astype(np.float32)
    values[31, 40] = np.nan
    item = write_tile(tmp_path, "fine", place, values=values)
    box = box_at(CRS, 500_000, 5_539_200, size=(40, 30), step=30.0)
    np.testing.assert_allclose(read([item], box, tmp_path), average_blocks(values, 3), atol=1e-4)


@settings(max_examples=12, deadline=None)
@given(column=st.integers(30, 60), shift=st.floats(0, 1), kind=st.sampled_from(["nan", "-32767", "between files"]))
def test_a_gap_of_one_stored_pixel_stays_a_gap_in_every_row(tmp_path_factory, column, shift, kind):
    folder = tmp_path_factory.mktemp("gap")
    whole = posts(15.0 + shift * SECOND, 50.0, (90, 120))
    if kind == "between files":
        items = [write_tile(folder, "w", whole[:, :column]), write_tile(folder, "e", whole[:, column + 1 :])]
    else:
        values = height_at(*centres(whole)).astype(np.float32)
        values[:, column] = float(kind)
        items = [write_tile(folder, "one", whole, values=values)]
    box = map_box(15.003, 49.996, (60, 60))
    found = read(items, box, folder)
    lon, _ = TO_DEGREES.transform(*centres(box))
    gap = 15.0 + (shift + column) * SECOND
    near = np.abs(lon - gap) < 2 * SECOND
    assert np.isnan(found)[near.any(axis=1)].any(axis=1).all()
    assert np.isfinite(found[~near & np.isfinite(lon)]).all()
    error = found - height(*centres(box))
    assert np.nanmax(np.abs(error)) < 8, "beside a gap a stored pixel may count for a quarter more"


def test_what_no_file_has_is_missing_and_zero_is_the_sea(tmp_path):
    coast = posts(15.0, 50.0, (60, 60))
    values = np.maximum(height_at(*centres(coast)), 0).astype(np.float32)
    values[:, :20] = 0
    item = write_tile(tmp_path, "coast", coast, values=values)
    box = map_box(15.0 - 60 * SECOND, 50 + 30 * SECOND, (80, 90))
    found = read([item], box, tmp_path)
    lon, lat = TO_DEGREES.transform(*centres(box))
    inside = (lon > 15) & (lon < 15 + 59 * SECOND) & (lat < 50) & (lat > 50 - 59 * SECOND)
    rim = SECOND / 4
    far = (lon < 15 - rim) | (lon > 15 + 59 * SECOND + rim) | (lat > 50 + rim) | (lat < 50 - 59 * SECOND - rim)
    assert np.isfinite(found[inside]).all()
    assert np.isnan(found[far]).all()
    sea = inside & (lon < 15 + 17 * SECOND)
    assert (found[sea] == 0).all()
    assert sea.sum() > 100


def test_longitudes_come_round(tmp_path):
    crs = "EPSG:32601"
    west, east = (posts(lon, 50.0, (60, 60)) for lon in (180 - 60 * SECOND, -180.0))
    rng = np.random.default_rng(3)
    values = np.cumsum(rng.normal(size=(60, 120)), axis=1).astype(np.float32)
    items = [
        write_tile(tmp_path, "w", west, values=values[:, :60]),
        write_tile(tmp_path, "e", east, values=values[:, 60:]),
    ]
    other = write_tile(tmp_path, "whole", posts(180 - 60 * SECOND, 50.0, (60, 120)), values=values)
    x, y = 285_500, 5_542_500
    box = box_at(crs, x, y, size=(40, 40), step=30.0)
    found, expected = (read(each, box, tmp_path, crs=crs) for each in (items, [other]))
    assert np.isfinite(expected).mean() > 0.5
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_dates_are_averaged_unless_the_source_is_static(tmp_path):
    place = posts(15.0, 50.0, (60, 60))
    items = [
        write_tile(
            tmp_path, f"y{year}", place, values=np.full((60, 60), level, np.float32), when=f"{year}-06-01T00:00:00Z"
        )
        for year, level in ((2019, 10), (2020, 30))
    ]
    box = map_box(15.004, 49.996, (20, 20))
    np.testing.assert_allclose(read(items, box, tmp_path, static=False), 20, rtol=1e-6)
    np.testing.assert_allclose(read(items, box, tmp_path), 10, rtol=1e-6, err_msg="the first in order")


def test_a_collection_with_a_mask_is_refused(tmp_path):
    rule = PROVIDER.collections[COLLECTION].model_copy(update={"mask": PROVIDER.collections["sentinel-2-l2a"].mask})
    provider = PROVIDER.model_copy(update={"collections": {COLLECTION: rule}})
    item = write_tile(tmp_path, "tile", posts(15.0, 50.0, (30, 30)))
    with pytest.raises(SpecError, match="has a mask"):
        read_source(
            freeze_items([item]), map_box(15.002, 49.998, (5, 5)), spec=elevation_spec(tmp_path), provider=provider
        )


def test_a_broken_file_is_left_out_by_name(tiles, tmp_path):
    broken = write_tile(tmp_path, "broken", posts(15.01, 50.0, (40, 40)))
    (tmp_path / "broken" / "data.tif").write_bytes(b"II*\0 nothing")
    box = map_box(15.012, 49.998, (10, 10))
    found = read_source(freeze_items([*tiles, broken]), box, spec=elevation_spec(tmp_path), provider=PROVIDER)
    assert "asset data of item broken" in {use.id: use.dropped for use in found.uses}["broken"]
    np.testing.assert_array_equal(found.mean, read(tiles, box, tmp_path))


def test_windows_and_items_outside_of_each_other_are_no_error(tiles, tmp_path):
    assert np.isnan(read(tiles, map_box(17.0, 52.0, (4, 4)), tmp_path)).all()
    assert np.isnan(read([], map_box(15.0, 50.0, (4, 4)), tmp_path)).all()


def test_rows_decide_which_pixels_are_averaged():
    here = box_at(CRS, 500_000, 5_539_200, size=4, step=30.0)
    grids = {step: mosaic.SourceGrid(crs=rasterio.CRS.from_epsg(4326).to_wkt(), step=(step, -step), phase=(0.0, 0.0))
             for step in (SECOND, SECOND / 3)}  # fmt: skip
    assert [mosaic.is_finer(grid, here) for grid in grids.values()] == [False, True]
    degrees = GeoBox((4, 4), posts(15.0, 50.0, (4, 4)).transform, "EPSG:4326")
    assert not mosaic.is_finer(grids[SECOND], degrees)
