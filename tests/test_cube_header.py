"""The numbers of a file and its own masks are read as GDAL reads them, by every reader."""

import struct

import numpy as np
import pytest
import rasterio
from headers import PLAIN, item_of, items_of, oracle, write_file
from scenes import HERE, S2, clear, flat, write_item

from mapper.cube.open import open_cube
from mapper.cube.read import read_block
from mapper.errors import CorruptAssetError

RNG = np.random.default_rng(7)
HOLE = np.where(RNG.random(HERE.shape) < 0.3, 0, 255).astype(np.uint8)
NUMBERS = RNG.integers(1, 200, HERE.shape)


def holes(value, dtype):
    return np.where(HOLE == 0, value, NUMBERS).astype(dtype)


def two(first, second):
    return np.stack([first, second])


def _out_of_range(path):
    """Make a file of bytes whose header calls -99 no data: the tag is text, and GDAL writes no such file."""
    content = bytearray(write_file(path, holes(7, np.uint8), nodata=123).read_bytes())
    tag = struct.pack("<HHI", 42113, 2, 4) + b"123\0"
    assert content.count(tag) == 1
    path.write_bytes(bytes(content).replace(tag, tag[:8] + b"-99\0"))
    return path


def _jp2(path):
    pixels = two(NUMBERS, HOLE).astype(np.uint8)
    return write_file(
        path.with_suffix(".jp2"), pixels, kinds=("gray", "alpha"), driver="JP2OpenJPEG", REVERSIBLE="YES", QUALITY="100"
    )


def _tagged(path):
    """Make a file whose pixels are missing where each band has a number of its own, by GDAL's NODATA_VALUES."""
    write_file(path, two(holes(3, np.uint8), holes(9, np.uint8)), names=("agb", "other"))
    with rasterio.open(path, "r+") as file:
        file.update_tags(NODATA_VALUES="3 9")
    return path


KINDS = {
    "no data of whole numbers": lambda path: write_file(path, holes(201, np.uint8), nodata=201),
    "no data of 16 bits": lambda path: write_file(path, holes(-9999, np.int16), nodata=-9999),
    "no data of 32 bits": lambda path: write_file(path, holes(-(2**31), np.int32), nodata=-(2**31)),
    "no data of 64 bits": lambda path: write_file(path, holes(-7, np.int64), nodata=-7),
    "no data of fractions": lambda path: write_file(path, holes(-9999.5, np.float32), nodata=-9999.5),
    "no data is the least number": lambda path: write_file(
        path, holes(np.finfo(np.float32).min, np.float32), nodata=float(np.finfo(np.float32).min)
    ),
    "no data of a tenth": lambda path: write_file(path, holes(0.1, np.float32), nodata=float(np.float32(0.1))),
    "no data is NaN": lambda path: write_file(path, holes(np.nan, np.float32), nodata=np.nan),
    "no data that no number can be": _out_of_range,
    "mask inside": lambda path: write_file(path, NUMBERS.astype(np.uint16), mask=HOLE),
    "mask inside, 32 bits": lambda path: write_file(path, NUMBERS.astype(np.float32), mask=HOLE),
    "mask inside and no data": lambda path: write_file(path, holes(0, np.int16), nodata=900, mask=HOLE),
    "mask beside": lambda path: write_file(path, NUMBERS.astype(np.int16), mask=HOLE, sidecar=True),
    "alpha": lambda path: write_file(path, two(NUMBERS, HOLE).astype(np.uint8), photometric="minisblack", alpha="yes"),
    "alpha of 16 bits": lambda path: write_file(
        path, two(NUMBERS, HOLE.astype(np.uint16) * 257).astype(np.uint16), photometric="minisblack", alpha="yes"
    ),
    "JPEG 2000 with alpha": _jp2,
    "JPEG 2000 with no data beside it": lambda path: write_file(
        path.with_suffix(".jp2"),
        holes(0, np.uint16),
        nodata=0,
        driver="JP2OpenJPEG",
        REVERSIBLE="YES",
        QUALITY="100",
    ),
    "no data by all bands": _tagged,
}


@pytest.mark.parametrize("kind", KINDS)
def test_missing_is_what_gdal_masks(tmp_path, kind):
    path = KINDS[kind](tmp_path / "a.tif")
    items = items_of(item_of(path))
    expected = oracle(path)
    block = read_block(items, HERE, bands=["agb"], rule=PLAIN)["agb"].values[0]
    np.testing.assert_array_equal(block, expected)
    part = HERE[7:50, 3:40]
    np.testing.assert_array_equal(
        read_block(items, part, bands=["agb"], rule=PLAIN)["agb"].values[0], expected[7:50, 3:40]
    )
    np.testing.assert_array_equal(open_cube(items, HERE, bands="agb", rule=PLAIN)["agb"].values[0], expected)


def test_a_value_of_no_data_and_a_mask_add_up(tmp_path):
    path = write_file(tmp_path / "a.tif", NUMBERS.astype(np.int32), nodata=5, mask=HOLE)
    found = read_block(items_of(item_of(path)), HERE, bands=["agb"], rule=PLAIN)["agb"].values[0]
    np.testing.assert_array_equal(np.isnan(found), (HOLE == 0) | (NUMBERS == 5))


