"""Provider descriptions: those that ship fit their items and schema, wrong ones are refused; several archives."""

import json
import re
from pathlib import Path

import pytest
import yaml
from shared import SHARED, needs_shared

from mapper.catalog.provider import (
    Provider,
    format_schema,
    load_provider,
    location_of,
    merge,
    provider_names,
    provider_of,
    provider_schema,
)
from mapper.errors import SpecError
from mapper.spec import CatalogSpec, parse_spec

NAMES = ("biomassters", "copernicus-dataspace", "demo", "earth-search", "maap", "planetary-computer", "stac-api")
S2_BANDS = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12"]


def test_the_providers_that_ship_are_named():
    assert set(NAMES) <= set(provider_names())


@pytest.mark.parametrize(
    ("name", "collection"),
    [
        ("planetary-computer", "sentinel-2-l2a"),
        ("earth-search", "sentinel-2-c1-l2a"),
        ("earth-search", "sentinel-2-pre-c1-l2a"),
        ("copernicus-dataspace", "sentinel-2-l2a"),
        ("stac-api", "sentinel-2"),
    ],
)
def test_sentinel_2_has_the_same_bands_and_the_same_mask_everywhere(name, collection):
    rule, reference = load_provider(name).rule(collection), load_provider("planetary-computer").rule("sentinel-2-l2a")
    assert list(rule.bands) == S2_BANDS
    same = ("units", "calibration", "dtype", "nodata", "resampling", "reducer", "trust")
    assert [getattr(rule, key) for key in same] == [getattr(reference, key) for key in same]
    assert (rule.mask.rule, rule.mask.classes, rule.mask.nodata) == ("classes", (0, 1, 3, 8, 9, 10, 11), 0)


@pytest.mark.parametrize("name", ["planetary-computer", "earth-search"])
def test_the_elevation_model_is_called_the_same(name):
    rule = load_provider(name).rule("cop-dem-glo-30")
    assert (list(rule.bands), rule.units, rule.nodata, rule.group_by) == (["elevation"], "m", None, ())
    assert (rule.vertical_datum, rule.heights) == ("EPSG:3855", "surface")


def test_land_cover_is_read_as_classes_of_one_year():
    rule, seen = load_provider("planetary-computer").rule("esa-worldcover"), []
    old, new = (
        {"id": f"ESA_WorldCover_10m_{year}_N00E006", "assets": {"map": {}}} for year in ("2020_v100", "2021_v200")
    )
    for name, band in rule.bands.items():
        assert rule.units_of(name) == "1"
        assert (rule.asset(old, name), rule.asset(new, name)) == (None, "map")
        seen += band.classes
    assert sorted(seen) == [10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100], "each class in one band"
    assert (rule.bands["building"].classes, rule.bands["tree"].classes) == ((50,), (10, 95))


@pytest.mark.parametrize(
    ("name", "collection", "reason"),
    [
        ("earth-search", "sentinel-2-l2a", r"use sentinel-2-c1-l2a.*refused: null, trust: flag"),
        ("earth-search", "sentinel-1-grd", "geometry of the radar"),
        ("planetary-computer", "sentinel-1-grd", "use sentinel-1-rtc"),
        ("copernicus-dataspace", "sentinel-1-grd", "geometry of the radar"),
    ],
)
def test_what_cannot_be_read_right_is_refused_with_the_reason_and_a_way_out(name, collection, reason):
    with pytest.raises(SpecError, match=f"collection {collection} of {name} is refused: .*{reason}"):
        load_provider(name).rule(collection)


def test_files_are_reached_as_the_archive_wants_it():
    storage = load_provider("copernicus-dataspace").rule("sentinel-2-l2a").access.storage
    assert (storage.endpoint, storage.path_style, storage.anonymous) == (
        "https://eodata.dataspace.copernicus.eu", True, False,
    )  # fmt: skip
    heights = load_provider("earth-search").rule("cop-dem-glo-30").access.storage
    assert (heights.region, heights.anonymous, heights.endpoint) == ("eu-central-1", True, None)
    assert load_provider("earth-search").rule("sentinel-2-c1-l2a").access.storage.region == "us-west-2"
    for name in NAMES:
        assert load_provider(name).kind == "static" or load_provider(name).access.limits.requests_per_second


