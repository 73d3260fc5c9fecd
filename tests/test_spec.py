"""The map description: what is accepted, what is refused and how, and what its digest covers."""

import copy
from fractions import Fraction

import pytest
import shapely
import yaml

from mapper.errors import GridError, SpecError
from mapper.spec import parse_spec, read_spec

CONTENT = {
    "name": "region",
    "area": {"bbox": [11.9, 50.0, 12.1, 50.1]},
    "period": {"start": "2020-04-01", "end": "2020-10-31"},
    "grid": {"crs": "EPSG:3035", "resolution": 10, "tile": 512, "chunk": 256},
    "catalog": {"provider": "demo", "href": "catalog/catalog.json"},
    "guide": {
        "layers": [
            {"collection": "sentinel-2-l2a", "bands": ["B04", "B08"], "cloud_limit": 80},
            {"collection": "sentinel-1-rtc", "bands": ["vv", "vh"], "orbit": "ascending"},
        ],
        "seasons": {"spring": [4, 5], "summer": [6, 7, 8]},
    },
    "source": {"collection": "esa-cci-biomass", "variable": "agb", "sd": "agb_sd", "year": 2020, "resolution": 100},
    "model": {"name": "bicubic"},
    "store": "map.icechunk",
}


def changed(**parts):
    content = copy.deepcopy(CONTENT)
    for path, value in parts.items():
        *parents, key = path.split("__")
        part = content
        for parent in parents:
            part = part[parent]
        part[key] = value
    return content


def test_a_description_survives_yaml(tmp_path):
    spec = parse_spec(CONTENT, base=tmp_path)
    (tmp_path / "map.yaml").write_text(spec.to_yaml())
    assert read_spec(tmp_path / "map.yaml") == spec
    assert read_spec(tmp_path / "map.yaml").digest == spec.digest


def test_paths_are_relative_to_the_file(tmp_path):
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(CONTENT))
    spec = read_spec(tmp_path / "map.yaml")
    assert spec.store == str(tmp_path / "map.icechunk")
    assert spec.catalog.href == str(tmp_path / "catalog/catalog.json")


def test_locations_of_object_stores_are_left_alone(tmp_path):
    assert parse_spec(changed(store="s3://bucket/map"), base=tmp_path).store == "s3://bucket/map"


def test_channels_are_named_by_season_band_and_orbit(tmp_path):
    channels = parse_spec(CONTENT, base=tmp_path).guide.channels
    assert [channel.name for channel in channels] == [
        "spring_B04", "spring_B08", "spring_vv_ascending", "spring_vh_ascending",
        "summer_B04", "summer_B08", "summer_vv_ascending", "summer_vh_ascending",
    ]  # fmt: skip
    assert channels[4].months == (6, 7, 8)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (changed(colour="red"), "colour: unknown key"),
        (changed(grid__tiles=3), "grid.tiles: unknown key"),
        ({k: v for k, v in CONTENT.items() if k != "source"}, "source: missing"),
        (changed(area={"bbox": [179, 50, -179, 51]}), "antimeridian"),
        (changed(area={"bbox": [10, 51, 11, 50]}), "south < north"),
        (changed(area={}), "exactly one of bbox and geojson"),
        (changed(period={"start": "2021-01-01", "end": "2020-01-01"}), "before it starts"),
        (changed(grid__chunk=100), "multiple of chunk"),
        (changed(guide__seasons={"summer": [13]}), "months are 1 to 12"),
        (changed(guide__layers=CONTENT["guide"]["layers"] * 2), "appear twice"),
        (changed(grid__resolution="ten"), "grid.resolution"),
        (changed(consistency="firm"), "consistency"),
        (changed(model={"name": "burst", "options": {"round": 3}}), "unknown round: expected some of rounds, psf"),
        (changed(model={"name": "burst", "options": {"psf": 0.9}}), "model.options.psf"),
        ([], "mapping"),
    ],
)
def test_faults_are_named(content, line, tmp_path):
    with pytest.raises(SpecError) as error:
        parse_spec(content, base=tmp_path)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["a: [", "\t", "- 1"])
def test_a_file_that_is_no_description_is_refused(text, tmp_path):
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(SpecError, match=r"map\.yaml") as error:
        read_spec(tmp_path / "map.yaml")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SpecError, match="cannot be read"):
        read_spec(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    "content",
    [
        changed(name="other"),
        changed(store="s3://b/m"),
        changed(catalog__href="elsewhere.json"),
        changed(model=CONTENT["model"] | {"options": {"rounds": 15}}),
    ],
)
def test_names_and_locations_do_not_change_the_digest(content, tmp_path):
    assert parse_spec(content, base=tmp_path).digest == parse_spec(CONTENT, base=tmp_path).digest


