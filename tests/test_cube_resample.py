"""Resampling is exact, does not depend on the window, never mixes missing pixels in, and says which file is broken."""

import numpy as np
import pytest
import rasterio
import rasterio.warp
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from pyproj.exceptions import ProjError
from rasterio.errors import CRSError
from rasterio.vrt import WarpedVRT
from scenes import box_at, reflectance, write_cog

from mapper.access.files import Access, gdal_environment
from mapper.access.rules import AccessRule
from mapper.access.tally import AssetName
from mapper.cube.belief import Belief
from mapper.cube.resample import Sampler
from mapper.errors import CorruptAssetError, TransientAssetError

UTM = box_at("EPSG:32633", 300000, 5700000, size=512)
LONGEST = 300


def target_on(source, *, size=LONGEST, crs="EPSG:3035", step=10.0, shift=(0, 0)):
    """A geobox in another CRS over the centre of a source."""
    x, y = source.extent.centroid.coords[0]
    east, north = Transformer.from_crs(str(source.crs), crs, always_xy=True).transform(x, y)
    east, north = round(east / step) * step, round(north / step) * step
    return box_at(
        crs, east - (size // 2 - shift[0]) * step, north + (size // 2 - shift[1]) * step, size=size, step=step
    )


def name_of(path):
    return AssetName(item="the-item", asset="B02", href=str(path))


def read(path, geobox, resampling="bilinear", missing=(0,), sampler=None):
    with gdal_environment():
        return (sampler or Sampler()).read(
            name_of(path),
            geobox,
            access=Access(),
            rule=AccessRule(),
            resampling=resampling,
            beliefs=[Belief(band="B02", missing=missing)],
        )


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    pixels = reflectance(np.random.default_rng(0), (512, 512))
    pixels[:200, :230] = 0
    return write_cog(tmp_path_factory.mktemp("scene") / "b.tif", pixels, UTM, nodata=0)


@pytest.fixture(scope="module")
def wholes(scene):
    return {how: read(scene, target_on(UTM), how) for how in ("nearest", "bilinear", "cubic")}


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["nearest", "bilinear", "cubic"]),
    st.integers(0, LONGEST - 2),
    st.integers(0, LONGEST - 2),
    st.integers(1, LONGEST),
    st.integers(1, LONGEST),
)
def test_a_pixel_is_the_same_in_every_window(scene, wholes, how, top, left, height, width):
    expected = wholes[how][top : top + height, left : left + width]
    part = target_on(UTM)[top : top + expected.shape[0], left : left + expected.shape[1]]
    found = read(scene, part, how)
    found = np.full(part.shape, np.nan, np.float32) if found is None else found
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    if how == "nearest":
        np.testing.assert_array_equal(found, expected)


def test_windows_agree_on_a_geographic_grid_too(scene):
    grid = target_on(UTM, crs="EPSG:4326", step=1 / 11250)
    whole = read(scene, grid, "bilinear")
    for rows, cols in ((slice(0, 120), slice(60, 300)), (slice(133, 260), slice(7, 31))):
        np.testing.assert_allclose(read(scene, grid[rows, cols], "bilinear"), whole[rows, cols], rtol=1e-6)


def test_positions_are_exact(tmp_path):
    # the value of a source pixel is a linear function of its position, which bilinear keeps
    rows, cols = np.mgrid[:512, :512] + 0.5
    pixels = (cols * 3 + rows * 7).astype(np.float32)
    path = write_cog(tmp_path / "ramp.tif", pixels, UTM)
    target = target_on(UTM)
    x, y = np.meshgrid(
        target.transform.c + 10 * (np.arange(LONGEST) + 0.5), target.transform.f - 10 * (np.arange(LONGEST) + 0.5)
    )
    east, north = Transformer.from_crs("EPSG:3035", "EPSG:32633", always_xy=True).transform(x, y)
    expected = (east - 300000) / 10 * 3 + (5700000 - north) / 10 * 7
    np.testing.assert_allclose(read(path, target, missing=()), expected, atol=2e-3)
    np.testing.assert_allclose(read(path, target, "cubic", missing=()), expected, atol=2e-3)


