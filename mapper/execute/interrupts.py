"""Ctrl-C and SIGTERM, taken where nothing is half done.

A signal may arrive between merging a tile and noting its record. So it is only remembered, and answered where the run
waits for outcomes or asks; a second signal acts as it would have without us.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self, TypeVar

_T = TypeVar("_T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The run was asked to stop; like KeyboardInterrupt no error, and not to be caught as one."""


class Interrupts:
    """Holds signals back while it is open; in threads other than the main one it does nothing."""

    def __init__(self) -> None:
        self._previous: dict[signal.Signals, Any] = {}
        self._received: str = ""
        self._waiting = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def wait(self, function: Callable[[], _T]) -> _T:
        """Call a function that may be interrupted at any point.

        Raises:
            Interrupted: When a signal arrives meanwhile.
        """
        self._waiting = True
        try:
            return function()
        finally:
            self._waiting = False

    def check(self) -> None:
        """Answer a signal that has arrived.

        Raises:
            Interrupted: If one has.
        """
        if self._received:
            raise Interrupted(self._received)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self._received = f"interrupted by {signal.Signals(number).name}"
        self._restore()
        if self._waiting:
            raise Interrupted(self._received)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
