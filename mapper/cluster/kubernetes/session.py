"""Session of a pool on Kubernetes: brought up if it does not exist, and taken down again at the end.

A pool that was up before stays up. What is brought up here is taken down however the need for it ends: when it is over,
fails, is interrupted, or is told to stop (SIGTERM, SIGHUP). Only a killed process (SIGKILL) leaves it up.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

from mapper.cluster.kubernetes.api import open_api
from mapper.cluster.kubernetes.connect import connect_scheduler
from mapper.cluster.kubernetes.launch import Launch, Notify
from mapper.cluster.settings import ClusterSettings
from mapper.errors import ClusterError, SpecError

KUBERNETES = "kubernetes"
"""Name of a cluster on Kubernetes; ``kubernetes:POOL`` names one pool of it."""
UP_SECONDS = 900.0
"""Seconds until all pods are ready by default: nodes may have to be bought first."""
DOWN_SECONDS = 300.0
_STOPPING = (signal.SIGTERM, signal.SIGHUP)


def ignore_progress(text: str) -> None:
    """Discard a message."""
    del text


@dataclass(frozen=True, kw_only=True)
class KubernetesOptions:
    """Options of a session of a cluster on Kubernetes."""

    settings: ClusterSettings = field(default_factory=ClusterSettings)
    keep: bool = False
    """True where the objects that a session brings up stay at its end."""
    wait: float = UP_SECONDS
    """Seconds until all pods must be ready."""
    notify: Notify = ignore_progress
    """Callback for messages of progress."""


def find_pool(word: str, settings: ClusterSettings) -> str:
    """Return the pool that ``kubernetes`` or ``kubernetes:POOL`` names; without a name the driver's.

    Raises:
        SpecError: If there is no such pool.
    """
    pool = word.removeprefix(KUBERNETES).removeprefix(":") or settings.driver_pool
    if pool not in settings.pools:
        raise SpecError(f"{word}: there is no pool {pool}, the pools are {', '.join(settings.pools)}")
    return pool


@contextmanager
def open_pool(pool: str, options: KubernetesOptions) -> Iterator[str]:
    """Yield the address of the scheduler of a pool, which is up meanwhile.

    Raises:
        ClusterError: If it does not come up, or cannot be taken down.
    """
    with _exit_on_signals(), open_api(options.settings.namespace) as api:
        launch = Launch(api, options.settings, options.notify)
        try:
            launch.bring_up([pool])
            launch.wait([pool], options.wait)
            with connect_scheduler(api, options.settings, pool) as address:
                options.notify(f"pool {pool}: the scheduler answers at {address}")
                yield address
        except BaseException:
            with suppress(ClusterError):  # it is reported; the first error is raised
                _finish(launch, pool, options)
            raise
        _finish(launch, pool, options)


def _finish(launch: Launch, pool: str, options: KubernetesOptions) -> None:
    """Take down the objects that were made here, but for the namespace."""
    ours = [each for each in launch.made if each["kind"] != "Namespace"]
    if not any(each["kind"] == "DaskCluster" for each in ours):
        return  # it was up before, and others may use it
    if options.keep:
        options.notify(f"pool {pool} stays up: `mapper cluster down` ends it")
        return
    try:
        launch.take_down(ours, DOWN_SECONDS)
    except BaseException as error:
        reason = str(error) or type(error).__name__
        options.notify(f"pool {pool} may still be up, and cost money: `mapper cluster down` ends it ({reason})")
        raise


@contextmanager
def _exit_on_signals() -> Iterator[None]:
    """Turn a signal to stop into an exception, so that what is up is taken down; ignored signals stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    taken = [number for number in _STOPPING if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
