"""Packages that can be called like the function of their name.

``mapper.plan``, ``mapper.run`` and ``mapper.serve`` are folders of this project and functions of its public face.
Importing a module below a folder makes Python set the folder as an attribute of ``mapper``, in place of whatever had
its name. So the folder itself can be called: ``mapper.run("map.yaml")`` and ``import mapper.run.runner`` both work,
whatever was imported before.
"""

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

_FACE = "mapper.api"


class CallablePackage(ModuleType):
    """A package that forwards calls to the public function of its name."""

    @property
    def __signature__(self) -> inspect.Signature:
        """Signature of the function, for completion and help."""
        return inspect.signature(_find_function(self))

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the public function of this name."""
        return _find_function(self)(*arguments, **options)

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        # cloudpickle ships modules by name, but knows them by their exact type
        return import_module, (self.__name__,)


def make_callable(package: str) -> None:
    """Let a package that is being imported be called."""
    sys.modules[package].__class__ = CallablePackage


def _find_function(package: ModuleType) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(import_module(_FACE), package.__name__.rpartition(".")[2])
    return function
