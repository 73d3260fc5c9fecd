"""Places are read from files that anybody may have named, and the truth is scored where it is known."""

import json

import numpy as np
import pytest
import yaml
from elevation_places import PX, make_heights, write_lidar, write_raster
from shared import SHARED, needs_shared

from mapper.errors import InputError, SpecError
from mapper.evaluation.tally import Tally
from mapper.models.weights import load_model
from mapper.spec import ModelSpec
from mapper.spec.target import BandSpec
from mapper.training.config import ElevationData
from mapper.training.datasets import read_samples
from mapper.training.trainer import predict_sample

REAL = SHARED / "super_resolution" / "dem"


def read(folder, **options):
    return {sample.name: sample for sample in read_samples([ElevationData(folder=folder, **options)])}


def block_mean(values, scale):
    rows, cols = (n // scale for n in values.shape)
    blocks = values[: rows * scale, : cols * scale].reshape(rows, scale, cols, scale)
    return blocks.astype(np.float64).mean((1, 3))


def test_a_lidar_tile_is_one_place_with_the_mean_of_its_surface_as_source(tmp_path):
    ground, surface, mask, distance = write_lidar(tmp_path / "quarry east")
    (sample,) = read(tmp_path).values()
    assert (sample.name, sample.scale, sample.place) == ("quarry east", 10, "quarry east")
    np.testing.assert_allclose(sample.source, block_mean(surface, 10), rtol=1e-6)
    near = distance[:40, :50] <= 6
    np.testing.assert_array_equal(np.isfinite(sample.truth), near)
    np.testing.assert_array_equal(sample.truth[near], ground[:40, :50][near])
    assert np.nanmin(sample.truth) < 0
    np.testing.assert_array_equal(sample.ground.heights, ground[:40, :50])
    np.testing.assert_array_equal(sample.ground.cover, mask[:40, :50])
    for code, channel in enumerate(sample.guide, 1):
        np.testing.assert_array_equal(channel, mask[:40, :50] == code)
    assert sample.bands == (("building", "1"), ("tree", "1"), ("water", "1"))
    assert sample.bounds == (None, None)
    np.testing.assert_allclose(sample.ground.dx_m, PX)


def test_a_source_that_is_there_is_taken_and_the_rest_is_cut_to_its_pixels(tmp_path):
    ground, *_ = write_lidar(tmp_path / "tile")
    coarse = np.arange(12, dtype=np.float32).reshape(3, 4)
    # begins one source pixel west and 2 target pixels south of the truth, and ends beyond it
    write_raster(tmp_path / "tile" / "source_15m.tif", coarse, px=15, west=500_000 - 15, north=6_000_000 - 2 * PX)
    (sample,) = read(tmp_path, truth_within_m=99).values()
    assert sample.scale == 5
    np.testing.assert_array_equal(sample.source, coarse[:, 1:])
    np.testing.assert_array_equal(sample.truth, ground[2:17, :15])
    write_raster(tmp_path / "tile" / "source_15m.tif", coarse, px=15, west=500_001)
    with pytest.raises(InputError, match="does not nest"):
        read(tmp_path)
    write_raster(tmp_path / "tile" / "source_15m.tif", coarse, px=10)
    with pytest.raises(InputError, match="no whole multiple"):
        read(tmp_path)


@pytest.mark.parametrize(("px", "crs", "scale"), [(1, 2193, 10), (10, 2193, 5), (30, 32611, 3), (1 / 3600, 4326, 3)])
def test_lone_rasters_are_places_of_bare_earth_at_the_scale_of_their_pixels(tmp_path, px, crs, scale):
    ground, *_ = make_heights(61, 71)
    for stem in ("srtm", "other"):
        write_raster(tmp_path / "hills" / f"{stem}.tif", ground, px=px, west=7, north=50, crs=f"EPSG:{crs}")
    samples = read(tmp_path)
    assert list(samples) == ["hills/other", "hills/srtm"]
    sample = samples["hills/srtm"]
    assert (sample.scale, sample.place) == (scale, "hills")
    np.testing.assert_allclose(sample.source, block_mean(ground, scale), rtol=1e-5, atol=1e-6)
    border = np.isnan(sample.truth)
    assert border[: 2 * scale].all()
    assert border[:, -2 * scale :].all()
    assert not border[2 * scale : -2 * scale, 2 * scale : -2 * scale].any()
    assert np.isnan(sample.guide).all()
    assert sample.ground.cover is None


def test_rows_from_south_to_north_voids_and_files_without_a_place_are_read_right(tmp_path):
    ground, *_ = make_heights(60, 60)
    ground[30:33, 30:40] = -9999
    write_raster(tmp_path / "up" / "dem.tif", ground)
    write_raster(tmp_path / "down" / "dem.tif", ground, south_up=True)
    write_raster(tmp_path / "nowhere" / "dem.tif", ground, crs=None, west=0, north=0)
    samples = read(tmp_path)
    for name in ("down", "nowhere"):
        np.testing.assert_array_equal(samples[name].truth, samples["up"].truth)
        np.testing.assert_array_equal(samples[name].source, samples["up"].source)
    voids = np.isnan(samples["up"].ground.heights)
    assert voids.sum() == 30
    assert np.isfinite(samples["up"].source).all()
    assert np.nanmin(samples["up"].source) > -20


def test_places_yaml_says_what_names_do_not(tmp_path):
    _, _, mask, _ = write_lidar(tmp_path / "raw")
    (tmp_path / "raw").rename(tmp_path / "aside")
    config = {
        "truth": "aside/dtm_3m.tif", "surface": "aside/dsm_3m.tif", "mask": "aside/mask_3m.tif", "scale": 5,
        "classes": {"building": [1, 2], "tree": []}, "vertical_datum": "EPSG:5720", "border_source_px": 1,
    }  # fmt: skip
    (tmp_path / "places.yaml").write_text(yaml.safe_dump({"places": {"harbour": config}}))
    sample = read(tmp_path)["harbour"]
    assert (sample.scale, sample.vertical_datum) == (5, "EPSG:5720")
    np.testing.assert_array_equal(sample.guide[0], np.isin(mask[:40, :50], (1, 2)))
    assert not sample.guide[1].any()
    assert np.isnan(sample.truth[:5]).all()
    assert np.isfinite(sample.truth[5:-5, 5:-5]).all()
    (tmp_path / "places.yaml").write_text("places: {harbour: {truth: a.tif, trees: b.tif}}")
    with pytest.raises(SpecError, match=r"places\.yaml: .*trees"):
        read(tmp_path)


def test_objects_are_dropped_from_the_guide_and_not_from_the_scores(tmp_path):
    write_lidar(tmp_path / "town")
    write_raster(tmp_path / "bare" / "dem.tif", make_heights(80, 80)[0])
    (whole,) = read(tmp_path, places=("town",)).values()
    (spoilt,) = read(tmp_path, drop_objects=0.25, seed=4).values()
    assert (spoilt.name, spoilt.place) == ("town -25 %", "town")
    np.testing.assert_array_equal(spoilt.ground.cover, whole.ground.cover)
    lost = whole.guide[0] - spoilt.guide[0]
    assert lost.min() == 0
    assert lost.sum() in (2 * 15, 2 * 15 - 5)  # 2 of 10 buildings; one is cut by the last source pixel
    again = read(tmp_path, drop_objects=0.25, seed=4)["town -25 %"]
    np.testing.assert_array_equal(again.guide, spoilt.guide)
    assert not np.array_equal(read(tmp_path, drop_objects=0.25, seed=5)["town -25 %"].guide, spoilt.guide)
    with pytest.raises(InputError, match="no objects are known"):
        read(tmp_path, places=("bare",), drop_objects=0.1)


def test_outlines_are_a_channel_only_where_they_are_asked_for(tmp_path):
    ground, surface, *_ = make_heights()
    write_raster(tmp_path / "dc" / "dtm.tif", ground, crs="EPSG:4326", px=1e-5, west=10, north=50)
    write_raster(tmp_path / "dc" / "dsm.tif", surface, crs="EPSG:4326", px=1e-5, west=10, north=50)
    ring = [[10 + 1e-5 * x, 50 - 1e-5 * y] for x, y in ((4, 2), (9, 2), (9, 12), (4, 12), (4, 2))]
    shape = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    path = tmp_path / "dc" / "buildings.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [shape]}))
    assert np.isnan(read(tmp_path, scale=5)["dc"].guide).all()
    sample = read(tmp_path, outlines=True, scale=5)["dc"]
    expected = np.zeros(sample.truth.shape)
    expected[2:12, 4:9] = 1
    np.testing.assert_array_equal(sample.guide[0], expected)
    assert np.isnan(sample.guide[1:]).all()
    path.write_text("[]")
    with pytest.raises(InputError, match="no GeoJSON"):
        read(tmp_path, outlines=True, scale=5)


def test_what_does_not_fit_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match="no folder of places"):
        read(tmp_path / "none")
    with pytest.raises(InputError, match="holds no place"):
        read(tmp_path)
    write_lidar(tmp_path / "a")
    with pytest.raises(InputError, match="has no place b; it has a"):
        read(tmp_path, places=("b",))
    write_raster(tmp_path / "a" / "dsm_other.tif", make_heights()[1])
    with pytest.raises(InputError, match="several of surface"):
        read(tmp_path)
    (tmp_path / "a" / "dsm_other.tif").unlink()
    write_raster(tmp_path / "a" / "mask_3m.tif", np.zeros((43, 50), np.uint8), west=500_001, nodata=None)
    with pytest.raises(InputError, match="not on the grid of dtm_3m"):
        read(tmp_path)
    (tmp_path / "a" / "mask_3m.tif").unlink()
    (tmp_path / "a" / "dtm_3m.tif").unlink()
    with pytest.raises(InputError, match="needs one raster of bare earth"):
        read(tmp_path)


