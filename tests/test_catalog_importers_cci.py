"""Biomass maps as a catalogue: which tiles there are, what their headers say, and what happens when they do not fit."""

import json
import logging

import numpy as np
import pystac
import pytest
from cci_maps import CELL_PX, STEP, tile_name, write_cell, write_tile
from file_server import FileServer
from rasterio import Affine

from mapper.access.files import Access
from mapper.catalog.importers.cci import COLLECTION, make_cci_catalog
from mapper.catalog.importers.cci_file_names import Cell, cells_near
from mapper.catalog.items import freeze_items
from mapper.catalog.normalise import normalise_item
from mapper.catalog.provider import load_provider
from mapper.catalog.static import read_catalog
from mapper.cube.projection import declared_grid
from mapper.errors import CorruptAssetError, InputError

NEAR = (12, 51, 13, 52)
"""A box well inside of N60E010."""


@pytest.fixture
def root(tmp_path):
    return tmp_path / "files"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "catalog"


def make(out, root, *, version="7.0", year=2020, bbox=NEAR, **options):
    """Make a catalogue and read it as a search does."""
    path = make_cci_catalog(out, version=version, year=year, root=str(root), bbox=bbox, **options)
    assert path == out / "catalog.json"
    found = read_catalog(path, collections={COLLECTION}).items
    return list(
        freeze_items(normalise_item(item, assets=load_provider(COLLECTION).assets[COLLECTION]) for item in found)
    )


def bands_of(item):
    return {key: asset["raster:bands"][0] for key, asset in item["assets"].items()}


def test_a_cell_is_named_by_its_upper_left_corner():
    rng = np.random.default_rng(1)
    for lon, lat in zip(rng.uniform(-179.8, 179.8, 200), rng.uniform(-89.8, 89.8, 200), strict=True):
        # the rule as it is published
        west, north = 10 * int(np.floor(lon / 10)), 10 * int(np.floor(lat / 10)) + 10
        assert Cell(west=west, north=north) in cells_near((lon, lat, lon + 1e-6, lat + 1e-6))
    assert [str(Cell(west=w, north=n)) for w, n in ((10, 60), (-60, 0), (-180, 80), (170, -50))] == [
        "N60E010", "N00W060", "N80W180", "S50E170",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("bbox", "cells"),
    [
        ((12, 51, 13, 52), "N60E010"),
        ((9, 51, 11, 52), "N60E000 N60E010"),
        ((10.01, 55, 11, 56), "N60E000 N60E010"),  # context of a map reaches over the edge
        ((-1, -1, 1, 1), "N10W010 N10E000 N00W010 N00E000"),
        ((179, 89, 180, 90), "N90E170"),
        ((-180, -90, -179, -89), "S80W180"),
    ],
)
def test_cells_on_and_near_a_box_are_looked_for(bbox, cells):
    assert " ".join(map(str, cells_near(bbox))) == cells


def test_without_a_box_every_cell_of_the_globe_is_looked_for():
    assert len(set(cells_near(None))) == 36 * 18


@pytest.mark.parametrize("bbox", [(170, 0, -170, 1), (0, 5, 1, 4), (0, 0, 200, 1)])
def test_a_box_that_is_none_is_refused(bbox):
    with pytest.raises(InputError, match="antimeridian"):
        cells_near(bbox)


def test_an_item_says_what_the_headers_say(root, out):
    write_tile(root, pixels=np.ones((3, 3), np.int16), nodata=-32768)
    write_tile(root, kind="AGB_SD", pixels=np.ones((3, 3), np.float32), nodata=np.nan)
    (item,) = make(out, root)
    assert item["id"] == "N60E010_ESACCI-BIOMASS-L4-AGB-MERGED-100m-2020-fv7.0"
    assert item["bbox"] == [10, 50, 20, 60]
    assert item["properties"] == {
        "datetime": None,
        "start_datetime": "2020-01-01T00:00:00Z",
        "end_datetime": "2020-12-31T23:59:59Z",
        "version": "7.0",
    }
    assert bands_of(item)["agb"] == {"data_type": "int16", "unit": "Mg ha-1", "nodata": -32768}
    assert bands_of(item)["agb_sd"] == {"data_type": "float32", "unit": "Mg ha-1", "nodata": "nan"}
    assert item["assets"]["agb"]["href"] == str(root / tile_name("N60E010"))
    grid = declared_grid(item, "agb")
    assert (grid.crs.to_epsg(), grid.shape) == (4326, (CELL_PX, CELL_PX))
    assert grid.transform == Affine(STEP, 0, 10, 0, -STEP, 60)


def test_a_file_without_a_nodata_tag_declares_none(root, out):
    write_cell(root, pixels=np.zeros((2, 2), np.uint16))
    (item,) = make(out, root)
    assert all("nodata" not in band for band in bands_of(item).values())


def test_the_catalogue_is_stac_that_others_read(root, out):
    for cell in ("N60E000", "N60E010"):
        write_cell(root, cell)
    make(out, root, bbox=(5, 51, 13, 52))
    catalog = pystac.Catalog.from_file(str(out / "catalog.json"))
    assert [item.bbox[0] for item in catalog.get_items(recursive=True)] == [0, 10]
    (collection,) = catalog.get_children()
    assert collection.extra_fields["sci:doi"] == "10.5285/6429d1aafe1e43b9b414e4a5a7f8b903"
    assert collection.extent.spatial.bboxes == [[0, 50, 20, 60]]