@pytest.mark.parametrize("name", provider_names())
def test_every_provider_that_ships_is_valid(name):
    provider = load_provider(name)
    assert provider.name == name
    assert provider.licence
    assert provider.attribution
    for collection, rule in provider.collections.items():
        assert rule.refused or provider.rule(collection) is rule
        assert provider.assets[collection] >= {band.asset for band in rule.bands.values()}
        assert rule.mask is None or rule.mask.asset in provider.assets[collection]


def test_a_provider_of_ones_own_is_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(load_provider("demo").model_dump(mode="json")))
    assert load_provider(str(path)) == load_provider("demo")


def test_a_description_survives_being_written():
    provider = load_provider("planetary-computer")
    assert Provider.model_validate(provider.model_dump(mode="json")) == provider


@pytest.mark.parametrize("text", ["name: mine", "a: [", "- 1", "name: mine\ncolour: red"])
def test_a_wrong_description_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"mine\.yaml' is not valid") as error:
        load_provider(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"colour": "red"}, "colour: unknown key"),
        ({"collections": {"truth": {"units": None}}}, "collections.truth.units: Input should be a valid string"),
        ({"collections": {"new": {"bands": {"agb": "agb"}}}}, "collections.new.units: missing; "),
        ({"collections": {"truth": {"bands": {"agb": {"key": "agb"}}}}}, "collections.truth.bands.agb.key: unknown"),
        ({"collections": {"truth": {"calibration": "magic"}}}, "collections.truth.calibration: .*'identity'"),
        ({"collections": {"sentinel-2-l2a": {"scale": 2}}}, "decided for every item: leave them out"),
        ({"collections": {"sentinel-2-l2a": {"mask": {"rule": "bits"}}}}, "a mask by bits has to list bits"),
        ({"access": {"limits": {"burst": 0}}}, "access.limits.burst: "),
    ],
)
def test_a_mistake_is_told_with_its_place(change, line):
    with pytest.raises(SpecError, match=f"provider 'demo' is not valid: .*{line}"):
        load_provider("demo", override=change)


def test_null_removes_an_inherited_band():
    override = {"collections": {"sentinel-2": {"bands": {"B01": None, "B02": "blue"}}}}
    bands = load_provider("stac-api", override=override).rule("sentinel-2").bands
    assert list(bands) == S2_BANDS[1:]
    assert bands["B02"].asset == "blue"


def test_an_unknown_provider_is_refused_with_those_that_ship():
    with pytest.raises(SpecError, match="unknown provider 'nasa': mapper ships biomassters, copernicus-dataspace,"):
        load_provider("nasa")


def test_an_unknown_collection_is_refused_with_those_that_are_described():
    with pytest.raises(SpecError, match="unknown collection 'landsat': demo has esa-cci-biomass, sentinel-1-rtc"):
        load_provider("demo").rule("landsat")


@needs_shared
def test_hgb_has_the_assets_that_are_named():
    path = SHARED / "stac_items" / "planetary-computer" / "hgb" / "collection_template.json"
    rule = load_provider("planetary-computer").rule("hgb")
    assert {band.asset for band in rule.bands.values()} <= set(json.loads(path.read_text())["item_assets"])


