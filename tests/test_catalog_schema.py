"""The schema of provider files: as the code reads them, and it ships."""

import json
import re
from pathlib import Path

import pytest
import yaml

from mapper.catalog.provider import format_schema, load_provider, provider_names, provider_schema

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
