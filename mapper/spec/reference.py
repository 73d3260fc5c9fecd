"""The reference of all keys of MAP.yaml, in Markdown, and its JSON schema; both are made from the model."""

import json
import re
from collections.abc import Iterator
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mapper.description import Part
from mapper.spec.map import MapSpec
from mapper.spec.target import Mode

_FILLED = ("grid", "source", "target", "consistency", "guide")
"""Sections that a preset may give whole."""
_WORDS = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    date: "date",
    Fraction: "number or fraction",
}


def make_schema() -> str:
    """Return the JSON schema of MAP.yaml as text, with short forms; no key is required that presets fill."""
    schema = MapSpec.model_json_schema()
    parts = schema["$defs"]
    schema["title"] = "MAP.yaml"
    schema["required"] = [name for name in schema["required"] if name not in _FILLED]
    for name in ("GridSpec", "SourceSpec", "TargetSpec"):
        parts[name].pop("required", None)
    parts["TargetSpec"]["properties"]["non_negative"] = {
        "type": "boolean",
        "description": "Short for bounds [0, null].",
    }
    for choice in parts["TargetSpec"]["properties"]["bands"]["anyOf"]:
        if "items" in choice:
            choice["items"] = {"anyOf": [choice["items"], {"type": "string"}]}
    words = {"enum": list(get_args(Mode))}
    schema["properties"]["consistency"] = {"anyOf": [words, {"$ref": "#/$defs/ConsistencySpec"}], "default": "soft"}
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def make_reference() -> str:
    """Return the reference of MAP.yaml as Markdown: a table of keys for each section."""
    sections = [_describe_part(title, part) for title, part in _walk("", MapSpec)]
    head = (
        "# Keys of MAP.yaml\n\nMade by `mapper schema --reference` from the model that validates a description. "
        "Relative paths refer to the folder\nof the file. What a description leaves out is taken from its preset "
        "(`mapper presets NAME`), then from the defaults below.\n"
    )
    return "\n".join([head, *sections])


def _walk(title: str, part: type[Part]) -> Iterator[tuple[str, type[Part]]]:
    """Yield the sections below a part, itself first, by their path."""
    yield title, part
    for name, field in part.model_fields.items():
        path = f"{title}.{name}" if title else name
        for kind, many in _parts_of(field.annotation):
            yield from _walk(f"{path}[]" if many else path, kind)


def _parts_of(annotation: Any, *, many: bool = False) -> Iterator[tuple[type[Part], bool]]:
    """Yield the parts that a type holds, and whether as one of many."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation, many
        return
    listed = many or get_origin(annotation) in (tuple, dict)
    for inner in get_args(annotation):
        yield from _parts_of(inner, many=listed)


def _describe_part(title: str, part: type[Part]) -> str:
    about = _flatten(part.__doc__ or "")
    rows = [
        f"| `{name}` | {_name_type(field.annotation)} | {_name_default(field)} | {_explain(field)} |"
        for name, field in part.model_fields.items()
    ]
    heading = f"## {title}" if title else "## The whole"
    return "\n".join([heading, "", about, "", "| key | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def _name_type(annotation: Any) -> str:
    """Return a type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is not None:
        return _name_generic(origin, inner)
    if isinstance(annotation, type) and issubclass(annotation, Part):
        return "mapping"
    return _WORDS.get(annotation, "anything")


def _name_generic(origin: Any, inner: tuple[Any, ...]) -> str:
    if origin is Annotated:
        return _name_type(inner[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin is dict:
        return f"mapping of {_name_type(inner[1])}"
    if origin is tuple and Ellipsis in inner:
        return f"list of {_name_type(inner[0])}"
    if origin is tuple:
        return f"[{', '.join(_name_type(each) for each in inner)}]"
    names = [_name_type(each) for each in inner if each is not type(None)]
    return " or ".join(names)


def _name_default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "" if field.default_factory else "required"
    if field.default in (None, (), "") or isinstance(field.default, Part):
        return ""
    return f"`{json.dumps(field.default, default=str)}`"


def _explain(field: FieldInfo) -> str:
    """Return what a key means; of a section, the first sentence of what it is."""
    sections = [part for part, _ in _parts_of(field.annotation)]
    about = field.description or (sections[0].__doc__ or "" if sections else "")
    return _flatten(about if field.description else f"{about.partition('.')[0]}.")


def _flatten(text: str) -> str:
    plain = re.sub(r":\w+:`~?([\w.]+)`", r"`\1`", " ".join(text.split()))
    return plain.replace("``", "`").replace("|", "&#124;")