def test_the_examples_in_the_template_are_true(tmp_path):
    text = (Path(__file__).parents[1] / "catalogs" / "stac-api.yaml").read_text()
    blocks = [block for block in text.split("\n#\n") if block.startswith("#   ")]
    inside, alone = (yaml.safe_load("\n".join(line[4:] for line in block.splitlines())) for block in blocks)
    provider = load_provider(inside["catalog"]["provider"], override=inside["catalog"]["override"])
    assert provider.rule("sentinel-2-c1").bands["B08"].asset == "nir"
    assert provider.rule("sentinel-2-c1").mask.asset == "scl"
    assert provider.rule("s1-rtc-db").calibration == "decibel"
    assert (provider.rule("HLSL30_2.0").scale, provider.rule("HLSL30_2.0").mask.bits) == (0.0001, (1, 2, 3, 4))
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(alone))
    mine = load_provider(str(path))
    assert mine.endpoint == "https://archive.example/stac/v1"
    assert mine.rule("s2_l2a").access.storage.anonymous
    assert mine.rule("s2_l2a").access.limits.requests_per_second == 10


CONTENT = {
    "name": "two",
    "area": {"bbox": [11.9, 47.9, 12.1, 48.1]},
    "period": {"start": "2020-01-01", "end": "2020-12-31"},
    "grid": {"crs": "EPSG:3035", "resolution": 10, "tile": 256},
    "catalog": {"provider": "planetary-computer"},
    "guide": {"layers": [{"collection": "sentinel-2-l2a", "bands": ["B04"]}], "seasons": {"year": [5, 6]}},
    "source": {"collection": "esa-cci-biomass", "variable": "agb", "resolution": 100, "catalog": {"provider": "demo"}},
    "model": {"name": "bicubic"},
    "store": "map.icechunk",
}


def test_collections_come_from_the_provider_that_is_named_for_them(tmp_path):
    provider = provider_of(parse_spec(CONTENT, base=tmp_path))
    assert provider.rule("esa-cci-biomass") == load_provider("demo").rule("esa-cci-biomass")
    assert provider.rule("sentinel-2-l2a").access.signing.kind == "token-service"
    assert provider.rule("esa-cci-biomass").access.signing.kind == "none"
    assert provider.name == "planetary-computer + demo"


def test_a_collection_that_its_provider_lacks_is_refused(tmp_path):
    source = CONTENT["source"] | {"collection": "agb"}
    with pytest.raises(SpecError, match="unknown collection 'agb': demo has esa-cci-biomass"):
        provider_of(parse_spec(CONTENT | {"source": source}, base=tmp_path))


def test_a_collection_has_one_home(tmp_path):
    layers = [*CONTENT["guide"]["layers"], {**CONTENT["source"], "bands": ["agb"], "catalog": {"provider": "mine"}}]
    layers[1] = {key: layers[1][key] for key in ("collection", "bands", "catalog")}
    with pytest.raises(SpecError, match="'esa-cci-biomass' comes from two catalogues"):
        parse_spec(CONTENT | {"guide": CONTENT["guide"] | {"layers": layers}}, base=tmp_path)


def test_a_map_overrides_a_few_lines(tmp_path):
    override = {"collections": {"sentinel-2-l2a": {"resampling": "nearest"}}}
    spec = parse_spec(CONTENT | {"catalog": {"provider": "demo", "override": override}}, base=tmp_path)
    assert provider_of(spec).rule("sentinel-2-l2a").resampling == "nearest"
    assert load_provider("demo").rule("sentinel-2-l2a").resampling == "bilinear"


def test_a_catalogue_without_a_place_is_refused():
    with pytest.raises(SpecError, match=r"demo has no endpoint of its own: give catalog\.href"):
        location_of(CatalogSpec(provider="demo"))


def test_a_provider_may_extend_another_and_a_collection_be_like_another(tmp_path):
    content = {
        "extends": "demo",
        "name": "mine",
        "endpoint": "http://127.0.0.1:9/",
        "access": {"limits": {"requests_per_second": 5}},
        "collections": {"s2": {"like": "sentinel-2-l2a", "bands": {"B02": "blue"}}},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    mine, demo = load_provider(str(path)), load_provider("demo")
    assert mine.rule("s2").bands["B02"].asset == "blue"
    assert mine.rule("s2").mask == demo.rule("sentinel-2-l2a").mask
    assert mine.rule("truth").access.limits.requests_per_second == 5
    assert mine.licence == demo.licence


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"collections": {"s2": {"like": "s3"}}}, "like 's3', which is not another collection"),
        ({"collections": {"s2": {"like": "s2"}}}, "like 's2', which is not another collection"),
        ({"extends": "mine.yaml"}, "extends"),
    ],
)
def test_endless_inheritance_is_refused(tmp_path, change, line):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": "demo"} | change))
    with pytest.raises(SpecError, match=line):
        load_provider(str(path))


