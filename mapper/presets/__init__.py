"""Presets: the defaults of a kind of map, one YAML file each.

A preset is a part of a MAP.yaml. A description says ``preset: NAME``, or the path of a file of one's own, and gives
what differs; mappings are merged key by key, everything else is replaced. A consistency that names its operator takes
the place of that of the preset.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from mapper.description import is_file_name, read_yaml
from mapper.errors import SpecError

DEFAULT = "biomass"
_TITLE = "title"
_EITHER = (("source", "variable", "bands"), ("target", "bounds", "non_negative"))
"""Pairs of keys of which one takes the place of the other."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The defaults of one kind of map."""

    name: str
    title: str
    """One line that says what is mapped."""
    content: Mapping[str, Any]
    """Sections of a MAP.yaml."""


def list_presets() -> tuple[Preset, ...]:
    """Return the presets that ship, by name."""
    files = (each for each in resources.files("mapper.presets").iterdir() if each.name.endswith(".yaml"))
    return tuple(read_preset(name) for name in sorted(each.name.removesuffix(".yaml") for each in files))


def read_preset(name: str, *, base: Path | None = None) -> Preset:
    """Read a preset.

    Args:
        name: Name of one that ships, or path of a YAML file.
        base: Directory that a relative path refers to; None takes the working directory.

    Raises:
        SpecError: If there is none of that name, or the file is no preset.
    """
    shipped = Path(str(resources.files("mapper.presets")))
    path = (base or Path()) / name if is_file_name(name) else shipped / f"{name}.yaml"
    if not is_file_name(name) and not path.is_file():
        names = ", ".join(sorted(each.stem for each in shipped.glob("*.yaml")))
        raise SpecError(f"preset {name!r} is unknown: expected one of {names}, or a YAML file of your own")
    content = read_yaml(path, what="preset")
    if not isinstance(content, dict):
        raise SpecError(f"preset {path} is a YAML mapping with sections of a map, got {type(content).__name__}")
    title = content.pop(_TITLE, path.stem)
    return Preset(name=name, title=str(title), content=content)


def fill_defaults(content: Mapping[str, Any], *, base: Path) -> dict[str, Any]:
    """Return a description with the defaults of its preset.

    Raises:
        SpecError: If there is no such preset.
    """
    name = content.get("preset", DEFAULT)
    if not isinstance(name, str):
        return dict(content)  # left for validation
    defaults = _narrow(read_preset(name, base=base).content, content)
    for section, one, other in _EITHER:
        given, default = content.get(section), defaults.get(section)
        if isinstance(given, Mapping) and isinstance(default, Mapping) and (one in given or other in given):
            defaults[section] = {key: value for key, value in default.items() if key not in (one, other)}
    tie = content.get("consistency")
    if isinstance(tie, Mapping) and "operator" in tie:  # another operator has keys of its own
        defaults.pop("consistency", None)
    return _merge(defaults, content)


def _narrow(defaults: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    """Return defaults without the ties of source bands of their own that a description leaves out."""
    given, own, tie = content.get("source"), defaults.get("source"), defaults.get("consistency")
    asked = given.get("bands") if isinstance(given, Mapping) else None
    if not (isinstance(asked, list | tuple) and isinstance(own, Mapping) and isinstance(tie, Mapping)):
        return dict(defaults)
    left_out = set(own.get("bands", ())) - {name for name in asked if isinstance(name, str)}
    ties = {name: each for name, each in tie.get("bands", {}).items() if name not in left_out}
    return {**defaults, "consistency": {**tie, "bands": ties}}


def _merge(defaults: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(defaults)
    for key, value in content.items():
        default = merged.get(key)
        both = isinstance(default, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(default, value) if both else value  # type: ignore[arg-type]
    return merged
