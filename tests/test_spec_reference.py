"""The reference of a MAP.yaml says what the code reads."""

import json

import pytest
import yaml
from jsonschema import Draft202012Validator

from mapper.presets import read_preset
from mapper.spec import parse_spec, read_spec
from mapper.spec.reference import build_schema, make_reference

VALIDATOR = Draft202012Validator(build_schema())
MAP = {
    "name": "one",
    "area": {"bbox": [11, 50, 12, 51]},
    "period": {"start": "2020-04-01", "end": "2020-10-31"},
    "grid": {"resolution": 10},
    "catalog": {"provider": "planetary-computer"},
    "source": {"collection": "esa-cci-biomass", "variable": "agb", "resolution": 100},
    "model": {"name": "bicubic"},
    "store": "one.icechunk",
}
OF_A_STACK = {"preset": "sentinel2-multi", "source": {"collection": "sentinel-2-l2a", "dates": 2}}


def faults_of(content):
    """What the schema says against a description, by the place of each key."""
    plain = json.loads(json.dumps(content, default=str))
    return {".".join(map(str, fault.absolute_path)) for fault in VALIDATOR.iter_errors(plain)}


def test_every_key_is_described():
    schema = build_schema()
    for name, part in {"MapSpec": schema, **schema["$defs"]}.items():
        assert part["description"], name
        for key, content in part["properties"].items():
            assert content.get("description"), f"{name}.{key}"


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"consistency": "hard"},
        {"consistency": {"operator": "gaussian-psf", "mtf": 0.3, "mode": "soft"}},
        {"target": {"name": "agb", "non_negative": True}},
        {"grid": {"kind": "native", "crs": "EPSG:4326", "resolution": "1/11250"}},
        OF_A_STACK,
        {**OF_A_STACK, "target": {"bands": ["a", {"name": "b", "units": "K"}, "c", "d"], "quality": []}},
    ],
    ids=str,
)
def test_what_is_read_fits_the_schema(change, tmp_path):
    content = MAP | change
    parse_spec(content, base=tmp_path)
    assert faults_of(content) == set()


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"colour": "red"}, ""),
        ({"grid": {"resolution": 0}}, "grid.resolution"),
        ({"grid": {"crs": "EPSG:3035"}}, "grid"),
        ({"model": {"name": "bicubic", "samples": 0}}, "model.samples"),
        ({"consistency": "exact"}, "consistency"),
        ({"guide": {"layers": [{"collection": "sentinel-2-l2a"}]}}, "guide.layers.0"),
    ],
    ids=str,
)
def test_what_is_refused_does_not_fit_the_schema(change, place, tmp_path):
    content = MAP | change
    with pytest.raises(Exception, match=place or "colour"):
        parse_spec(content, base=tmp_path)
    assert faults_of(content) == {place}


def test_a_preset_of_ones_own_may_give_what_is_needed(tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"store": MAP["store"], "grid": MAP["grid"]}))
    filled = {key: value for key, value in MAP.items() if key not in ("store", "grid")}
    assert faults_of(filled) == {""}
    content = {**filled, "preset": "mine.yaml", "target": {"name": "agb"}}
    parse_spec(content, base=tmp_path)
    assert faults_of(content) == set()


def test_a_description_that_is_written_out_fits_the_schema(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text(yaml.safe_dump(MAP))
    assert faults_of(yaml.safe_load(read_spec(path).to_yaml())) == set()


def test_the_page_shows_what_presets_give():
    assert f"elevation: `{read_preset('elevation').content['target']['units']}`" in make_reference()