def test_merging_replaces_what_is_no_mapping():
    assert merge({"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"c": [2]}}) == {"a": {"b": 1, "c": [2]}, "d": 2}


CATALOGS = Path(__file__).parents[1] / "catalogs"
SCHEMA = provider_schema()


KINDS = {
    "object": dict, "array": list, "string": str, "null": type(None), "boolean": bool, "integer": int,
    "number": (int, float),
}  # fmt: skip


def check(value, schema, where="provider"):
    """What of a value is not as a schema says; of JSON Schema, the words that this one uses."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]] | {k: v for k, v in schema.items() if k != "$ref"}
    if "type" in schema and not isinstance(value, KINDS[schema["type"]]):
        return [f"{where}: no {schema['type']}"]
    faults = list(check_choice(value, schema, where))
    if isinstance(value, list):
        faults += [fault for each in value for fault in check(each, schema.get("items", {}), where)]
    if isinstance(value, dict):
        faults += [f"{where}: lacks {key}" for key in schema.get("required", ()) if key not in value]
        for key, part in value.items():
            known = schema.get("properties", {}).get(key, schema.get("additionalProperties", True))
            if known is False:
                faults.append(f"{where}: unknown {key}")
            faults += check(part, known, f"{where}.{key}") if isinstance(known, dict) else []
    return faults


def check_choice(value, schema, where):
    if "anyOf" in schema and all(check(value, option, where) for option in schema["anyOf"]):
        yield f"{where}: fits none of {len(schema['anyOf'])}"
    if "if" in schema and not check(value, schema["if"], where):
        yield from check(value, schema["then"], where)
    if "not" in schema and not check(value, schema["not"], where):
        yield f"{where}: is what it must not be"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: none of {schema['enum']}"


def test_the_schema_that_ships_is_that_of_the_code():
    """If this fails: ``mapper catalog check --schema > catalogs/provider.schema.json``."""
    assert (CATALOGS / "provider.schema.json").read_text() == format_schema()


def test_every_field_is_described():
    sections = {"Provider": SCHEMA, **SCHEMA["$defs"]}
    silent = [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, part in section["properties"].items()
        if "description" not in part and "AccessRule" not in name
    ]
    # these are named for what they are, or described as a whole
    assert set(silent) <= {"SigningRule.kind", "StorageRule.region"}


@pytest.mark.parametrize("name", provider_names())
def test_files_that_ship_fit_the_schema(name):
    path = CATALOGS / f"{name}.yaml"
    assert check(yaml.safe_load(path.read_text()), SCHEMA) == []
    assert re.match(r"# yaml-language-server: \$schema=provider\.schema\.json\n", path.read_text())


def test_a_description_that_is_written_out_fits_the_schema():
    content = json.loads(json.dumps(load_provider("planetary-computer").model_dump(mode="json")))
    assert check(content, SCHEMA) == []


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"extends": "demo", "name": "mine"}, None),
        ({"extends": "demo", "collections": {"truth": {"bands": {"agb": None}}}}, None),
        ({"extends": "demo", "colour": "red"}, "provider: unknown colour"),
        ({"name": "mine"}, "provider: lacks title"),
        ({"extends": "demo", "collections": {"truth": {"trust": "me"}}}, "provider.collections.truth.trust: none of"),
    ],
)
def test_the_schema_knows_inheritance_and_finds_mistakes(content, fault):
    faults = check(content, SCHEMA)
    assert any(each.startswith(fault) for each in faults) if fault else faults == []