def test_each_band_has_its_own_value_of_no_data_beside_the_file(tmp_path):
    path = write_file(tmp_path / "a.tif", two(holes(3, np.uint8), holes(9, np.uint8)), names=("agb", "agb_sd"))
    bands = "".join(
        f'<PAMRasterBand band="{k}"><NoDataValue>{value}</NoDataValue></PAMRasterBand>'
        for k, value in ((1, 3), (2, 9.0))
    )
    (tmp_path / "a.tif.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    rule = PLAIN.model_copy(update={"bands": {"agb": "agb", "agb_sd": "agb"}})
    found = read_block(items_of(item_of(path)), HERE, bands=["agb", "agb_sd"], rule=rule)
    for k, band in enumerate(("agb", "agb_sd"), 1):
        np.testing.assert_array_equal(found[band].values[0], oracle(path, k))
    (tmp_path / "a.tif.aux.xml").write_text("<PAMDataset>")
    with pytest.raises(CorruptAssetError, match=r"a.tif.aux.xml beside it cannot be understood"):
        read_block(items_of(item_of(path)), HERE, bands=["agb"], rule=rule)


def test_a_mask_of_another_size_is_refused_by_name(tmp_path):
    path = write_file(tmp_path / "a.tif", NUMBERS.astype(np.uint8))
    write_file(tmp_path / "other.tif", HOLE[:40, :40]).rename(tmp_path / "a.tif.msk")
    with pytest.raises(CorruptAssetError, match=r"item the-item.*the mask a.tif.msk has .*40, 40"):
        read_block(items_of(item_of(path)), HERE, bands=["agb"], rule=PLAIN)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_scale_and_offset_of_a_header_are_those_of_an_item(tmp_path, dtype):
    pixels = holes(0, dtype)
    plain = write_file(tmp_path / "plain.tif", pixels, nodata=0)
    scaled = write_file(tmp_path / "scaled.tif", pixels, nodata=0, scales=(0.5,), offsets=(-20.0,))
    declared = {"raster:bands": [{"scale": 0.5, "offset": -20}]}
    cases = [item_of(scaled), item_of(plain, asset=declared), item_of(scaled, asset=declared)]
    found = [read_block(items_of(item), HERE, bands=["agb"], rule=PLAIN)["agb"].values[0] for item in cases]
    expected = np.where(pixels == 0, np.nan, pixels * 0.5 - 20).astype(np.float32)
    for values in found:
        np.testing.assert_array_equal(values, expected)
    lazy = open_cube(items_of(cases[0]), HERE, bands="agb", rule=PLAIN)["agb"].values[0]
    np.testing.assert_array_equal(lazy, expected)


def test_files_of_one_image_have_scales_of_their_own(tmp_path):
    left, right = HERE[:, :32], HERE[:, 32:]
    one = write_file(tmp_path / "1.tif", np.full((64, 32), 10, np.uint8), left, scales=(2.0,))
    other = write_file(tmp_path / "2.tif", np.full((64, 32), 10, np.uint8), right)
    items = items_of(item_of(one, geobox=left, item_id="1"), item_of(other, geobox=right, item_id="2"))
    (found,) = read_block(items, HERE, bands=["agb"], rule=PLAIN)["agb"].values
    assert (np.unique(found[:, :32]), np.unique(found[:, 32:])) == (20, 10)


def test_masks_of_clouds_are_hidden_by_their_files_too(tmp_path):
    """A no data of 0 in a file of shares is a clear pixel; a mask inside it is not."""
    item = write_item(tmp_path, "a", "2020-06-01T10:00:00Z", {"B02": flat(900), "SCL": clear()}, **BASELINE)
    shares = S2.model_copy(update={"mask": {"asset": "SCL", "rule": "above", "limit": 40}})
    zeros = np.zeros(HERE.shape, np.uint8)
    write_file(item["assets"]["SCL"]["href"], zeros, nodata=0)
    assert np.isfinite(read_block(items_of(item), HERE, bands=["B02"], rule=shares)["B02"].values).all()
    write_file(item["assets"]["SCL"]["href"], zeros, mask=HOLE)
    found = read_block(items_of(item), HERE, bands=["B02"], rule=shares)["B02"].values[0]
    np.testing.assert_array_equal(np.isnan(found), HOLE == 0)


BASELINE = {"s2:processing_baseline": "02.11"}


def test_a_header_does_not_change_what_items_say_rightly(tmp_path):
    item = write_item(tmp_path, "a", "2020-06-01T10:00:00Z", {"B02": flat(0), "SCL": clear()}, **BASELINE)
    numbers = holes(0, np.uint16)
    plain = write_file(item["assets"]["B02"]["href"], numbers)
    first = read_block(items_of(item), HERE, bands=["B02"], rule=S2)["B02"].values
    write_file(plain, numbers, nodata=0, scales=(1e-4,))
    np.testing.assert_array_equal(read_block(items_of(item), HERE, bands=["B02"], rule=S2)["B02"].values, first)
    write_file(plain, numbers, scales=(1e-4,), offsets=(-0.1,))
    with pytest.raises(CorruptAssetError, match=r"offset -0.1, item and collection say 0"):
        read_block(items_of(item), HERE, bands=["B02"], rule=S2)