def test_files_may_lie_as_the_archive_keeps_them_or_side_by_side(root, out, tmp_path):
    write_cell(root / "v6.0" / "geotiff" / "2017", version="6.0", year=2017)
    write_cell(tmp_path / "flat", version="6.0", year=2017)
    ids = [make(out, folder, version="6.0", year=2017)[0]["id"] for folder in (root, tmp_path / "flat")]
    assert ids[0] == ids[1] == "N60E010_ESACCI-BIOMASS-L4-AGB-MERGED-100m-2017-fv6.0"


def test_version_5_01_takes_tiles_under_the_name_of_either(root, out):
    folder = root / "v5.01" / "geotiff" / "2021"
    write_cell(folder, "N60E000", version="5.01", year=2021)
    write_cell(folder, "N60E010", version="5.0", year=2021)
    items = make(out, root, version="5.01", year=2021, bbox=(5, 51, 13, 52))
    assert [item["id"][-6:] for item in items] == ["fv5.01", "-fv5.0"]
    assert {item["properties"]["version"] for item in items} == {"5.01"}


def test_cells_without_a_file_are_sea(root, out):
    write_cell(root, "N60E010")
    counts = []
    items = make(out, root, bbox=(-25, 45, 35, 65), report=lambda *count: counts.append(count))
    assert [item["id"][:7] for item in items] == ["N60E010"]
    assert counts[-21:] == [(k, 21) for k in range(1, 22)]


def test_without_a_deviation_there_is_an_item_and_a_warning(root, out, caplog):
    write_tile(root)
    with caplog.at_level(logging.WARNING):
        (item,) = make(out, root)
    assert set(item["assets"]) == {"agb"}
    assert "1 of 1 cells have no file of the standard deviation: N60E010" in caplog.text


@pytest.mark.parametrize(
    ("version", "year", "words"),
    [
        ("8.0", 2020, "no version '8.0'.*4.0 .2010, 2017-2020.*7.0 .2005-2012, 2015-2024"),
        ("7.0", 2013, "7.0 has no map of 2013: its years are 2005-2012, 2015-2024"),
        ("6.0", 2006, "its years are 2007, 2010, 2015-2022"),
        ("4.0", 2015, "its years are 2010, 2017-2020"),
    ],
)
def test_a_map_that_does_not_exist_is_refused_with_those_that_do(root, out, version, year, words):
    with pytest.raises(InputError, match=words):
        make(out, root, version=version, year=year)


def test_a_root_without_a_file_says_what_was_tried(root, out):
    write_cell(root, version="6.0")
    with pytest.raises(
        InputError, match=r"no file of ESA CCI biomass 7.0 of 2020; tried .*v7.0/geotiff/2020/N60E010_.*, "
    ):
        make(out, root)
    assert not out.exists()


def test_a_file_that_begins_elsewhere_than_its_name_says_is_refused(root, out):
    write_tile(root, place=Affine(STEP, 0, 10, 0, -STEP, 70))
    with pytest.raises(InputError, match="begins at longitude 10, latitude 70; its name says 10, 60"):
        make(out, root)


def test_a_failing_build_leaves_the_catalogue_as_it_was(root, out):
    write_cell(root, "N60E010")
    make(out, root)
    before = {path: path.read_text() for path in out.rglob("*.json")}
    broken = write_tile(root, "N60E000")
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(CorruptAssetError, match="N60E000"):
        make(out, root, bbox=(5, 51, 13, 52))
    assert {path: path.read_text() for path in out.rglob("*.json")} == before
    assert {path.name for path in out.parent.iterdir()} == {"files", "catalog"}


def test_a_catalogue_is_replaced_as_a_whole(root, out):
    write_cell(root, "N60E000")
    write_cell(root, "N60E010")
    make(out, root, bbox=(5, 51, 13, 52))
    assert [item["id"][:7] for item in make(out, root)] == ["N60E010"]
    assert len(list((out / COLLECTION).iterdir())) == 2


def test_a_directory_of_something_else_is_left_alone(root, out):
    write_cell(root)
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        make(out, root)
    assert (out / "thesis.tex").exists()


@pytest.fixture
def served(root, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    write_cell(root / "v7.0" / "geotiff" / "2020", "N60E010")
    with FileServer(root) as server:
        yield server


def test_an_address_is_probed_cell_by_cell(served, out):
    (item,) = make(out, served.address, bbox=(5, 51, 13, 52), access=Access())
    folder = f"{served.address}/v7.0/geotiff/2020"
    assert item["assets"]["agb"]["href"] == f"{folder}/{tile_name('N60E010')}"
    assert item["assets"]["agb_sd"]["href"] == f"{folder}/{tile_name('N60E010', 'AGB_SD')}"
    statuses = {request.path.split("/")[-1]: request.status for request in served.log()}
    assert statuses[tile_name("N60E000")] == 404


def test_a_served_file_that_is_broken_is_an_error_and_not_sea(served, root, out):
    path = root / "v7.0" / "geotiff" / "2020" / tile_name("N60E000")
    path.write_text(json.dumps({"not": "a raster, code 404"}))
    with pytest.raises(CorruptAssetError, match="N60E000"):
        make(out, served.address, bbox=(5, 51, 13, 52))
    assert not out.exists()
