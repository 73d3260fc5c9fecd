"""One training on several devices, started by ``torchrun``: each process has its share of every batch.

Patches do not depend on how many share them, and gradients are averaged over pixels, not over processes: a training
on two devices is that on one, beyond rounding. (Networks that normalise by statistics of the batch see those of their
share.) The first process alone validates and writes.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, nn
from torch import distributed as process_group
from torch.nn.parallel import DistributedDataParallel

from mapper.errors import InputError

_TIMEOUT = timedelta(hours=12)
"""Longest time that others wait for the first: it renders, reads and validates."""


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The processes of a training, seen from one of them."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """True in the process that validates and writes."""
        return self.rank == 0

    def share(self, batch: int) -> range:
        """Return the indices in a batch that are this process's.

        Raises:
            InputError: If there are more processes than patches in the batch.
        """
        if batch < self.world:
            raise InputError(f"a batch of {batch} cannot be shared by {self.world} processes")
        return range(self.rank, batch, self.world)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            process_group.barrier()

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.world > 1:
            values = values.clone()
            process_group.all_reduce(values)
        return values

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module, wrapped so that gradients become the mean over all processes."""
        return DistributedDataParallel(module, static_graph=True) if self.world > 1 else module

    @contextmanager
    def one_first(self) -> Iterator[None]:
        """Let the first process do something before all others do it: what it leaves on disk is there for them."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()


def is_first_process() -> bool:
    """Return whether this process is the one that writes, before and after it is connected."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def connect() -> Iterator[Ranks]:
    """Join the other processes that ``torchrun`` started; alone without it.

    Raises:
        InputError: If there are fewer GPUs than processes of this machine.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise InputError(f"process {local} of this machine has no GPU: there are {torch.cuda.device_count()}")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    process_group.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield Ranks(device=device, rank=process_group.get_rank(), world=world)
    finally:
        process_group.destroy_process_group()
