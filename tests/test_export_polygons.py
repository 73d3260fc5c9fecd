"""Objects of a map as GeoParquet, read back by the software that people would open it with."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from jsonschema import Draft202012Validator
from pyproj import CRS, Geod
from rasterio.features import rasterize
from region import run_json, run_mapper
from store_maps import NATIVE, make_spec, write_tiles

from mapper.errors import InputError
from mapper.export.polygons import ObjectRule, export_polygons
from mapper.store.map_store import MapStore, open_map
from mapper.store.product import map_product

DENSE = 200.0
BOX = (12.004, 50.003, 12.013, 50.009)
SCHEMA = {  # what GeoParquet 1.1 demands of the files that are written here (OGC 24-013, annex)
    "type": "object",
    "required": ["version", "primary_column", "columns"],
    "properties": {
        "version": {"const": "1.1.0"},
        "primary_column": {"const": "geometry"},
        "columns": {
            "additionalProperties": {
                "type": "object",
                "required": ["encoding", "geometry_types"],
                "properties": {
                    "encoding": {"const": "WKB"},
                    "geometry_types": {"items": {"enum": ["Polygon"]}, "uniqueItems": True},
                    "crs": {"type": "object", "required": ["type", "name"]},
                    "orientation": {"const": "counterclockwise"},
                    "edges": {"enum": ["planar", "spherical"]},
                    "bbox": {"type": "array", "minItems": 4, "maxItems": 4, "items": {"type": "number"}},
                },
                "additionalProperties": False,
            }
        },
    },
}


def make_map(folder, **changes):
    spec = make_spec(folder / "map.icechunk", **changes)
    MapStore.create(spec.store, map_product(spec))
    *tiles, _ = spec.map_grid.tiles()
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        write_tiles(writer, spec, tiles)
    return spec


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A map whose last tile was never written."""
    return make_map(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    return make_map(tmp_path_factory.mktemp("native"), grid=NATIVE)


def read_back(path):
    table = pq.read_table(path)
    metadata = {name.decode(): text.decode() for name, text in table.schema.metadata.items()}
    return SimpleNamespace(
        rows=table.drop_columns(["geometry"]).to_pylist(),
        polygons=shapely.from_wkb(table["geometry"].to_pylist()),
        geo=json.loads(metadata["geo"]),
        about={name.removeprefix("mapper:"): text for name, text in metadata.items() if name.startswith("mapper:")},
    )


def test_polygons_cover_exactly_the_pixels_that_reach_the_threshold(made, tmp_path):
    report = export_polygons(made.store, tmp_path / "dense.parquet", rule=ObjectRule(threshold=DENSE))
    found = read_back(report.path)
    values = open_map(made.store)["agb"].to_numpy()
    burnt = rasterize(
        zip(found.polygons, [row["id"] for row in found.rows], strict=True),
        out_shape=values.shape,
        transform=made.map_grid.geobox.transform,
        dtype="int32",
    )
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(burnt > 0, values >= DENSE)
    for row in found.rows[:20]:
        assert row["pixels"] == (burnt == row["id"]).sum()
        assert row["area_m2"] == pytest.approx(row["pixels"] * 100)
        assert row["mean"] == pytest.approx(values[burnt == row["id"]].mean(), rel=1e-5)
    assert report.objects == len(found.rows) > 100
    assert report.area_m2 == pytest.approx((burnt > 0).sum() * 100)
    assert report.missing == np.isnan(values).sum() > 64 * 64, "the tile that was never written"
    assert f"no value in {report.missing:,}" in report.summary()


def test_the_file_says_what_made_it_and_where_it_lies(made, tmp_path):
    report = export_polygons(made.store, tmp_path / "dense.parquet", rule=ObjectRule(threshold=DENSE, least_area=300))
    found = read_back(report.path)
    Draft202012Validator(SCHEMA).validate(found.geo)
    column = found.geo["columns"]["geometry"]
    assert CRS.from_json_dict(column["crs"]) == CRS.from_epsg(3035)
    assert column["bbox"] == shapely.total_bounds(found.polygons).tolist()
    assert all(polygon.exterior.is_ccw for polygon in found.polygons)
    about = found.about
    assert (about["band"], about["units"], about["threshold"], about["least_area_m2"]) == (
        "agb",
        "Mg ha-1",
        "200",
        "300",
    )
    assert about["snapshot"] == MapStore.open(made.store).snapshot == report.snapshot
    assert about["models"] == f"bicubic sha256:{'b' * 64}"
    assert about["spec_digest"] == made.digest
    assert about["tiles"] == f"1 missing, {len(list(made.map_grid.tiles())) - 1} ok"
    assert about["created"].endswith("+00:00")
    assert (tmp_path / about["store"]).resolve().samefile(made.store)
    assert about["pixels_without_value"] == str(report.missing)


def test_small_objects_are_left_out_and_counted(made, tmp_path):
    rule = ObjectRule(threshold=DENSE, least_area=500)
    every = export_polygons(made.store, tmp_path / "all.parquet", rule=ObjectRule(threshold=DENSE))
    large = export_polygons(made.store, tmp_path / "large.parquet", rule=rule)
    kept = [row["area_m2"] for row in read_back(every.path).rows if row["area_m2"] >= 500]
    rows = read_back(large.path).rows
    assert [row["area_m2"] for row in rows] == kept
    assert [row["id"] for row in rows] == list(range(1, len(kept) + 1))
    assert large.left_out == every.objects - large.objects > 0


def test_simplified_outlines_stay_near_and_keep_their_area_as_pixels(made, tmp_path):
    exact = export_polygons(made.store, tmp_path / "exact.parquet", rule=ObjectRule(threshold=DENSE))
    rule = ObjectRule(threshold=DENSE, simplify=5)
    slanted = read_back(export_polygons(made.store, tmp_path / "slanted.parquet", rule=rule).path)
    steps = read_back(exact.path)
    assert slanted.rows == steps.rows
    distance = shapely.hausdorff_distance(
        [polygon.exterior for polygon in slanted.polygons], [polygon.exterior for polygon in steps.polygons]
    )
    assert distance.max() <= 5 + 1e-6
    assert shapely.get_num_coordinates(slanted.polygons).sum() <= shapely.get_num_coordinates(steps.polygons).sum()
    assert shapely.is_valid(slanted.polygons).all()


def test_degrees_are_measured_on_the_ellipsoid(native, tmp_path):
    found = read_back(export_polygons(native.store, tmp_path / "d.parquet", rule=ObjectRule(threshold=DENSE)).path)
    assert CRS.from_json_dict(found.geo["columns"]["geometry"]["crs"]).is_geographic
    west, south, east, north = native.map_grid.geobox.extent.boundingbox.bbox
    whole, _ = Geod(ellps="WGS84").geometry_area_perimeter(shapely.box(west, south, east, north))
    rows, cols = native.map_grid.shape
    areas = np.array([row["area_m2"] / row["pixels"] for row in found.rows])
    assert areas == pytest.approx(np.full(areas.size, whole / (rows * cols)), rel=1e-3)


def test_a_box_holds_its_own_pixels_alone(made, tmp_path):
    found = read_back(export_polygons(made.store, tmp_path / "b.parquet", rule=ObjectRule(threshold=0), bbox=BOX).path)
    assert int(found.about["pixels"]) < math.prod(made.map_grid.shape)
    assert sum(row["pixels"] for row in found.rows) == int(found.about["pixels"]) - int(
        found.about["pixels_without_value"]
    )


def test_nothing_above_the_threshold_is_an_empty_table(made, tmp_path):
    report = export_polygons(made.store, tmp_path / "none.parquet", rule=ObjectRule(threshold=1e6))
    found = read_back(report.path)
    assert (report.objects, found.rows, "bbox" in found.geo["columns"]["geometry"]) == (0, [], False)


@pytest.mark.parametrize(
    ("band", "words"),
    [("qa", "qa holds flags"), ("n_valid", "n_valid holds counts"), ("building", "no array 'building', it has agb")],
)
def test_what_has_no_threshold_is_refused(made, tmp_path, band, words):
    with pytest.raises(InputError, match=words):
        export_polygons(made.store, tmp_path / "x.parquet", band=band)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"threshold": math.nan}, {"least_area": -1.0}, {"simplify": math.inf}])
def test_a_rule_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(InputError, match="expected finite numbers"):
        ObjectRule(**wrong)


def test_the_command_says_what_it_wrote(made, tmp_path):
    out = tmp_path / "dense.parquet"
    options = ["--band", "agb", "--threshold", "200", "--least-area", "300", "--out", str(out)]
    code, printed = run_mapper("polygons", str(made.store), *options)
    assert code == 0
    assert "polygons of agb" in printed
    assert run_mapper("polygons", str(made.store), *options)[0] != 0, "it is there already"
    out.unlink()
    assert run_json("polygons", str(made.store), *options)["objects"] == len(read_back(out).rows)
