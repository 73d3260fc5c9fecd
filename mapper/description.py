"""The base of all descriptions in YAML: validation, relative paths, and errors in one line.

Numbers are finite unless a field says otherwise. A file is read with bounds on its size, nesting, aliases and numbers,
so that none takes more than a moment, and a key that stands twice is refused: one of the two would be lost.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
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
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from mapper.errors import SpecError

JsonDict = dict[str, Any]

_LARGEST_FILE = 2**20
"""Bytes of a description."""
_MOST_NODES = 20_000
"""Keys and values of a description, those behind aliases counted each time they are used."""
_DEEPEST = 64
_LARGEST_INTEGER = 2**63 - 1
_LONGEST_NUMBER = 64
_LARGEST_EXPONENT = 99
_NO_VALUE = (ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError)
"""Errors of PyYAML where a value is not what its tag says."""
_LONGEST_INPUT = 80
_MOST_FAULTS = 10


class Part(BaseModel):
    """Base of all that is described in YAML: unknown keys are refused, nothing changes once it is made.

    Validate the content of a file with the file's folder as ``context``; fields of the types :data:`FilePath` and
    :data:`Location` are then made absolute against it.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        arbitrary_types_allowed=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy with changes, validated; cached properties are not copied, since they may depend on what changes."""
        del deep  # parts are frozen all the way down
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self).model_validate(fields | dict(update or {}))


def make_absolute(path: Path, info: ValidationInfo) -> Path:
    """Return the path against the folder that is the context of validation; without a context as it is.

    Raises:
        ValueError: If it is empty, or no file can be called so.
    """
    if not str(path).isprintable():
        raise ValueError("a path holds no control characters")
    return Path(info.context) / path if info.context else path


def _locate(location: str, info: ValidationInfo) -> str:
    """Return a URL as it is, and a path against the folder that is the context of validation."""
    if not location.strip() or not location.isprintable():
        raise ValueError("expected a path or a URL")
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
    if isinstance(value, Fraction):
        return value
    text = str(value).strip()
    # as a fraction a number has as many digits as its exponent says
    exponent = re.search(r"[eE][+-]?(\d+)$", text[:_LONGEST_NUMBER])
    small = len(text) <= _LONGEST_NUMBER and (exponent is None or int(exponent[1]) <= _LARGEST_EXPONENT)
    try:
        return Fraction(text if small else "")
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError("expected a number or a fraction, such as 10, 0.5 or 1/11250") from error


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


class _Loader(yaml.SafeLoader):
    """Loader of YAML that refuses what no description needs and what would take very long, naming line and column."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = self._nodes = 0
        self._sizes: dict[int, int] = {}  # nodes of each node, those behind aliases counted every time

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        self._depth += 1
        self._nodes += 1
        if self._depth > _DEEPEST:
            raise yaml.YAMLError(f"it is nested deeper than {_DEEPEST}, from {event.start_mark}")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent) and id(node) not in self._sizes:
            raise yaml.YAMLError(f"*{event.anchor} stands for itself, {event.start_mark}")
        if node is not None and id(node) not in self._sizes:
            self._sizes[id(node)] = 1 + sum(self._sizes[id(child)] for child in _children(node))
            if max(self._sizes[id(node)], self._nodes) > _MOST_NODES:
                raise yaml.YAMLError(f"it has more than {_MOST_NODES} entries, from {event.start_mark}")
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name in seen:
                raise ComposerError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen |= {name} if name else set()
        return node

    def construct_int(self, node: yaml.ScalarNode) -> int:
        number = int(self._construct_number(node, self.construct_yaml_int))
        if abs(number) > _LARGEST_INTEGER:
            raise ConstructorError(None, None, f"{node.value} is too large a number", node.start_mark)
        return number

    def construct_float(self, node: yaml.ScalarNode) -> float:
        number = float(self._construct_number(node, self.construct_yaml_float))
        if math.isinf(number) and "inf" not in node.value.lower():
            raise ConstructorError(None, None, f"{node.value} is too large a number", node.start_mark)
        return number

    def construct_date(self, node: yaml.ScalarNode) -> object:
        try:
            return self.construct_yaml_timestamp(node)
        except (ValueError, AttributeError) as error:
            raise ConstructorError(None, None, f"{node.value!r} is no date", node.start_mark) from error

    def _construct_number(self, node: yaml.ScalarNode, construct: Callable[[yaml.ScalarNode], float]) -> float:
        if len(node.value) > _LONGEST_NUMBER:
            raise ConstructorError(None, None, f"a number of {len(node.value)} characters", node.start_mark)
        return construct(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_float)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _Loader.construct_date)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair


def read_yaml(path: Path | str, *, what: str = "") -> Any:
    """Read a YAML file and return its content.

    Args:
        path: Of the file.
        what: What it holds, to begin a message with.

    Raises:
        SpecError: If it cannot be read, is larger than any description, is not YAML, or has a key twice.
    """
    named = f"{what} {path}".lstrip()
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        raise SpecError(f"{named} cannot be read: {error}") from error
    try:
        return parse_yaml(content)
    except UnicodeDecodeError as error:
        raise SpecError(f"{named} cannot be read: {error}; is it text, and saved as UTF-8?") from error
    except yaml.YAMLError as error:
        reason = re.sub(r'in "<\w+ string>", ', "at ", " ".join(str(error).split()))
        raise SpecError(f"{named} is not YAML: {reason}") from error


def parse_yaml(content: bytes) -> Any:
    """Return the content of a YAML text.

    Raises:
        UnicodeDecodeError: If it is not in UTF-8.
        yaml.YAMLError: If it is larger than any description, is not YAML, or has a key twice.
    """
    if len(content) > _LARGEST_FILE:
        raise yaml.YAMLError(f"it is larger than {_LARGEST_FILE >> 20} MiB, which no description is")
    text = content.decode("utf-8-sig")
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        error.note = "indent with spaces, not with tabs" if r"'\t'" in str(error.problem) else error.note
        raise
    except _NO_VALUE as error:
        raise yaml.YAMLError(f"a value is not what its tag says: {str(error) or type(error).__name__}") from error


def drop_titles(schema: JsonDict) -> None:
    """Leave out of a JSON schema the titles that repeat the names of classes and fields."""
    schema.pop("title", None)
    for content in schema.get("properties", {}).values():
        content.pop("title", None)


def describe_faults(error: ValidationError, whole: str) -> str:
    """Return what is wrong with a description, and where, in one line; of very many faults the first."""
    faults = []
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"]) or whole
        text = {"extra_forbidden": "unknown key", "missing": "missing"}.get(fault["type"])
        if text is None:
            given = "" if isinstance(fault["input"], dict) else f" (got {_shorten(fault['input'])})"
            text = f"{fault['msg'].removeprefix('Value error, ')}{given}"
        faults.append(" ".join(f"{_cut(where)}: {text}".split()))
    more = len(faults) - _MOST_FAULTS
    return "; ".join([*faults[:_MOST_FAULTS], *([f"and {more} more"] if more > 0 else [])])


def _shorten(value: object) -> str:
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_INPUT else f"{text[: _LONGEST_INPUT - 3]}..."
