"""BioMassters chips as items: the pixels of the chips, on a made-up place that a map covers exactly."""

import json

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning
from shared import SHARED, needs_shared

from mapper.catalog.freeze import load_items, save_items
from mapper.catalog.importers.biomassters import make_biomassters_catalog
from mapper.catalog.provider import load_provider
from mapper.catalog.raster import write_asset
from mapper.catalog.search import search
from mapper.errors import InputError
from mapper.spec import read_spec

CHIPS = ("0060c0a5", "288afc34")
SOURCE = SHARED / "biomassters"

pytestmark = needs_shared


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("biomassters")
    assert make_biomassters_catalog(SOURCE, folder) == folder / "catalog.json"
    return folder


@pytest.fixture(scope="module", params=CHIPS)
def chip(made, request):
    """Name of a chip, its map and the items found for it."""
    spec = read_spec(made / f"{request.param}.yaml")
    return request.param, spec, search(spec)


def delivered(name, kind):
    with pytest.warns(NotGeoreferencedWarning), rasterio.open(SOURCE / name / f"{name}_{kind}.tif") as file:
        return file.read()[:, :250, :250]


def stored(item, band):
    with rasterio.open(item["assets"][band]["href"]) as file:
        return file.read(1)


def item_of(items, name):
    return next(item for item in items if item["id"] == name)


def test_a_map_covers_exactly_the_crop(chip):
    _, spec, _ = chip
    grid = spec.map_grid
    (tile,) = grid.tiles()
    inside = grid.inside_area(grid.window(tile))
    assert grid.shape == (256, 256)
    assert grid.scale == 10
    assert inside[:250, :250].all()
    assert inside.sum() == 250 * 250
    assert (grid.geobox.boundingbox.left % 100, grid.geobox.boundingbox.top % 100) == (0, 0)


def test_files_lie_where_the_map_lies(chip):
    _, spec, items = chip
    for item in items:
        for asset in item["assets"].values():
            with rasterio.open(asset["href"]) as file:
                assert file.crs.to_epsg() == 32631
                assert (file.transform.c, file.transform.f) == spec.map_grid.geobox.boundingbox.bbox[::3]


def test_an_item_says_what_its_files_are(chip):
    _, _, items = chip
    provider = load_provider("biomassters")
    for item in items:
        assert pystac.Item.from_dict(item).id == item["id"]
        assert item["properties"]["mapper:georeference"] == "none: local grid"
        rule = provider.rule(item["collection"])
        for name, asset in item["assets"].items():
            with rasterio.open(asset["href"]) as file:
                (band,) = asset["raster:bands"]
                assert asset["proj:epsg"] == item["properties"]["proj:epsg"] == file.crs.to_epsg()
                assert asset["proj:shape"] == list(file.shape)
                assert asset["proj:transform"] == list(file.transform)[:6]
                assert (band["data_type"], band["nodata"]) == (file.dtypes[0], file.nodata)
                assert file.profile["driver"] == "GTiff"
                assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
                if name in rule.bands.values():
                    assert (file.dtypes[0], file.nodata) == (rule.dtype, rule.nodata)
                footprint = shapely.geometry.shape(item["geometry"])
                assert footprint.distance(shapely.Point(*file.lnglat())) == 0


def test_optical_pixels_are_those_delivered(chip):
    name, _, items = chip
    assert len(items.of("sentinel-2-l2a")) == 12
    for month in range(12):
        bands = delivered(name, f"S2_{month:02d}")
        item = item_of(items, f"{name}_S2_{month:02d}")
        assert int(item["properties"]["datetime"][5:7]) == (month + 8) % 12 + 1
        for k, band in enumerate(("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12", "CLP")):
            assert (stored(item, band) == bands[k]).all()
        assert item["properties"]["eo:cloud_cover"] == pytest.approx((bands[10] > 40).mean() * 100, abs=1e-3)


def test_radar_pixels_are_those_delivered_and_fill_is_nodata(chip):
    name, _, items = chip
    for month in range(12):
        bands = delivered(name, f"S1_{month:02d}")
        for orbit, first in (("ascending", 0), ("descending", 2)):
            held = {item["id"]: item for item in items.of("sentinel-1").on_orbit(orbit)}
            item = held.get(f"{name}_S1_{orbit}_{month:02d}")
            missing = (bands[first : first + 2] == -9999) | (bands[first : first + 2] == 0)
            assert (item is None) == missing.all()
            for k, band in enumerate(("vv", "vh") if item else ()):
                expected = np.where(missing[k], -9999, bands[first + k])
                assert (stored(item, band) == expected).all()


