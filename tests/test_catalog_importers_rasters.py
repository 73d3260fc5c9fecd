"""Folders of rasters as catalogues: what files and options say, what is guessed, and trouble in one line."""

import json
import re
import warnings
from datetime import date
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import yaml
from affine import Affine
from file_server import FileServer
from headers import write_file
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning
from scenes import box_at

from mapper.catalog.importers.raster_layer import LayerRequest
from mapper.catalog.importers.rasters import RasterRequest, make_raster_catalog
from mapper.catalog.provider import load_provider
from mapper.catalog.static import read_catalog
from mapper.cube.projection import declared_grid, find_place
from mapper.errors import InputError

PLACE = box_at("EPSG:32633", 500_000, 5_539_200, size=(8, 12), step=30.0)
DEGREES = GeoBox((8, 12), Affine(1 / 3600, 0, 15, 0, -1 / 3600, 50), "EPSG:4326")


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "lidar tiles"
    made.mkdir()
    return made


def put(folder, name="a.tif", place=PLACE, *, dtype=np.float32, bands=1, **header):
    """Write one small file; returns its path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_file(path, np.ones((bands, *place.shape), dtype), place, **header)


def make(folder, *, out=None, pattern=None, collection=None, dates=None, crs=None, source=None, **layer):
    request = RasterRequest(
        source=str(source or folder), out=out or Path(folder).parent / "out", pattern=pattern, collection=collection,
        layer=LayerRequest(**layer), dates=dates, crs=crs,
    )  # fmt: skip
    return make_raster_catalog(request)


def rule_of(made):
    return load_provider(str(made.provider)).rule(made.collection)


def band_of(made):
    return made.items[0]["assets"]["data"]["raster:bands"][0]


def test_a_folder_is_described_with_those_below_it_and_read_by_others(folder):
    put(folder, "a.tif", nodata=-9999.0)
    put(folder, "north/b.TIF", PLACE.translate_pix(0, -8), nodata=-9999.0)
    (folder / "readme.txt").write_text("nothing")
    made = make(folder, vertical_datum="EPSG:5773", heights="ground", dates=(date(2021, 6, 30), date(2021, 6, 30)))
    assert [item["id"] for item in made.items] == ["a", "north_b"]
    assert (made.collection, made.left_out) == ("lidar-tiles", ())
    rule = rule_of(made)
    assert (rule.units, rule.vertical_datum, rule.heights, rule.resampling) == ("m", "EPSG:5773", "ground", "cubic")
    assert band_of(made) == {"data_type": "float32", "sampling": "area", "unit": "m", "nodata": -9999.0}
    catalog = pystac.Catalog.from_file(str(made.catalog))
    found = list(catalog.get_items(recursive=True))
    assert {item.datetime.isoformat() for item in found} == {"2021-06-30T12:00:00+00:00"}
    first = next(item for item in read_catalog(made.catalog, collections={made.collection}).items if item["id"] == "a")
    grid = declared_grid(first, "data")
    assert (grid.transform, grid.shape, grid.crs.to_epsg()) == (PLACE.transform, (8, 12), 32633)
    assert find_place(first, "data").doubt == ""
    assert not any("date" in note for note in made.notes)


def test_a_provider_leads_to_the_catalogue_beside_it_wherever_it_is_moved(folder, tmp_path, monkeypatch):
    put(folder)
    made = make(folder)
    moved = tmp_path / "elsewhere"
    made.catalog.parent.rename(moved)
    monkeypatch.chdir(tmp_path)
    assert load_provider("elsewhere/provider.yaml").endpoint == str(moved / "catalog.json")
    assert yaml.safe_load((moved / "provider.yaml").read_text())["endpoint"] == "catalog.json"


def test_layers_are_added_and_replaced(folder):
    put(folder, "x_dsm.tif")
    put(folder, "x_mask.tif", dtype=np.uint8)
    with pytest.raises(InputError, match=r"different layers: 1 of 1 band of float32 \(x_dsm.*choose one with"):
        make(folder)
    make(folder, pattern="*_dsm.tif", collection="dsm")
    cover = {"building": (1,), "tree": (2, 3)}
    made = make(folder, pattern="*_mask.tif", collection="cover", classes=cover)
    provider = load_provider(str(made.provider))
    assert set(provider.collections) == {"dsm", "cover"}
    bands = provider.rule("cover").bands
    assert {name: band.classes for name, band in bands.items()} == cover
    assert provider.rule("cover").resampling == "nearest"
    put(folder, "y_dsm.tif", PLACE.translate_pix(12, 0))
    again = make(folder, pattern="*_dsm.tif", collection="dsm")
    found = read_catalog(again.catalog, collections={"dsm", "cover"})
    assert sorted(item["id"] for item in found.items) == ["x_dsm", "x_mask", "y_dsm"]


def test_two_files_of_one_place_are_two_layers(folder):
    put(folder, "dsm.tif")
    put(folder, "dtm.tif", box_at("EPSG:32633", 500_000, 5_539_200, size=(24, 36), step=10.0))
    with pytest.raises(InputError, match=r"dsm.tif and dtm.tif cover the same ground"):
        make(folder)
    assert not (folder.parent / "out").exists()


@pytest.mark.parametrize("content", ["text", "catalog"])
def test_a_directory_with_something_else_is_left_alone(folder, tmp_path, content):
    out = tmp_path / "out"
    out.mkdir()
    kept = out / ("notes.txt" if content == "text" else "catalog.json")
    kept.write_text("mine" if content == "text" else json.dumps({"type": "Catalog", "description": "mine"}))
    put(folder)
    with pytest.raises(InputError, match="give a new directory"):
        make(folder)
    assert [path.name for path in out.iterdir()] == [kept.name]


def broken(folder):
    (folder / "bad.tif").write_bytes(b"II*\0 nothing")


def without_crs(folder):
    put(folder, "bad.tif", PLACE.translate_pix(0, 20), crs=None)


def rotated(folder):
    turned = GeoBox((8, 12), PLACE.transform @ Affine.rotation(10), PLACE.crs)
    put(folder, "bad.tif", turned.translate_pix(40, 40))


def without_place(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        put(folder, "bad.tif", transform=None)


def virtual(folder):
    (folder / "bad.vrt").write_text("<VRTDataset/>")


def local_crs(folder):
    wkt = 'LOCAL_CS["a building site",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]'
    put(folder, "bad.tif", GeoBox((8, 12), PLACE.translate_pix(0, 40).transform, PLACE.crs), crs=wkt)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (broken, "bad.tif: "),
        (without_crs, "it names no CRS: .*--crs EPSG:CODE"),
        (rotated, "turned against the axes .*gdalwarp"),
        (without_place, "has no position.*gdalwarp"),
        (virtual, "bad.vrt: a VRT is a list of other files"),
        (local_crs, "neither projected nor geographic"),
    ],
)
def test_trouble_is_a_line_a_file_and_the_others_are_described(folder, spoil, said):
    spoil(folder)
    with pytest.raises(InputError, match=r"no file can be described|holds no raster"):
        make(folder)
    put(folder)
    made = make(folder)
    (line,) = made.left_out
    assert "\n" not in line
    assert line.startswith("bad.")
    assert re.search(said, line), line
    assert [item["id"] for item in made.items] == ["a"]


def test_a_file_without_a_crs_is_given_one_and_one_that_has_it_is_not(folder):
    without_crs(folder)
    put(folder, "own.tif")
    made = make(folder, crs="EPSG:32632")
    assert made.left_out == (
        "own.tif: its CRS is EPSG:32633, --crs says EPSG:32632: that of a file counts, leave --crs out",
    )
    assert made.items[0]["assets"]["data"]["proj:epsg"] == 32632
    assert rule_of(made).trust == "declaration"
    with pytest.raises(InputError, match="--crs 'metres' is no CRS"):
        make(folder, crs="metres")


def test_what_headers_say_goes_into_the_items(folder):
    put(folder, dtype=np.int16, nodata=-32768, scales=(0.1,), offsets=(-20.0,))
    assert band_of(make(folder)) == {
        "data_type": "int16", "sampling": "area", "unit": "m", "nodata": -32768.0, "scale": 0.1, "offset": -20.0,
    }  # fmt: skip
    put(folder, place=DEGREES, crs="EPSG:4326+5773")
    made = make(folder)
    assert rule_of(made).vertical_datum == "EPSG:5773"
    assert made.items[0]["assets"]["data"]["proj:epsg"] == 4326
    with pytest.raises(InputError, match=r"files say vertical datum EPSG:5773, --vertical-datum says EPSG:3855"):
        make(folder, vertical_datum="EPSG:3855")


def test_pixels_that_are_points_are_not_moved(folder):
    with rasterio.open(put(folder, place=DEGREES), "r+") as file:
        file.update_tags(AREA_OR_POINT="Point")
    with rasterio.open(folder / "a.tif") as file:
        transform = file.transform
    made = make(folder)
    assert declared_grid(made.items[0], "data").transform == transform
    assert band_of(made)["sampling"] == "point"
    assert any("AREA_OR_POINT" in note for note in made.notes)


@pytest.mark.parametrize(
    ("crs", "units", "factor"),
    [
        ("EPSG:2263+6360", None, 1200 / 3937), ("EPSG:2263+8228", None, 0.3048), ("EPSG:32633", "ft", 0.3048),
        ("EPSG:32633", "US-ft", 1200 / 3937), ("EPSG:2263", None, 1.0), ("EPSG:4979", None, 1.0),
    ],
)  # fmt: skip
def test_heights_in_feet_become_metres_whatever_the_units_of_positions(folder, crs, units, factor):
    place = DEGREES if crs == "EPSG:4979" else box_at("EPSG:2263", 980_000, 200_000, size=(8, 12), step=10.0)
    put(folder, place=place, crs=crs)
    made = make(folder, units=units)
    assert band_of(made).get("scale", 1.0) == pytest.approx(factor, rel=1e-12)
    assert rule_of(made).units == "m"
    if crs.startswith("EPSG:2263"):
        assert any("coordinates are in US survey foot" in note for note in made.notes)
        west, south, east, north = made.items[0]["bbox"]
        assert (-74.1 < west < east < -73.9, 40.6 < south < north < 40.8) == (True, True)


def test_units_that_contradict_each_other_are_refused(folder):
    put(folder, crs="EPSG:2263+6360", place=box_at("EPSG:2263", 980_000, 200_000, size=8, step=10.0))
    with pytest.raises(InputError, match="heights in US survey foot, --units says m"):
        make(folder, units="m")
    with pytest.raises(InputError, match="no unit of heights"):
        make(folder, units="K")


def test_bands_of_a_file_are_named_by_the_file_by_order_or_by_number(folder):
    put(folder, "rgbn.tif", dtype=np.uint8, bands=4, photometric="RGB", ALPHA="YES")
    made = make(folder)
    assert {name: band.band for name, band in rule_of(made).bands.items()} == {"red": 1, "green": 2, "blue": 3}
    made = make(folder, bands={"r": None, "g": None, "b": None, "nir": None})
    assert rule_of(made).bands["nir"].band == 4
    made = make(folder, kind="elevation", bands={"elevation": 2})
    assert {name: band.band for name, band in rule_of(made).bands.items()} == {"elevation": 2}
    for bands in ({"r": None, "g": None}, {"r": 5}):
        with pytest.raises(InputError, match="files have 4 bands"):
            make(folder, bands=bands)
    with pytest.raises(InputError, match="which is the height"):
        make(folder, kind="elevation")


def test_no_value_is_missing_if_that_is_said(folder):
    put(folder, "rgb.tif", dtype=np.uint8, bands=3, nodata=255, photometric="RGB")
    made = make(folder, nodata="none")
    assert "nodata" not in band_of(made)
    assert (rule_of(made).nodata, rule_of(made).trust) == (None, "declaration")
    made = make(folder, nodata=0.0)
    assert (band_of(made)["nodata"], rule_of(made).nodata, rule_of(made).trust) == (0.0, 0, "none")


@pytest.mark.parametrize(
    ("header", "options", "said"),
    [
        ({"dtype": np.uint8}, {}, "may be classes or an image"),
        ({"dtype": np.uint8}, {"kind": "classes"}, "needs what the codes mean"),
        ({}, {"classes": {"tree": (1,)}, "kind": "image"}, "--classes is for --kind classes"),
        ({}, {"kind": "image", "heights": "ground"}, "--heights are for --kind elevation"),
        ({"dtype": np.uint8, "bands": 3}, {"classes": {"tree": (1,)}}, "say which holds the codes"),
        ({}, {"pattern": "*.jp2"}, r"none is called \*.jp2"),
        ({}, {"collection": "../up"}, "is no name of a folder"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(folder, header, options, said):
    put(folder, **header)
    with pytest.raises(InputError, match=said):
        make(folder, **options)
    assert not (folder.parent / "out").exists()


def test_a_south_up_file_is_described_as_it_lies(folder):
    upside = GeoBox((8, 12), Affine(30, 0, 500_000, 0, 30, 5_539_000), "EPSG:32633")
    put(folder, place=upside)
    made = make(folder)
    grid = declared_grid(made.items[0], "data")
    assert grid.transform.e == 30
    assert any("south to north" in note for note in made.notes)


def test_a_list_of_files_here_and_one_elsewhere_lead_to_the_same_items(folder, tmp_path):
    put(folder, "a.tif")
    put(folder, "deep/b.tif", PLACE.translate_pix(0, 8))
    (folder / "list.txt").write_text("# two tiles\na.tif\n\ndeep/b.tif # the southern one\na.tif\n")
    here = make(folder, source=folder / "list.txt")
    with FileServer(folder) as server:
        there = make(folder, source=f"{server.address}/list.txt", out=tmp_path / "there")
        one = make(folder, source=f"{server.address}/a.tif", out=tmp_path / "one")
        (folder / "evil.txt").write_text(f"file://{folder}/a.tif\n")
        with pytest.raises(InputError, match="names a file of this machine"):
            make(folder, source=f"{server.address}/evil.txt", out=tmp_path / "evil")
    assert [item["id"] for item in here.items] == [item["id"] for item in there.items] == ["a", "deep_b"]
    assert there.items[1]["assets"]["data"]["href"] == f"{server.address}/deep/b.tif"
    assert (one.collection, len(one.items)) == ("a", 1)
    assert here.items[0]["bbox"] == there.items[0]["bbox"] == one.items[0]["bbox"]


def test_a_file_that_is_no_list_is_told(folder):
    (folder / "list.bin").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="neither a GeoTIFF nor a list"):
        make(folder, source=folder / "list.bin")
    with pytest.raises(InputError, match="cannot be read"):
        make(folder, source=folder / "nowhere.txt")