@pytest.mark.parametrize(("how", "tolerance"), [("bilinear", 2), ("cubic", 3)])
def test_values_are_those_of_an_exact_warp_by_gdal(scene, wholes, how, tolerance):
    # GDAL weighs with single-precision positions: 2e-4 px on neighbours that differ by thousands
    target = target_on(UTM)
    size = {"width": target.width, "height": target.height}
    with (
        rasterio.open(scene) as file,
        WarpedVRT(
            file,
            crs="EPSG:3035",
            transform=target.transform,
            resampling=rasterio.enums.Resampling[how],
            tolerance=1e-6,
            dtype="float32",
            nodata=float("nan"),
            XSCALE=1,
            YSCALE=1,
            **size,
        ) as warped,
    ):
        expected = warped.read(1)
    inner = ~np.isnan(wholes[how]) & ~np.isnan(expected)
    if how == "cubic":  # GDAL falls back to bilinear beside missing pixels
        clean = ~np.isnan(read(scene, target, "nearest"))
        inner &= clean & (np.abs(wholes[how] - expected) < 1000)
    np.testing.assert_array_equal(np.isnan(wholes[how]), np.isnan(expected))
    assert np.median(np.abs(wholes[how] - expected)[inner]) < 0.1
    assert np.percentile(np.abs(wholes[how] - expected)[inner], 99) < tolerance


def test_missing_pixels_are_never_mixed_in(tmp_path):
    pixels = np.full((512, 512), 3000, np.uint16)
    pixels[:, 256:] = 0
    pixels[100:120, 100:120] = 0
    path = write_cog(tmp_path / "edge.tif", pixels, UTM, nodata=0)
    for how in ("nearest", "bilinear", "cubic"):
        found = read(path, target_on(UTM), how)
        assert 0.3 < np.isnan(found).mean() < 0.7
        np.testing.assert_allclose(found[~np.isnan(found)], 3000, rtol=1e-5)


def test_all_missing_values_count_and_the_tag_of_the_file_does_too(tmp_path):
    pixels = np.array([[0, 5], [7, 65535]], np.uint16)
    grid = box_at("EPSG:32633", 300000, 5700000, size=2)
    path = write_cog(tmp_path / "tag.tif", pixels, grid, nodata=5)
    np.testing.assert_array_equal(read(path, grid, missing=(0, 65535)), [[np.nan, np.nan], [7, np.nan]])
    np.testing.assert_array_equal(read(path, grid, missing=()), [[0, np.nan], [7, 65535]])


@pytest.mark.parametrize("how", ["nearest", "bilinear", "cubic"])
def test_on_its_own_grid_a_file_is_unchanged(scene, how):
    with rasterio.open(scene) as file:
        stored = file.read(1).astype(np.float32)
    stored[stored == 0] = np.nan
    np.testing.assert_array_equal(read(scene, UTM, how), stored)
    np.testing.assert_array_equal(read(scene, UTM[37:200, 101:333], how), stored[37:200, 101:333])


def test_half_the_pixel_size_repeats_pixels(scene):
    fine = GeoBox((400, 400), UTM[200:400, 250:450].transform @ rasterio.Affine.scale(0.5), UTM.crs)
    coarse = read(scene, UTM[200:400, 250:450], "nearest")
    np.testing.assert_array_equal(read(scene, fine, "nearest"), coarse.repeat(2, 0).repeat(2, 1))


def test_files_of_one_grid_are_located_once(tmp_path):
    sampler, target = Sampler(), target_on(UTM)
    rng = np.random.default_rng(1)
    for k, shift in enumerate(((0, 0), (-1500, 700), (640, 640))):
        place = box_at("EPSG:32633", 300000 + shift[0], 5700000 + shift[1], size=512)
        read(write_cog(tmp_path / f"{k}.tif", reflectance(rng, (512, 512)), place), target, sampler=sampler)
    assert len(sampler._positions) == 1


def test_south_up_files_are_read_right(tmp_path, scene):
    with rasterio.open(scene) as file:
        stored = file.read(1)
    flipped = GeoBox(UTM.shape, rasterio.Affine(10, 0, 300000, 0, 10, 5700000 - 5120), UTM.crs)
    profile = {"driver": "GTiff", "height": 512, "width": 512, "count": 1, "dtype": "uint16", "crs": "EPSG:32633"}
    with rasterio.open(tmp_path / "s.tif", "w", **profile, transform=flipped.transform) as file:
        file.write(stored[::-1], 1)
    target = target_on(UTM)
    np.testing.assert_allclose(read(tmp_path / "s.tif", target), read(scene, target), rtol=1e-5)


def test_a_file_beside_the_window_is_none(scene):
    assert read(scene, target_on(UTM, shift=(5000, 0))) is None


