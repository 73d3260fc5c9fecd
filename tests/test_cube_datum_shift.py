"""Shifts to another vertical datum are added where heights are read; real heights of two datums agree after it."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
import yaml
from fastapi.testclient import TestClient
from height_maps import (
    AREA,
    ELLIPSOID,
    GEOID,
    HEIGHTS,
    PLACE,
    TO_GEOID,
    make_content,
    make_map,
    write_grid,
    write_places,
)
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from region import run_json, run_mapper
from scenes import write_item
from scipy.interpolate import RegularGridInterpolator
from shared import needs_shared

from mapper import open_map
from mapper.catalog.items import freeze_items
from mapper.catalog.provider import CollectionRule, Provider, provider_of
from mapper.catalog.search import search
from mapper.cube.composite import read_guide
from mapper.cube.datum_shift import add_shift
from mapper.cube.inspection import open_item
from mapper.cube.read import read_block
from mapper.cube.source import read_source
from mapper.errors import CorruptAssetError, InputError, SpecError
from mapper.evaluation.score_map import find_truth, read_truth
from mapper.grid import Window
from mapper.plan.context import make_context
from mapper.serve.app import make_app
from mapper.spec import read_spec
from mapper.training.config import TruthConfig
from mapper.training.maps import read_site
from mapper.training.sampler import check_alike

STEP = 1 / 120
AROUND = GeoBox((12, 12), rasterio.Affine(STEP, 0, -118.08, 0, -STEP, 34.07), "EPSG:4326")


def plane(lon, lat):
    return 34.0 + 30 * (lon + 118) - 20 * (lat - 34)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return write_places(tmp_path_factory.mktemp("heights"))


def read(spec, size=40):
    grid = spec.map_grid
    window = Window(top=0, left=0, bottom=size, right=size).grown(0, grid.scale)
    return read_source(search(spec), grid.source_geobox_of(window), spec=spec, provider=provider_of(spec))


def test_a_grid_is_read_bilinearly_at_the_pixels_of_a_map(tmp_path):
    rng = np.random.default_rng(0)
    drawn = rng.uniform(-40, 40, AROUND.shape).astype(np.float32)
    path = write_grid(tmp_path / "grid.tif", AROUND, drawn)
    geobox = GeoBox((30, 50), rasterio.Affine(90.0, 0, 403_000, 0, -90.0, 3_766_000), "EPSG:32611")
    x, y = np.meshgrid(geobox.coords["x"].values, geobox.coords["y"].values)
    lon, lat = Transformer.from_crs(32611, 4326, always_xy=True).transform(x, y)
    axes = AROUND.coords["latitude"].values[::-1], AROUND.coords["longitude"].values
    expected = RegularGridInterpolator(axes, drawn[::-1].astype(float))(np.stack([lat, lon], axis=-1))
    heights = rng.uniform(-50, 900, (2, *geobox.shape)).astype(np.float32)
    heights[0, 3] = np.nan
    found = add_shift(heights, path, geobox)
    np.testing.assert_allclose(found, heights + expected, atol=2e-3)
    assert add_shift(heights, None, geobox) is heights
    np.testing.assert_allclose(add_shift(heights, -2.5, geobox), heights - 2.5, atol=1e-4)


@needs_shared
def test_real_heights_of_two_datums_are_told_apart_refused_and_agree_after_the_shift(places):
    geoid, ellipsoid = make_map(places, "geoid"), make_map(places, "ellipsoid")
    apart = read(ellipsoid).image - read(geoid).image
    assert apart.mean() == pytest.approx(-34.88, abs=0.3)
    assert [make_context(spec).product.values[0].vertical_datum for spec in (geoid, ellipsoid)] == [GEOID, ELLIPSOID]
    asked = {"target": {"vertical_datum": GEOID}}
    with pytest.raises(SpecError, match="source ellipsoid has heights in EPSG:4979, the map in EPSG:3855"):
        make_context(make_map(places, "ellipsoid", **asked))
    shifted = make_map(places, "ellipsoid", source={"datum_shift": TO_GEOID}, **asked)
    assert make_context(shifted).product.values[0].vertical_datum == GEOID
    found = read(shifted)
    np.testing.assert_allclose(found.image, read(geoid).image, atol=0.47)
    assert found.uses[0].calibration.endswith("heights in EPSG:4979, +34.88 m added")
    assert len({spec.digest for spec in (geoid, make_map(places, "geoid", **asked), shifted, ellipsoid)}) == 4


@needs_shared
def test_the_grid_of_the_very_difference_takes_one_datum_to_the_other(places, tmp_path):
    with rasterio.open(PLACE / "geoid.tif") as one, rasterio.open(PLACE / "ellipsoid.tif") as other:
        undulation = one.read(1) - other.read(1)
        geobox = GeoBox(one.shape, one.transform, "EPSG:4326")
    path = write_grid(tmp_path / "undulation.tif", geobox, undulation)
    parts = {"target": {"vertical_datum": GEOID}, "source": {"datum_shift": str(path)}}
    spec = make_map(places, "ellipsoid", **parts)
    make_context(spec)
    np.testing.assert_allclose(read(spec).image, read(make_map(places, "geoid")).image, atol=0.02)
    first = spec.digest
    write_grid(path, geobox, undulation + 1)
    assert make_map(places, "ellipsoid", **parts).digest != first, "the grid counts by what it holds"


@needs_shared
def test_a_grid_that_does_not_cover_a_map_or_is_none_is_refused_before_the_first_task(places, tmp_path):
    small = AROUND[:4, :4]
    files = {
        "no value at": write_grid(tmp_path / "beside.tif", small, 1.0),
        "cannot be read": tmp_path / "absent.tif",
    }
    holey = write_grid(tmp_path / "holey.tif", AROUND, lambda lon, lat: np.where(lon < AREA[0] + 0.002, -9999, lat))
    for words, path in (*files.items(), ("no value at", holey)):
        spec_parts = {"target": {"vertical_datum": GEOID}, "source": {"datum_shift": str(path)}}
        with pytest.raises(SpecError, match=words):
            make_context(make_map(places, "ellipsoid", **spec_parts))


@needs_shared
def test_a_layer_of_the_guide_is_shifted(places, tmp_path):
    path = write_grid(tmp_path / "grid.tif", AROUND, plane)

    def guide(**more):
        layers = [{"collection": "ellipsoid", "bands": ["elevation"], "static": True, **more}]
        spec = make_map(places, "geoid", guide={"layers": layers})
        geobox = spec.map_grid.geobox[:30, :30]
        return read_guide(search(spec), geobox, spec=spec, provider=provider_of(spec)), geobox

    plain, geobox = guide()
    lon, lat = Transformer.from_crs(32611, 4326, always_xy=True).transform(
        *np.meshgrid(geobox.coords["x"].values, geobox.coords["y"].values)
    )
    shifted = guide(datum_shift=str(path))[0]
    np.testing.assert_allclose(shifted.values[0], plain.values[0] + plane(lon, lat), atol=1e-3)
    assert shifted.uses[0].calibration.endswith("heights in EPSG:4979, + grid.tif added")
    np.testing.assert_allclose(guide(datum_shift=-3)[0].values, plain.values - 3, atol=1e-4)


@needs_shared
def test_a_truth_in_another_datum_is_shifted_or_refused_in_training_and_scores(places):
    spec = make_map(places, "geoid")
    truth = {"collection": "ellipsoid", "variable": "elevation"}
    with pytest.raises(SpecError, match="truth collection ellipsoid has heights in EPSG:4979"):
        read_site(spec, TruthConfig(**truth), name="la")
    with pytest.raises(SpecError, match="truth ellipsoid:elevation has heights in EPSG:4979"):
        find_truth(spec, "ellipsoid:elevation")
    sample = read_site(spec, TruthConfig(**truth, datum_shift=TO_GEOID), name="la")
    same = read_site(spec, TruthConfig(**truth | {"collection": "geoid"}), name="la")
    assert (sample.vertical_datum, sample.source.shape) == (GEOID, same.source.shape)
    np.testing.assert_allclose(sample.truth, same.truth, atol=0.47)
    assert sample.digest != read_site(spec, TruthConfig(**truth, datum_shift=TO_GEOID + 1), name="la").digest
    known = find_truth(spec, "ellipsoid:elevation", datum_shift=TO_GEOID)
    window = Window(top=0, left=0, bottom=30, right=30)
    found = read_truth(spec.map_grid, window, known, provider_of(spec))
    plain = read_truth(spec.map_grid, window, find_truth(spec, "unnamed:elevation"), provider_of(spec))
    np.testing.assert_allclose(found, plain, atol=0.47)
    check_alike([sample, replace(same, vertical_datum="")])
    with pytest.raises(InputError, match="different vertical datums, EPSG:3855, NZVD2016"):
        check_alike([sample, replace(same, vertical_datum="NZVD2016")])


@needs_shared
def test_the_datum_goes_from_the_description_to_store_record_why_and_export(places, tmp_path):
    content = make_content("ellipsoid", source={"datum_shift": TO_GEOID}, target={"vertical_datum": GEOID})
    path = places / "shifted.yaml"
    path.write_text(yaml.safe_dump(content | {"store": str(tmp_path / "map.icechunk")}))
    run_json("run", path)
    dataset = open_map(path)
    assert (dataset.attrs["vertical_datum"], dataset["dtm"].attrs["vertical_datum"]) == (GEOID, GEOID)
    x, y = (AREA[0] + AREA[2]) / 2, (AREA[1] + AREA[3]) / 2
    said = run_json("why", path, x, y)
    assert said["vertical_datum"] == GEOID
    assert "+34.88 m added" in said["record"]["items"][0]["calibration"]
    assert "heights in EPSG:3855" in run_mapper("why", path, x, y)[1]
    described = TestClient(make_app(read_spec(path).store)).get("/stac/item").json()["properties"]["cube:variables"]
    assert [name for name in described if "mapper:vertical_datum" in described[name]] == ["dtm"]
    run_mapper("export", path, "--out", tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as file:
        assert (file.tags()["vertical_datum"], file.tags(1)["vertical_datum"]) == (GEOID, GEOID)


def test_a_file_that_names_another_datum_than_its_collection_is_refused(tmp_path):
    box = GeoBox((20, 20), rasterio.Affine(1 / 3600, 0, 10, 0, -1 / 3600, 50), "EPSG:4326")
    heights = np.arange(400, dtype=np.float32).reshape(20, 20)
    item = write_item(tmp_path, "a", "2021-04-22T00:00:00Z", {"data": (heights, box)}, collection="geoid")
    path = item["assets"]["data"]["href"]
    place = {"crs": "EPSG:9518", "transform": box.transform, "height": 20, "width": 20}  # WGS 84 + EGM2008 height
    with rasterio.open(path, "w", driver="GTiff", count=1, dtype="float32", GEOTIFF_VERSION="1.1", **place) as file:
        file.write(heights, 1)

    def seen(**changes):
        rule = CollectionRule.model_validate(HEIGHTS | changes)
        block = read_block(freeze_items([item]), box, bands=("elevation",), rule=rule)
        return block["elevation"]

    for same in ({"vertical_datum": GEOID}, {}, {"vertical_datum": ELLIPSOID, "trust": "declaration"}):
        np.testing.assert_array_equal(seen(**same)[0], heights)
    assert seen(vertical_datum=GEOID).attrs["vertical_datum"] == GEOID
    with pytest.raises(CorruptAssetError, match="heights are in EPSG:3855, those of its collection in EPSG:4979"):
        seen(vertical_datum=ELLIPSOID)
    provider = Provider(
        name="t", title="", kind="static", licence="", attribution="",
        collections={"geoid": HEIGHTS | {"vertical_datum": ELLIPSOID}},
    )  # fmt: skip
    (reading,) = open_item(item, provider)
    assert next(each for each in reading.compared if each.property == "vertical datum").decision.startswith("refused")
