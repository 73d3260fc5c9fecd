"""Items of archives that no provider is made for: a few lines over ``stac-api``, and what is made of each, and why."""

import re

import pytest
import yaml

from mapper.catalog.provider import load_provider
from mapper.cube.inspection import inspect_item

SHAPE = {"proj:shape": [100, 100], "proj:transform": [10, 0, 300000, 0, -10, 5700000]}
SQUARE = {"type": "Polygon", "coordinates": [[[14, 50], [15, 50], [15, 51], [14, 51], [14, 50]]]}


def item(name, collection, assets, **properties):
    return {
        "type": "Feature",
        "id": name,
        "collection": collection,
        "geometry": SQUARE,
        "properties": {"datetime": "2022-06-01T10:00:00Z", **properties},
        "assets": {key: {"href": f"{key}.tif", **asset} for key, asset in assets.items()},
    }


def of_s2(name, assets, **properties):
    return item(name, "s2", assets | {"SCL": {}}, **{"proj:epsg": 32633, **properties})


LIKE_S2 = "s2: {like: sentinel-2}"
RED_NIR = "bands: {B02: null, B03: null, B04: red, B08: nir}"

# what a person writes, the item, what is made of its bands: band -> (scale, offset in the text), missing; and why
READ = {
    "Digital Earth Africa Sentinel-2": (
        LIKE_S2,
        of_s2(
            "S2A_37MBN_20220601_0_L2A",
            {"B02": {**SHAPE}, "B8A": {**SHAPE}},
            **{"sentinel:boa_offset_applied": True, "sentinel:product_id": "S2A_MSIL2A_20220601T074621_N0400_R135_T37"},
        ),
        {"B02": "DN / 10000: offset already applied, says the item", "B8A": "DN / 10000: offset already applied"},
        (0,),
        "the offset was removed when the files were made, and the item says so",
    ),
    "Earth Search version 0, before the shift": (
        LIKE_S2,
        of_s2("S2B_1", {"B02": {}}, **{"sentinel:product_id": "S2B_MSIL2A_20200601T101559_N0214_R065_T33UUT_2020"}),
        {"B02": "DN / 10000: processing baseline 02.14 (by its name)"},
        (0,),
        "no flag and no baseline property: the name of the product has it",
    ),
    "a static catalogue of SAFE products of 2020, reprocessed": (
        "s2: {like: sentinel-2, bands: {B02: B02_10m}}",
        of_s2("S2A_MSIL2A_20200601T101031_N0500_R022_T33UUT_20230429T054832", {"B02_10m": {}}),
        {"B02": "(DN - 1000) / 10000: processing baseline 05.00 (by its name)"},
        (0,),
        "its date is before the shift, its baseline is not",
    ),
    "Terrascope Sentinel-2 top of canopy": (
        "s2: {like: sentinel-2, bands: {B02: TOC-B02_10M, B04: TOC-B04_10M}, mask: {asset: SCENECLASSIFICATION_20M}}",
        item(
            "S2A_20220601T104031_31UFS_TOC_V210",
            "s2",
            {
                "TOC-B02_10M": {"raster:bands": [{"nodata": 32767, "scale": 1e-4, "offset": 0, "data_type": "int16"}]},
                "SCENECLASSIFICATION_20M": {},
            },
            **{"processing:version": "V210"},
        ),
        {"B02": "DN / 10000: offset declared by the item"},
        (0, 32767),
        "another processor: its version is no baseline of ESA, and its own declaration counts",
    ),
    "Digital Earth Australia": (
        f"ga: {{like: reflectance, {RED_NIR}, scale: 0.0001, nodata: -999, dtype: int16}}",
        item("ga_s2am_ard_3", "ga", {"red": SHAPE, "nir": SHAPE}, **{"proj:epsg": 32755}),
        {"B04": "stored * 0.0001: identity by the collection", "B08": "stored * 0.0001: identity by"},
        (-999,),
        "nothing is declared: the collection says it",
    ),
    "HLS": (
        ("hls: {like: reflectance, bands: {B02: B02, B03: null, B04: B04, B08: B05}, scale: 0.0001, nodata: -9999, "
        "mask: {asset: Fmask, rule: bits, bits: [1, 2, 3, 4], nodata: 255}}"),
        item("HLS.L30.T33UUT", "hls", {"B02": {}, "B04": {}, "B05": {}, "Fmask": {}}, **{"proj:epsg": 32633}),
        {"B02": "stored * 0.0001", "B04": "stored * 0.0001", "B08": "stored * 0.0001"},
        (-9999,),
        "scale 0.0001 and nodata -9999 are in the documents only",
    ),
    "Landsat collection 2 level 2": (
        (f"landsat-c2-l2: {{like: reflectance, {RED_NIR.replace('nir', 'nir08')}, nodata: 0, "
        "mask: {asset: qa_pixel, rule: bits, bits: [1, 2, 3, 4]}}"),
        item(
            "LC08_L2SP_192025_20220601_02_T1",
            "landsat-c2-l2",
            {
                "red": {"raster:bands": [{"nodata": 0, "scale": 0.0000275, "offset": -0.2, "data_type": "uint16"}]},
                "nir08": {"raster:bands": [{"nodata": 0, "scale": 0.0000275, "offset": -0.2, "data_type": "uint16"}]},
                "qa_pixel": {},
            },
            **{"proj:epsg": 32633},
        ),
        dict.fromkeys(("B04", "B08"), "stored * 2.75e-05 - 0.2: declared by the item"),
        (0,),
        "declared by the item",
    ),
    "a radar composite in decibels": (
        "s1db: {like: sentinel-1, calibration: decibel, nodata: -9999, zero_is_border: true}",
        item("S1C_IW", "s1db", {"vv": {"unit": "dB", "nodata": -9999}}, platform="SENTINEL-1C"),
        {"vv": "stored: decibel by the collection"},
        (-9999, 0),
        "one polarisation; the unit that is declared is that of the collection",
    ),
    "STAC 1.1 with everything on the item and in bands": (
        "agb: {like: biomass, bands: {agb: map, agb_sd: null}}",
        item(
            "agb-2020",
            "agb",
            {"map": {"bands": [{"name": "agb", "raster:scale": 0.1, "nodata": "nan"}]}},
            **{"raster:offset": 2, "nodata": 65535, "proj:code": None, "proj:epsg": 4326, "datetime": None,
               "start_datetime": "2020-01-01T00:00:00Z", "end_datetime": "2020-12-31T23:59:59Z"},
        ),
        {"agb": "stored * 0.1 + 2: declared by the item"},
        (),
        "the band has the scale and overrides the nodata of the item, whose offset it takes; a year without a moment",
    ),
}  # fmt: skip

