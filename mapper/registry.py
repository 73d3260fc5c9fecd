"""Objects by name that other packages can add to: those of this package, and entry points of theirs."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeGuard, TypeVar, get_origin

from mapper.errors import InputError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Objects by name, in order: those of this package, then those that installed packages offer.

    A package adds an object as an entry point, in its ``pyproject.toml``::

        [project.entry-points."mapper.metrics"]
        slope_rmse = "their_package.metrics:SlopeRmse"

    Entry points are imported when the registry is first read, not before.

    Args:
        group: Entry point group, for example ``mapper.metrics``.
        own: Objects of this package.
        kind: Class that an object must be an instance of; ``type[...]`` for one that must be a subclass.
    """

    def __init__(self, group: str, own: Mapping[str, T], *, kind: Any = object) -> None:
        self.group = group
        self._own = dict(own)
        self._kind = kind

    def __getitem__(self, name: str) -> T:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @cached_property
    def _entries(self) -> dict[str, T]:
        """Read all entries.

        Raises:
            InputError: If an entry point cannot be imported, is of another kind, or takes a name that is taken.
        """
        entries = dict(self._own)
        for point in sorted(entry_points(group=self.group), key=lambda point: point.name):
            if point.name in entries:
                raise InputError(f"{_describe(point)} is named like another entry of {self.group}: rename it")
            entries[point.name] = self._load(point)
        return entries

    def _load(self, point: EntryPoint) -> T:
        try:
            loaded = point.load()
        except Exception as error:
            text = " ".join(str(error).split())
            raise InputError(
                f"{_describe(point)} cannot be imported ({type(error).__name__}: {text}): mend or uninstall the package"
            ) from error
        if not self._accepts(loaded):
            raise InputError(f"{_describe(point)} is {loaded!r}, expected {self._kind}: mend or uninstall the package")
        return loaded

    def _accepts(self, loaded: object) -> TypeGuard[T]:
        if get_origin(self._kind) is type:
            return isinstance(loaded, type) and issubclass(loaded, self._kind.__args__[0])
        return isinstance(loaded, self._kind)


def _describe(point: EntryPoint) -> str:
    package = point.dist.name if point.dist else "an unknown package"
    return f"entry point {point.group}:{point.name} ({point.value}) of {package}"