def damage(path, kind):
    content = path.read_bytes()
    broken = path.with_name(f"{kind}.tif")
    if kind != "absent":
        broken.write_bytes(content[: len(content) // 2] if kind == "truncated" else b"no raster at all")
    return broken


@pytest.mark.parametrize("kind", ["truncated", "junk", "absent"])
def test_a_broken_file_is_named(scene, kind):
    path = damage(scene, kind)
    with pytest.raises(CorruptAssetError) as caught:
        read(path, target_on(UTM))
    assert (caught.value.item, caught.value.asset, caught.value.href) == ("the-item", "B02", str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("trouble", ["Too many open files", "Cannot allocate memory", "Input/output error"])
def test_trouble_of_the_machine_is_not_blamed_on_the_file(scene, monkeypatch, trouble):
    def fail(*_, **__):
        raise rasterio.errors.RasterioIOError(f"b.tif: {trouble}")

    monkeypatch.setattr(rasterio, "open", fail)
    with pytest.raises(TransientAssetError, match=trouble):
        read(scene, target_on(UTM))


def test_a_file_without_georeference_is_broken(tmp_path):
    profile = {"driver": "GTiff", "height": 4, "width": 4, "count": 1, "dtype": "uint8"}
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(tmp_path / "n.tif", "w", **profile) as file,
    ):
        file.write(np.zeros((1, 4, 4), np.uint8))
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), pytest.raises(CorruptAssetError, match="georeference"):
        read(tmp_path / "n.tif", target_on(UTM))


# -- windows that are coarse, far, or across the edge of a file in longitudes


@pytest.fixture(scope="module")
def coarse_wholes(scene):
    return {how: read(scene, COARSE, how) for how in ("nearest", "bilinear", "cubic")}


COARSE = target_on(UTM, size=90, step=130.0)
"""Beyond the scene on all sides; 169 source pixels for each of its own."""


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["nearest", "bilinear", "cubic"]),
    st.tuples(st.integers(0, 89), st.integers(0, 89), st.integers(1, 90), st.integers(1, 90)),
    st.sampled_from([300, 3000, 40000]),
)
def test_a_pixel_of_a_coarse_window_is_the_same_in_every_window_and_piece(scene, coarse_wholes, how, window, most):
    top, left, height, width = window
    expected = coarse_wholes[how][top : top + height, left : left + width]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mapper.cube.pixel_positions.most_pixels", lambda _: most)
        part = COARSE[top : top + expected.shape[0], left : left + expected.shape[1]]
        found = read(scene, part, how)
    found = np.full(part.shape, np.nan, np.float32) if found is None else found
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_coarse_window_reads_no_more_than_the_file_has_and_few_pixels_at_once(scene, monkeypatch):
    frames = []
    wide = target_on(UTM, size=120, step=1700.0)  # a frame of 10^8 source pixels
    monkeypatch.setattr(
        "mapper.cube.resample.resample", lambda raw, positions, *_: frames.append(raw.stored.shape) or np.full(
            positions.corner.shape, np.nan, np.float32
        )
    )  # fmt: skip
    read(scene, wide, "nearest")
    assert frames
    assert max(rows * cols for rows, cols in frames) < 516 * 516


def write_degrees(path, west, east, step, *, rng=None, dtype=np.float32):
    """A file of random values between 40 and 60 degrees north."""
    height, width = round(20 / step), round((east - west) / step)
    pixels = (rng or np.random.default_rng(5)).uniform(1, 100, (height, width)).astype(dtype)
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": dtype, "crs": "EPSG:4326"}
    with rasterio.open(path, "w", **profile, transform=rasterio.Affine(step, 0, west, 0, -step, 60)) as file:
        file.write(pixels, 1)
    return path