@pytest.mark.parametrize(
    "content",
    [
        changed(grid__tile=1024),
        changed(guide__seasons={"summer": [6]}),
        changed(source__year=2019),
        changed(consistency="hard"),
        changed(model={"name": "nearest"}),
        changed(model=CONTENT["model"] | {"options": {"rounds": 14}}),
        changed(area={"bbox": [11.9, 50.0, 12.1, 50.2]}),
        changed(target={"encoding": {"scale_factor": 0.5}}),
        changed(target={"heights": "ground"}),
        changed(target={"vertical_datum": "EPSG:3855"}),
        changed(source__datum_shift=-0.5),
        changed(guide__layers=[CONTENT["guide"]["layers"][0] | {"datum_shift": 2}, CONTENT["guide"]["layers"][1]]),
    ],
)
def test_whatever_can_change_a_pixel_changes_the_digest(content, tmp_path):
    assert parse_spec(content, base=tmp_path).digest != parse_spec(CONTENT, base=tmp_path).digest


def test_a_grid_of_metres_counts_by_what_it_holds(tmp_path):
    for folder, name, content in (("a", "grid.tif", b"1"), ("b", "other.tif", b"1"), ("c", "grid.tif", b"2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(content)
    layers = [layer | {"datum_shift": "grid.tif"} for layer in CONTENT["guide"]["layers"]]
    first = parse_spec(changed(source__datum_shift="grid.tif", guide__layers=layers), base=tmp_path / "a")
    same = parse_spec(changed(source__datum_shift="../b/other.tif", guide__layers=layers), base=tmp_path / "a")
    other = parse_spec(changed(source__datum_shift="grid.tif", guide__layers=layers), base=tmp_path / "c")
    assert first.digest == same.digest != other.digest
    assert first.guide_digest == same.guide_digest != other.guide_digest
    absent = parse_spec(changed(source__datum_shift="nothing.tif"), base=tmp_path)
    with pytest.raises(SpecError, match=r"datum_shift .*nothing\.tif cannot be read"):
        _ = absent.digest
    with pytest.raises(SpecError, match=r"source\.datum_shift"):
        parse_spec(changed(source__datum_shift=True), base=tmp_path)


def test_a_native_grid_is_exact(tmp_path):
    content = changed(
        grid={"kind": "native", "crs": "EPSG:4326", "resolution": "1/11250", "tile": 256}, source__resolution="1/1125"
    )
    spec = parse_spec(content, base=tmp_path)
    assert spec.grid.resolution == Fraction(1, 11250)
    assert spec.scale == 10


def test_a_source_that_does_not_nest_is_refused(tmp_path):
    with pytest.raises(GridError, match="does not nest"):
        _ = parse_spec(changed(source__resolution=95), base=tmp_path).map_grid


def test_an_area_can_be_a_geojson_file(tmp_path):
    polygon = shapely.Point(12, 50).buffer(0.05)
    (tmp_path / "area.geojson").write_text(shapely.to_geojson(polygon))
    spec = parse_spec(changed(area={"geojson": "area.geojson"}, grid__tile=128, grid__chunk=128), base=tmp_path)
    assert spec.area.geometry.equals(polygon)
    assert len(list(spec.map_grid.tiles())) < spec.map_grid.tile_shape[0] * spec.map_grid.tile_shape[1]


def test_a_geojson_file_without_polygon_is_refused(tmp_path):
    (tmp_path / "area.geojson").write_text(shapely.to_geojson(shapely.Point(12, 50)))
    with pytest.raises(SpecError, match="no polygon"):
        _ = parse_spec(changed(area={"geojson": "area.geojson"}), base=tmp_path).area.geometry


def test_a_changed_copy_has_its_own_digest_and_grid(tmp_path):
    spec = parse_spec(CONTENT, base=tmp_path)
    before = spec.digest, spec.map_grid.digest
    copy = spec.model_copy(update={"grid": spec.grid.model_copy(update={"tile": 1024})})
    assert copy.digest != before[0]
    assert copy.map_grid.digest != before[1]
    with pytest.raises(ValueError, match="multiple of chunk"):
        spec.grid.model_copy(update={"tile": 1000})


def test_each_collection_may_come_from_a_catalogue_of_its_own(tmp_path):
    content = CONTENT | {"source": CONTENT["source"] | {"catalog": {"provider": "demo", "href": "cci/catalog.json"}}}
    spec = parse_spec(content, base=tmp_path)
    assert spec.catalog_of(spec.source.collection).href == str(tmp_path / "cci" / "catalog.json")
    assert spec.catalog_of(spec.guide.layers[0].collection) == spec.catalog
    assert spec.digest != parse_spec(content | {"source": CONTENT["source"]}, base=tmp_path).digest
