"""Types that executors take and give back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[T, R]):
    """Outcome of one input: a result, or an error."""

    input: T
    result: R | None = None
    error: BaseException | None = None
    attempts: int = 1
    """Submissions of the input; more than 1 after the loss of a worker, or a worker that did not answer."""


@dataclass(frozen=True)
class Prepared(Generic[T, R]):
    """A function, and what has to be done in every process that calls it before it is called there.

    Executors take care of that: the preparation is run in every process before its first call, and again where a
    process takes the place of another. It must do no harm when it is run again. If it raises, no input is given out.
    """

    function: Callable[[T], R]
    preparation: Callable[[], None]

    def __call__(self, value: T) -> R:
        """Call the function."""
        return self.function(value)


def prepare(function: Callable[[Any], Any]) -> None:
    """Do what a function wants to be done before it is called."""
    if isinstance(function, Prepared):
        function.preparation()
