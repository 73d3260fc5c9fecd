"""The coarse map: stored pixels on a native grid, area averages on a projected one."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from cci_maps import CELL_PX, write_cell, write_tile
from file_server import FileServer
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio import Affine
from scenes import MAP, box_at, write_item

from mapper.access.files import Access
from mapper.catalog.importers.cci import COLLECTION, make_cci_catalog
from mapper.catalog.items import freeze_items
from mapper.catalog.provider import Provider, load_provider
from mapper.catalog.static import read_catalog
from mapper.cube.source import average_blocks, read_source
from mapper.errors import GridError
from mapper.spec import parse_spec

STEP = 1 / 1125
SOUTH_WEST = (10.0, 50.0)
"""A corner of the grid: 10 and 50 degrees are whole numbers of pixels."""
PROVIDER = Provider(
    name="test", title="", kind="static", licence="", attribution="", collections={"esa-cci-biomass": MAP}
)


def spec_of(grid, *, sd="agb_sd", resolution="100", **source):
    content = {
        "name": "test",
        "area": {"bbox": [8, 50, 9, 51]},
        "period": {"start": "2020-01-01", "end": "2020-12-31"},
        "grid": grid,
        "catalog": {"provider": "demo"},
        "guide": {
            "layers": [{"collection": "sentinel-2-l2a", "bands": ["B02"]}],
            "seasons": {"year": list(range(1, 13))},
        },
        "source": {
            "collection": "esa-cci-biomass",
            "variable": "agb",
            "sd": sd,
            "resolution": resolution,
            **source,
        },
        "model": {"name": "bicubic"},
        "store": "map.icechunk",
    }
    return parse_spec(content, base=Path())


NATIVE = spec_of({"kind": "native", "crs": "EPSG:4326", "resolution": "1/11250"}, resolution="1/1125", year=2020)
PROJECTED = spec_of({"crs": "EPSG:3035", "resolution": 10}, year=2020)


def place_of(size=60, step=STEP, shift=(0.0, 0.0)):
    x, y = SOUTH_WEST
    return GeoBox((size, size), Affine(step, 0, x + shift[0], 0, -step, y + size * step + shift[1]), "EPSG:4326")


def write_map(folder, name="n50e010", when="2020-01-01T00:00:00Z", *, agb=None, place=None):
    rng = np.random.default_rng(2)
    place = place or place_of()
    if agb is None:
        agb = rng.integers(0, 400, place.shape).astype(np.uint16)
        agb[rng.random(place.shape) < 0.1] = 65535
    sd = np.where(agb == 65535, 65535, agb // 3 + 5).astype(np.uint16)
    item = write_item(folder, name, when, {"agb": (agb, place), "agb_sd": (sd, place)}, collection="esa-cci-biomass")
    return item, agb


def read(items, geobox, spec, **options):
    return read_source(freeze_items(items), geobox, spec=spec, provider=PROVIDER, **options)


def valid(agb):
    return np.where(agb == 65535, np.nan, agb).astype(np.float32)


def test_on_a_native_grid_the_stored_pixels_come_back_unchanged(tmp_path):
    item, agb = write_map(tmp_path)
    window = place_of()[7:41, 13:60]
    found = read([item], window, NATIVE)
    np.testing.assert_array_equal(found.mean, valid(agb)[7:41, 13:60])
    np.testing.assert_array_equal(found.sd, np.floor(valid(agb)[7:41, 13:60] / 3) + 5)
    assert found.uses[0].role == "source"
    assert len(found.uses[0].hrefs) == 2


def test_beside_the_map_is_missing_and_zero_is_real(tmp_path):
    item, _ = write_map(tmp_path, agb=np.zeros((60, 60), np.uint16))
    found = read([item], place_of().pad(5), NATIVE)
    assert (found.mean[5:65, 5:65] == 0).all()
    assert np.isnan(found.mean[:5]).all()
    far = read([item], place_of().translate_pix(500, 0), NATIVE)
    assert np.isnan(far.mean).all()
    assert np.isnan(far.sd).all()


@pytest.mark.parametrize(
    "place",
    [
        place_of(step=1 / 1000),
        place_of(shift=(STEP / 3, 0)),
        box_at("EPSG:32632", 571000, 5545000, size=60, step=100.0),
    ],
    ids=["size", "phase", "crs"],
)
def test_a_map_that_is_not_on_the_native_grid_is_refused(tmp_path, place):
    item, _ = write_map(tmp_path, place=place)
    with pytest.raises(GridError, match=r"n50e010 does not lie on the native grid.*projected grid"):
        read([item], place_of(), NATIVE)
    # the header of the file says so where the item does not
    silent = item | {"assets": {key: {"href": asset["href"]} for key, asset in item["assets"].items()}}
    found = read([silent], place_of(), NATIVE)
    assert np.isnan(found.mean).all()
    assert "are not those of the native grid" in found.uses[0].dropped


def coarse_grid(size=24):
    x, y = Transformer.from_crs("EPSG:4326", "EPSG:3035", always_xy=True).transform(10.026, 50.027)
    return box_at("EPSG:3035", round(x, -2) - size * 50, round(y, -2) + size * 50, size=size, step=100.0)


def test_on_a_projected_grid_pixels_are_area_averages(tmp_path):
    item, agb = write_map(tmp_path)
    grid = coarse_grid()
    found = read([item], grid, PROJECTED)
    # oracle: the stored pixel under each of the 100 fine centres of a block
    fine = np.arange(240) * 10 + 5.0
    x, y = np.meshgrid(grid.transform.c + fine, grid.transform.f - fine)
    lon, lat = Transformer.from_crs("EPSG:3035", "EPSG:4326", always_xy=True).transform(x, y)
    top = SOUTH_WEST[1] + 60 * STEP
    held = valid(agb)[((top - lat) / STEP).astype(int), ((lon - SOUTH_WEST[0]) / STEP).astype(int)]
    blocks = held.reshape(24, 10, 24, 10).swapaxes(1, 2).reshape(24, 24, 100).astype(np.float64)
    share = np.isfinite(blocks).mean(axis=2)
    with np.errstate(invalid="ignore"):
        expected = np.where(share >= 0.5, np.nansum(blocks, axis=2) / np.isfinite(blocks).sum(axis=2), np.nan)
    np.testing.assert_allclose(found.mean, expected, rtol=1e-6)
    assert 0 < np.isnan(found.mean).mean() < 0.3


def test_the_average_does_not_depend_on_the_window(tmp_path):
    item, _ = write_map(tmp_path)
    grid = coarse_grid()
    whole, part = read([item], grid, PROJECTED), read([item], grid[5:9, 11:24], PROJECTED)
    np.testing.assert_array_equal(part.mean, whole.mean[5:9, 11:24])
    np.testing.assert_array_equal(part.sd, whole.sd[5:9, 11:24])


def test_blocks_need_half_their_pixels():
    fine = np.full((4, 4), 8, np.float32)
    fine[:2, 1] = np.nan
    fine[2:, :2] = [[np.nan, np.nan], [np.nan, 8]]
    np.testing.assert_array_equal(average_blocks(fine, 2), [[8, 8], [np.nan, 8]])


def test_neighbouring_files_of_one_year_join(tmp_path):
    west, agb = write_map(tmp_path, "west")
    east, _ = write_map(tmp_path, "east", place=place_of(shift=(60 * STEP, 0)), agb=np.full((60, 60), 77, np.uint16))
    joined = GeoBox((60, 120), place_of().transform, "EPSG:4326")
    found = read([east, west], joined, NATIVE)
    np.testing.assert_array_equal(found.mean[:, :60], valid(agb))
    assert (found.mean[:, 60:] == 77).all()


def test_the_year_is_chosen_and_without_a_year_dates_are_averaged(tmp_path):
    items = [
        write_map(tmp_path, f"y{year}", f"{year}-01-01T00:00:00Z", agb=np.full((60, 60), value, np.uint16))[0]
        for year, value in ((2019, 100), (2020, 200), (2021, 600))
    ]
    found = read(items, place_of(), NATIVE)
    assert (found.mean == 200).all()
    assert [use.id for use in found.uses] == ["y2020"]
    every = spec_of({"kind": "native", "crs": "EPSG:4326", "resolution": "1/11250"}, resolution=str(Fraction(1, 1125)))
    assert (read(items, place_of(), every).mean == 300).all()


def test_without_a_standard_deviation_it_is_unknown(tmp_path):
    item, agb = write_map(tmp_path)
    plain = spec_of(
        {"kind": "native", "crs": "EPSG:4326", "resolution": "1/11250"}, resolution="1/1125", sd=None, year=2020
    )
    found = read([item], place_of(), plain)
    assert np.isnan(found.sd).all()
    np.testing.assert_array_equal(found.mean, valid(agb))


def test_a_broken_file_is_left_out_and_noted(tmp_path):
    west, _ = write_map(tmp_path, "west")
    east, _ = write_map(tmp_path, "east", place=place_of(shift=(60 * STEP, 0)))
    Path(east["assets"]["agb"]["href"]).write_bytes(b"nothing")
    found = read([west, east], GeoBox((60, 120), place_of().transform, "EPSG:4326"), NATIVE)
    assert np.isnan(found.mean[:, 60:]).all()
    assert not np.isnan(found.mean[:, :60]).all()
    assert "asset agb of item east" in {use.id: use.dropped for use in found.uses}["east"]


def cci_items(folder, *, root=None, **cells):
    """Items of tiles that are written at their lower left corners: ``N60E010=pixels``."""
    for cell, (pixels, options) in cells.items():
        write_cell(folder, cell, pixels=pixels, at=(CELL_PX - len(pixels), 0), **options)
    path = make_cci_catalog(
        folder / "catalog", version="7.0", year=2020, root=root or str(folder), bbox=(5, 45, 15, 55)
    )
    return read_catalog(path, collections={COLLECTION}).items


def test_across_the_edge_of_cells_stored_pixels_join_and_the_sea_is_missing(tmp_path):
    """Around 50 north, 10 east: land in the north, east of it and west; the two cells in the south have no file."""
    rng = np.random.default_rng(6)
    west, east = rng.integers(0, 400, (2, 50, CELL_PX)).astype(np.uint16)
    west[:, -20:-10] = 0
    items = cci_items(tmp_path, N60E000=(west, {}), N60E010=(east, {}))
    around = GeoBox((60, 80), Affine(STEP, 0, 10 - 30 * STEP, 0, -STEP, 50 + 40 * STEP), "EPSG:4326")
    found = read_source(freeze_items(items), around, spec=NATIVE, provider=load_provider(COLLECTION))
    np.testing.assert_array_equal(found.mean[:40, :30], west[10:, -30:])
    np.testing.assert_array_equal(found.mean[:40, 30:], east[10:, :50])
    np.testing.assert_array_equal(found.sd[:40, 30:], east[10:, :50] // 3 + 5)
    assert (found.mean[:40, 10:20] == 0).all()
    assert np.isnan(found.mean[40:]).all()
    assert np.isnan(found.sd[40:]).all()


@pytest.mark.parametrize(("dtype", "nodata"), [(np.uint16, None), (np.int16, -32768), (np.float32, float("nan"))])
def test_what_a_file_declares_as_nodata_is_missing_and_zero_is_not(tmp_path, dtype, nodata):
    pixels = np.arange(100).reshape(10, 10).astype(dtype)
    if nodata is not None:
        pixels[2:4] = nodata
    items = cci_items(tmp_path, N60E010=(pixels, {"nodata": nodata}))
    window = GeoBox((10, 10), Affine(STEP, 0, 10, 0, -STEP, 50 + 10 * STEP), "EPSG:4326")
    found = read_source(freeze_items(items), window, spec=NATIVE, provider=load_provider(COLLECTION))
    expected = pixels.astype(np.float32)
    if nodata is not None:
        expected[2:4] = np.nan
    np.testing.assert_array_equal(found.mean, expected)
    assert found.mean[0, 0] == 0


def test_a_cell_without_a_deviation_has_its_mean_only(tmp_path):
    rng = np.random.default_rng(4)
    pixels = rng.integers(0, 400, (40, 40)).astype(np.uint16)
    write_tile(tmp_path, "N60E010", pixels=pixels, at=(CELL_PX - 40, 0))
    items = cci_items(tmp_path)
    for spec, window in (
        (NATIVE, GeoBox((10, 10), Affine(STEP, 0, 10, 0, -STEP, 50 + 20 * STEP), "EPSG:4326")),
        (spec_correlated(100.0), coarse_grid(size=4)),
    ):
        found = read_source(freeze_items(items), window, spec=spec, provider=load_provider(COLLECTION))
        assert np.isfinite(found.mean).all()
        assert np.isnan(found.sd).all()


def test_tiles_on_a_server_are_read_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    pixels = np.random.default_rng(4).integers(0, 400, (40, 40)).astype(np.uint16)
    write_cell(tmp_path, "N60E010", pixels=pixels, at=(CELL_PX - 40, 0))
    window = GeoBox((30, 30), Affine(STEP, 0, 10, 0, -STEP, 50 + 30 * STEP), "EPSG:4326")
    access = Access()
    with FileServer(tmp_path) as server:
        items = cci_items(tmp_path, root=server.address)
        assert items[0]["assets"]["agb"]["href"].startswith("http://127.0.0.1")
        provider = load_provider(COLLECTION)
        found = read_source(freeze_items(items), window, spec=NATIVE, provider=provider, access=access)
    np.testing.assert_array_equal(found.mean, pixels[10:, :30])
    assert access.tally.requests >= 2
    assert access.tally.bytes_read < 500_000


def spec_correlated(length):
    return spec_of({"crs": "EPSG:3035", "resolution": 10}, year=2020, sd_correlation=length)


def test_errors_that_correlate_over_a_distance_average_away_in_part(tmp_path):
    item, _ = write_map(tmp_path)
    grid = coarse_grid()
    as_such, near, none = (read([item], grid, spec_correlated(length)) for length in (None, 100.0, 0.0))
    known = np.isfinite(as_such.sd)
    assert known.mean() > 0.7
    for found in (near, none):
        np.testing.assert_array_equal(np.isfinite(found.sd), known)
        np.testing.assert_array_equal(found.mean, as_such.mean)
    assert (none.sd[known] <= near.sd[known]).all()
    assert (near.sd[known] <= as_such.sd[known] * (1 + 1e-6)).all()
    assert 0.5 < np.median(none.sd[known] / as_such.sd[known]) < 0.9
    notes = [found.uses[0].calibration.split("; ")[-1] for found in (as_such, near, none)]
    assert notes == [f"agb_sd of area averages: errors {how}" for how in (
        "fully correlated", "correlated over 100 m", "independent",
    )]  # fmt: skip


def test_a_correlated_deviation_does_not_depend_on_the_window(tmp_path):
    item, _ = write_map(tmp_path)
    grid, spec = coarse_grid(), spec_correlated(250.0)
    whole, part = read([item], grid, spec), read([item], grid[5:9, 11:24], spec)
    np.testing.assert_allclose(part.sd, whole.sd[5:9, 11:24], rtol=1e-6)


def test_on_a_native_grid_there_is_nothing_to_average(tmp_path):
    item, _ = write_map(tmp_path)
    native = {"kind": "native", "crs": "EPSG:4326", "resolution": "1/11250"}
    found, plain = (
        read([item], place_of(), spec_of(native, resolution="1/1125", year=2020, sd_correlation=length))
        for length in (0.0, None)
    )
    np.testing.assert_array_equal(found.sd, plain.sd)
    assert "area averages" not in found.uses[0].calibration