def test_a_month_and_orbit_without_measurement_has_no_item(made):
    items = search(read_spec(made / "288afc34.yaml")).of("sentinel-1")
    assert [item["id"] for item in items.on_orbit("descending")] == ["288afc34_S1_descending_11"]
    assert len(items.on_orbit("ascending")) == 12


def test_truth_is_the_label_and_the_source_its_block_mean(chip, made):
    name, _, items = chip
    label = delivered(name, "agbm")[0].astype(float)
    truth = made / "truth" / f"{name}_label" / "agb.tif"
    with rasterio.open(truth) as file:
        assert (file.read(1) == np.maximum(label, 0)).all()
    (source,) = items.of("esa-cci-like")
    limited = np.clip(label, 0, 500)
    expected = [[limited[r : r + 10, c : c + 10].mean() for c in range(0, 250, 10)] for r in range(0, 250, 10)]
    np.testing.assert_allclose(stored(source, "agb"), expected, rtol=1e-6)
    np.testing.assert_allclose(stored(source, "agb_sd"), np.maximum(5, 0.1 * np.array(expected)), rtol=1e-6)
    assert source["assets"]["agb"]["proj:transform"][0] == 100


def test_nearest_of_the_source_has_the_error_that_is_known_of_these_chips(chip):
    name, _, items = chip
    (source,) = items.of("esa-cci-like")
    nearest = np.kron(stored(source, "agb"), np.ones((10, 10)))
    label = np.clip(delivered(name, "agbm")[0], 0, 500)
    rmse = np.sqrt(np.mean((nearest - label) ** 2))
    assert rmse == pytest.approx({"0060c0a5": 50.4, "288afc34": 63.7}[name], abs=0.05)


def test_a_map_finds_its_own_chip_only(chip):
    name, _, items = chip
    assert {item["id"].split("_")[0] for item in items} == {name}


def test_its_items_can_be_frozen(chip, tmp_path):
    save_items(chip[2], tmp_path / "items.parquet")
    assert load_items(tmp_path / "items.parquet").digest == chip[2].digest


def test_a_chip_keeps_its_place_when_it_is_made_alone(made, tmp_path):
    make_biomassters_catalog(SOURCE, tmp_path, chips=["288afc34"])
    assert not (tmp_path / "0060c0a5.yaml").exists()
    alone, together = (search(read_spec(folder / "288afc34.yaml")) for folder in (tmp_path, made))
    assert alone.digest == together.digest


def test_an_unknown_chip_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no chip abc; it has 0060c0a5, 288afc34"):
        make_biomassters_catalog(SOURCE, tmp_path, chips=["abc"])


def test_a_folder_without_chips_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no BioMassters chip"):
        make_biomassters_catalog(tmp_path, tmp_path)


def test_a_file_that_is_no_raster_is_refused(tmp_path):
    (tmp_path / "abc_agbm.tif").write_text("nothing")
    with pytest.raises(InputError, match="cannot be read"):
        make_biomassters_catalog(tmp_path, tmp_path / "out")


def test_the_catalogue_is_stac(made):
    catalog = pystac.Catalog.from_file(str(made / "catalog.json"))
    assert {child.id for child in catalog.get_children()} == {"sentinel-2-l2a", "sentinel-1", "esa-cci-like", "truth"}
    assert sum(1 for _ in catalog.get_items(recursive=True)) == 24 + 37 + 2 + 2
    extent = json.loads((made / "truth" / "collection.json").read_text())["extent"]
    assert extent["spatial"]["bbox"][0][0] < extent["spatial"]["bbox"][0][2]


def test_a_raster_of_another_shape_than_its_place_is_refused(tmp_path):
    geobox = GeoBox((2, 2), rasterio.Affine(10, 0, 0, 0, -10, 0), "EPSG:32631")
    with pytest.raises(ValueError, match="shape"):
        write_asset(tmp_path / "a.tif", np.zeros((3, 2), np.uint8), geobox, nodata=None)
