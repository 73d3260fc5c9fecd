"""JSON schema of provider files, for editors and for people: the keys that may be written, and their meaning."""

import json
from typing import Any

from mapper.catalog.provider import Provider

JsonDict = dict[str, Any]

_EXTENDS = "Provider that this one is, but for what is written here: a name, or a path from this file."
_LIKE = "Collection of the same provider that this one is, but for what is written here."


def provider_schema() -> JsonDict:
    """Return the schema of a provider file as it is written: with inheritance, and bands as bare asset keys."""
    schema = Provider.model_json_schema()
    definitions: JsonDict = schema["$defs"]
    for definition in definitions.values():
        definition.pop("title", None)
        _drop_titles(definition)
    _drop_titles(schema)
    collection = definitions["CollectionRule"]
    collection["properties"]["like"] = {"type": "string", "description": _LIKE}
    bands = collection["properties"]["bands"]
    bands.pop("minProperties", None)
    bands["additionalProperties"] = {
        "anyOf": [
            {"type": "string", "description": "Key of the asset."},
            {"$ref": "#/$defs/BandRule"},
            {"type": "null", "description": "Removes an inherited band."},
        ]
    }
    schema["properties"]["extends"] = {"type": "string", "description": _EXTENDS}
    whole = {"anyOf": [{"required": collection.pop("required")}, {"required": ["like"]}]}
    alone = {
        "required": schema.pop("required"),
        "properties": {"collections": {"additionalProperties": whole}},
    }
    schema |= {"if": {"not": {"required": ["extends"]}}, "then": alone}
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Provider of mapper",
        "description": "One archive: where its items are, what their assets are called, how they are calibrated.",
    }
    return head | {key: value for key, value in schema.items() if key not in head}


def format_schema() -> str:
    """Return the schema as the text of ``provider.schema.json``."""
    return json.dumps(provider_schema(), indent=2) + "\n"


def _drop_titles(definition: JsonDict) -> None:
    """Leave out the titles that repeat the names of the fields."""
    for content in definition.get("properties", {}).values():
        content.pop("title", None)
