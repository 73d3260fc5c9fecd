"""Gradients through what networks prepare without them: training takes it as given, an explanation follows it.

What is prepared, dates laid under the anchor and back-projected, has no weights: to follow it in training would cost
memory and time and change nothing. Who asks what a pixel is made from has to get through it to the inputs.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import torch
from torch import Tensor

_followed: ContextVar[bool] = ContextVar("followed", default=False)


@contextmanager
def follow_gradients() -> Iterator[None]:
    """Follow gradients to the inputs of a model until the end, through what it prepares too."""
    token = _followed.set(True)
    try:
        with torch.enable_grad():
            yield
    finally:
        _followed.reset(token)


def prepare_only() -> AbstractContextManager[object]:
    """Return a context in which things are computed without gradients, unless they are followed to the inputs."""
    return nullcontext() if _followed.get() else torch.no_grad()


def hold(values: Tensor) -> Tensor:
    """Return values as given for what comes after, unless gradients are followed to the inputs."""
    return values if _followed.get() else values.detach()
