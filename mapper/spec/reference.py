"""The reference of every key of a MAP.yaml: its JSON schema, and a page in Markdown, both made from the types."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import yaml

from mapper.description import JsonDict, drop_titles
from mapper.presets import list_presets
from mapper.spec.map import MapSpec

_DEEPER = ("LayerSpec", "ModelOptions", "NamedBand", "EncodingSpec", "BandConsistency")
"""Types of what lies deeper than a section, in the order of the page."""
_LIMITS = {"exclusiveMinimum": "> ", "minimum": ">= ", "exclusiveMaximum": "< ", "maximum": "<= "}
_SUMMARY = "One map, described completely; what is left out is filled by its preset."
_NON_NEGATIVE = "True is short for ``bounds: [0, null]``, false for none."
_HEAD = """\
# Keys of MAP.yaml

`mapper schema --reference` wrote this page. `mapper schema` prints the same as a JSON schema,
[map.schema.json](map.schema.json): an editor that knows YAML schemas completes and checks the keys of a file that
begins with `# yaml-language-server: $schema=map.schema.json`.

`preset: NAME` fills what a description leaves out: mappings key by key, everything else is replaced. What presets give
goes before the default. Unknown keys are refused. Relative paths refer to the folder of the MAP.yaml.
"""


def build_schema() -> JsonDict:
    """Return the JSON schema of a MAP.yaml as it is written: with its short forms, and gaps that presets fill."""
    schema = _read_types()
    definitions = schema["$defs"]
    filled: JsonDict = {
        "required": [key for key in schema.pop("required") if not _list_given(key)],
        "properties": {
            key: {"required": [each for each in definitions[part].pop("required") if not _list_given(key, each)]}
            for key, part in _list_sections(schema)
            if "required" in definitions[part] and part != "CatalogSpec"  # layers have catalogues too
        },
    }
    preset_of_ones_own = {"required": ["preset"], "properties": {"preset": {"pattern": r"\.ya?ml$"}}}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Map of mapper"}
    return {**head, **schema, "if": {"not": preset_of_ones_own}, "then": filled}


def make_schema() -> str:
    """Return the schema as the text of ``docs/map.schema.json``."""
    return json.dumps(build_schema(), indent=2) + "\n"


def make_reference() -> str:
    """Return the page of every key as the text of ``docs/map-yaml.md``."""
    schema = _read_types()
    definitions = schema["$defs"]
    top = _format_section("top", schema, lambda name: [each for each in _list_given(name) if _is_plain(each[1])])
    sections = (
        _format_section(key, definitions[part], partial(_list_given, key)) for key, part in _list_sections(schema)
    )
    deeper = (_format_section(_name_part(part), definitions[part], lambda _: []) for part in _DEEPER)
    return "\n".join([_HEAD, top, *sections, *deeper])


def _read_types() -> JsonDict:
    """Return the schema of the types, with the forms that are read but not kept."""
    schema = MapSpec.model_json_schema()
    definitions = schema["$defs"]
    for part in (schema, *definitions.values()):
        drop_titles(part)
    schema["description"] = _SUMMARY
    for key, part in _list_sections(schema):
        schema["properties"][key]["description"] = f"{definitions[part]['description'].partition('.')[0]}."
    modes = definitions["ConsistencySpec"]["properties"]["mode"]["enum"]
    short = schema["properties"]["consistency"]
    short["anyOf"] = [{"enum": modes}, {"$ref": short.pop("$ref")}]
    target = definitions["TargetSpec"]["properties"]
    target["bands"]["anyOf"][1]["items"] = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/NamedBand"}]}
    target["non_negative"] = {"type": "boolean", "default": None, "description": _NON_NEGATIVE}
    return schema


def _list_sections(schema: JsonDict) -> Iterator[tuple[str, str]]:
    """Return key and type of each section of a map."""
    for key, content in schema["properties"].items():
        for option in (content, *content.get("anyOf", ())):
            if "$ref" in option:
                yield key, _read_reference(option)


def _list_given(*path: str) -> list[tuple[str, Any]]:
    """Return the presets that ship and give a key, each with the value that it gives."""
    found = []
    for preset in list_presets():
        value: Any = preset.content
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            found.append((preset.name, value))
    return found


def _is_plain(value: object) -> bool:
    return not isinstance(value, Mapping)


def _format_section(title: str, part: JsonDict, list_given: Callable[[str], list[tuple[str, Any]]]) -> str:
    needed = part.get("required", ())
    rows = [
        (
            f"`{name}`",
            _describe_type(content),
            "needed" if name in needed else f"`{_to_yaml(content.get('default', {}))}`",
            "; ".join(f"{preset}: `{_to_yaml(value)}`" for preset, value in list_given(name)),
            _describe(content["description"]),
        )
        for name, content in part["properties"].items()
    ]
    head = ("key", "type", "default", "preset", "meaning")
    given = head.index("preset")
    shown = [column for column in range(len(head)) if column != given or any(row[given] for row in rows)]
    cells = ([row[column] for column in shown] for row in (head, ["---"] * len(head), *rows))
    table = "\n".join(_format_row(row) for row in cells)
    return f"## {title}\n\n{_describe(part['description'])}\n\n{table}\n"


def _format_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _describe(text: str) -> str:
    """Return a docstring as Markdown: YAML's word for nothing, code in single quotes, one line for each paragraph."""
    plain = re.sub(r"\bNone\b", "null", text.replace("``", "`"))
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in plain.split("\n\n"))


def _describe_type(content: JsonDict) -> str:
    if "$ref" in content:
        part = _name_part(_read_reference(content))
        return f"[{part}](#{part})"
    if "anyOf" in content:
        return " or ".join(_describe_type(option) for option in content["anyOf"] if option.get("type") != "null")
    if "enum" in content or "const" in content:
        return ", ".join(f"`{value}`" for value in content.get("enum", [content.get("const")]))
    if content["type"] == "array":
        entries = content.get("prefixItems")
        return f"{len(entries)} numbers" if entries else f"list of {_describe_type(content['items'])}"
    if content["type"] == "object":
        values = content["additionalProperties"]
        return "mapping" if values is True else f"mapping of name to {_describe_type(values)}"
    limits = "".join(f", {sign}{content[word]:g}" for word, sign in _LIMITS.items() if word in content)
    pattern = f" like `{content['pattern']}`" if "pattern" in content and "format" not in content else ""
    return f"{content.get('format', content['type'])}{limits}{pattern}"


def _read_reference(content: JsonDict) -> str:
    return str(content["$ref"]).rsplit("/", 1)[-1]


def _name_part(part: str) -> str:
    """Return the title of the section on a type."""
    names = {"LayerSpec": "layer", "ModelOptions": "options", "NamedBand": "band", "BandConsistency": "tie"}
    return names.get(part, part.removesuffix("Spec").lower())


def _to_yaml(value: object) -> str:
    """Return a value as it stands in a YAML file, in one line."""
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).removesuffix("\n...\n").strip()