def test_heights_of_two_vertical_datums_are_refused_until_somebody_says(tmp_path):
    write_lidar(tmp_path / "a", crs="EPSG:32630+5773")
    assert read(tmp_path)["a"].vertical_datum == "EPSG:5773"
    write_raster(tmp_path / "a" / "dsm_3m.tif", make_heights()[1], crs="EPSG:32630+3855")
    with pytest.raises(InputError, match=r"differ in vertical datum: dtm_3m\.tif EPSG:5773, dsm_3m\.tif EPSG:3855"):
        read(tmp_path)
    (tmp_path / "a" / "places.yaml").write_text("places: {a: {vertical_datum: EPSG:3855}}")
    assert read(tmp_path)["a"].vertical_datum == "EPSG:3855"


@needs_shared
@pytest.mark.parametrize(
    ("name", "scale", "expected"),
    [
        (
            "ign_0292_6833",
            10,
            {"rmse": 4.026, "mae": 3.124, "bias": 3.07, "nmad": 2.11, "le90": 6.38, "slope_rmse": 6.8},
        ),
        ("ign_lattes_50m", 10, {"rmse": 5.40}),
        ("dc", 15, {"rmse": 4.015, "bias": 3.15}),
        ("srtm_bigtujunga", 3, {"rmse": 3.628, "slope_rmse": 3.25}),
        ("nz_negative", 5, {"rmse": 0.203}),
        ("nz_by23", 10, {"rmse": 0.0495}),
        ("glo30_los_angeles/geoid", 3, {"rmse": 2.723}),
    ],
)
def test_bicubic_of_real_places_has_the_published_errors(name, scale, expected):
    sample = read(REAL, places=(name,))[name]
    assert sample.scale == scale
    value = predict_sample(load_model(ModelSpec(name="bicubic")), sample).mean
    ground = sample.ground if len(expected) > 1 else None  # slopes take a second
    tally = Tally.of(value, sample.known_truth, target=BandSpec(units="m", value_range=100), ground=ground)
    found = tally.score.values() | tally.terrain.values()
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=0.01)
    if name == "ign_0292_6833":
        by_class = {c: (s.value("bias"), s.value("rmse")) for c, s in tally.terrain.cover.items() if s.n}
        assert by_class["bare"] == pytest.approx((2.46, 3.26), rel=0.01)
        assert by_class["building"] == pytest.approx((3.89, 4.34), rel=0.01)
        assert by_class["tree"] == pytest.approx((5.81, 6.81), rel=0.01)
        assert found["pits"] == pytest.approx(0.0015, abs=0.0001)
