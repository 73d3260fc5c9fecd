"""The base of all descriptions in YAML: validation, relative paths, and errors in one line."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)

from mapper.errors import SpecError

JsonDict = dict[str, Any]


class Part(BaseModel):
    """Base of all that is described in YAML: unknown keys are refused, nothing changes once it is made.

    Validate the content of a file with the file's folder as ``context``; fields of the types :data:`FilePath` and
    :data:`Location` are then made absolute against it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, use_attribute_docstrings=True)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy with changes, validated; cached properties are not copied, since they may depend on what changes."""
        del deep  # parts are frozen all the way down
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_validate(fields | dict(update or {}))


def make_absolute(path: Path, info: ValidationInfo) -> Path:
    """Return the path against the folder that is the context of validation; without a context as it is."""
    return Path(info.context) / path if info.context else path


def _locate(location: str, info: ValidationInfo) -> str:
    """Return a URL as it is, and a path against the folder that is the context of validation."""
    return location if "://" in location or location.startswith("file:") else str(make_absolute(Path(location), info))


FilePath = Annotated[Path, AfterValidator(make_absolute)]
"""A path; relative ones refer to the folder of the description."""
Location = Annotated[str, AfterValidator(_locate)]
"""A path or a URL; relative paths refer to the folder of the description, what has ``://`` stays as it is."""


def is_file_name(name: str) -> bool:
    """Return whether a name is that of a YAML file rather than of something that ships."""
    return name.endswith((".yaml", ".yml"))


def _locate_file(name: str, info: ValidationInfo) -> str:
    return _locate(name, info) if is_file_name(name) else name


def _to_fraction(value: object) -> Fraction:
    return value if isinstance(value, Fraction) else Fraction(str(value))


NameOrFile = Annotated[str, AfterValidator(_locate_file)]
"""A name, or the path of a YAML file; relative paths refer to the folder of the description."""
_POSITIVE: JsonDict = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "format": "fraction", "pattern": r"^[0-9]+(\.[0-9]+|/[0-9]+)?$"},
    ]
}
Fractional = Annotated[
    Fraction, BeforeValidator(_to_fraction), PlainSerializer(str), Field(gt=0), WithJsonSchema(_POSITIVE)
]
"""A positive number, exact: an integer, a decimal or a fraction such as ``1/11250``."""


def read_yaml(path: Path | str, *, what: str = "") -> Any:
    """Read a YAML file and return its content.

    Args:
        path: Of the file.
        what: What it holds, to begin a message with.

    Raises:
        SpecError: If it cannot be read, or is not YAML.
    """
    named = f"{what} {path}".lstrip()
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{named} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise SpecError(f"{named} is not YAML: {' '.join(str(error).split())}") from error


def drop_titles(schema: JsonDict) -> None:
    """Leave out of a JSON schema the titles that repeat the names of classes and fields."""
    schema.pop("title", None)
    for content in schema.get("properties", {}).values():
        content.pop("title", None)


def describe_faults(error: ValidationError, whole: str) -> str:
    """Return what is wrong with a description, and where, in one line."""
    faults = []
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"]) or whole
        text = {"extra_forbidden": "unknown key", "missing": "missing"}.get(fault["type"])
        if text is None:
            given = "" if isinstance(fault["input"], dict) else f" (got {fault['input']!r})"
            text = f"{fault['msg'].removeprefix('Value error, ')}{given}"
        faults.append(f"{where}: {text}")
    return "; ".join(faults)