def utm_at(longitude, latitude, size=60, step=2000.0):
    zone = int((longitude + 180) // 6) % 60 + 1
    crs = f"EPSG:326{zone:02d}"
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(longitude, latitude)
    half = size // 2 * step
    return box_at(crs, round(x, -3) - half, round(y, -3) + half, size=size, step=step)


@pytest.mark.parametrize(
    ("west", "east", "step"),
    [(0, 360, 0.5), (170, 190, 0.05), (-180, 180, 0.5), (-190, -170, 0.05), (-20.3, 339.7, 0.7)],
)
@pytest.mark.parametrize("longitude", [-179.6, 179.7, -58, 24.2, -0.2, 0.1])
def test_longitudes_are_found_as_gdal_finds_them(tmp_path, west, east, step, longitude):
    path, window = write_degrees(tmp_path / "d.tif", west, east, step), utm_at(longitude, 51)
    # the oracle: the nearest pixel of each centre, its longitude modulo 360
    x, y = np.meshgrid(
        window.transform.c + window.transform.a * (np.arange(60) + 0.5),
        window.transform.f + window.transform.e * (np.arange(60) + 0.5),
    )
    lon, lat = Transformer.from_crs(str(window.crs), "EPSG:4326", always_xy=True).transform(x, y)
    with rasterio.open(path) as file:
        stored = file.read(1)
    col, row = np.floor(((lon - west) % 360) / step).astype(int), np.floor((60 - lat) / step).astype(int)
    expected = np.where(col < stored.shape[1], stored[row, np.minimum(col, stored.shape[1] - 1)], np.nan)
    found = read(path, window, "nearest", missing=())
    found = np.full(window.shape, np.nan, np.float32) if found is None else found
    edges = [np.abs(place - np.round(place)) < 2e-6 for place in (((lon - west) % 360) / step, (60 - lat) / step)]
    clear = ~np.logical_or(*edges)
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(found[clear], expected.astype(np.float32)[clear])


def test_across_180_degrees_values_are_those_of_a_warp_by_gdal(tmp_path):
    # smooth, so that GDAL's approximate positions cost little
    rows, cols = np.mgrid[:400, :400]
    pixels = (100 + 20 * np.sin(cols / 40) + 10 * np.cos(rows / 30)).astype(np.float32)
    profile = {"driver": "GTiff", "height": 400, "width": 400, "count": 1, "dtype": "float32", "crs": "EPSG:4326"}
    transform = rasterio.Affine(0.05, 0, 170, 0, -0.05, 60)
    with rasterio.open(tmp_path / "f.tif", "w", **profile, transform=transform) as file:
        file.write(pixels, 1)
    for longitude in (178.5, -178.5):
        window = utm_at(longitude, 51)
        expected = np.full(window.shape, np.nan, np.float32)
        options = {"src_nodata": None, "dst_nodata": np.nan, "resampling": rasterio.enums.Resampling.bilinear}
        rasterio.warp.reproject(
            pixels, expected, src_transform=transform, src_crs="EPSG:4326", dst_transform=window.transform,
            dst_crs=str(window.crs), XSCALE=1, YSCALE=1, **options,
        )  # fmt: skip
        found = read(tmp_path / "f.tif", window, "bilinear", missing=())
        known = np.isfinite(expected)
        assert known.mean() > 0.3
        np.testing.assert_allclose(found[known], expected[known], atol=0.2)


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["nearest", "bilinear", "cubic"]),
    st.integers(0, 58),
    st.integers(0, 58),
    st.integers(1, 60),
    st.integers(1, 60),
    st.sampled_from([150, 400, 2**22]),
)
def test_a_pixel_across_the_edge_of_longitudes_is_the_same_in_every_window(world, how, top, left, height, width, most):
    path, whole, expected = world
    bottom, right = min(top + height, 60), min(left + width, 60)
    part = whole[top:bottom, left:right]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mapper.cube.pixel_positions.most_pixels", lambda _: most)
        found = read(path, part, how, missing=())
    np.testing.assert_allclose(found, expected[how][top:bottom, left:right], rtol=1e-5)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    path = write_degrees(tmp_path_factory.mktemp("world") / "w.tif", -180, 180, 0.25)
    whole = utm_at(179.9, 51)
    found = {how: read(path, whole, how, missing=()) for how in ("nearest", "bilinear", "cubic")}
    assert all(np.isfinite(values).all() for values in found.values())
    return path, whole, found


# -- whatever goes wrong with a file is one error that names it


FAULTS = {
    "projection": (ProjError("no path"), CorruptAssetError),
    "crs": (CRSError("unknown"), CorruptAssetError),
    "overflow": (OverflowError("int too large"), CorruptAssetError),
    "value": (ValueError("two\nlines"), CorruptAssetError),
    "division": (ZeroDivisionError("float division by zero"), CorruptAssetError),
    "index": (IndexError("band 2"), CorruptAssetError),
    "denied": (PermissionError(13, "Permission denied"), TransientAssetError),
    "machine": (MemoryError("Unable to allocate 4 GiB"), TransientAssetError),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_is_raised_over_an_open_file_names_the_file(scene, monkeypatch, fault):
    error, kind = FAULTS[fault]

    def fail(*_):
        raise error

    monkeypatch.setattr("mapper.cube.resample.cut_to_file", fail)
    with pytest.raises(kind) as caught:
        read(scene, target_on(UTM))
    assert caught.value.item == "the-item"
    assert str(scene) in str(caught.value)
    assert "\n" not in str(caught.value)