REFUSED = {
    "CDSE before its second catalogue": (
        LIKE_S2,
        item("S2A_MSIL2A_20200601", "s2", {"PRODUCT": {}, "QUICKLOOK": {}}),
        "holds none of the bands: assets B01, .* are looked for, it has PRODUCT, QUICKLOOK",
    ),
    "no mask": (LIKE_S2, item("x", "s2", {"B02": {}}), "has no mask asset SCL"),
    "not described": (LIKE_S2, item("x", "s3", {"B02": {}}), "unknown collection 's3': stac-api has biomass, "),
    "no time": (LIKE_S2, of_s2("x", {"B02": {}}, datetime=None), "neither a datetime nor a start_datetime"),
    "no location": (LIKE_S2, of_s2("x", {"B02": {"href": None}}), "gives no location for asset B02"),
    "no place": (LIKE_S2, of_s2("x", {"B02": {}}, **{"s2:processing_baseline": "05.00"}) | {"geometry": None},
                 "neither a geometry nor a box"),
    "ground range": (
        "s1: {like: sentinel-1}",
        item("S1A_IW_GRDH", "s1", {"vv": {}}, **{"sar:product_type": "GRD"}),
        "GRD product without a projection",
    ),
    "scale 1 of whole numbers": (
        LIKE_S2,
        of_s2("x", {"B02": {"raster:bands": [{"scale": 1, "offset": 0}]}}),
        "scale of 1 for asset B02, whose whole numbers then are no reflectance",
    ),
    "two layers in one asset": (
        "agb: {like: biomass, bands: {agb: tif, agb_sd: null}}",
        item("x", "agb", {"tif": {"raster:bands": [{"scale": 0.1}, {"scale": 1}]}}),
        "several bands in asset tif that differ in scale",
    ),
}  # fmt: skip


def provider_of(lines):
    return load_provider("stac-api", override={"collections": yaml.safe_load(lines)})


@pytest.mark.parametrize("case", READ)
def test_a_few_lines_are_enough(case):
    lines, served, decided, missing, why = READ[case]
    facts = inspect_item(served, provider_of(lines))
    assert not any(each.error for each in facts), facts
    assert {each.band for each in facts} == set(decided), why
    assert all(each.calibration.startswith(decided[each.band]) for each in facts), why
    assert {each.nodata for each in facts} == {tuple(map(float, sorted(missing)))}, why


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_in_a_line(case):
    lines, served, reason = REFUSED[case]
    (fact,) = inspect_item(served, provider_of(lines))
    assert re.search(reason, fact.error)
    assert "\n" not in fact.error
