"""The folder of a training: all that it needs to resume after an interruption, without pickles.

``checkpoint.json`` says what is trained and how far it is, and names the ``.safetensors`` file that holds the weights,
their running mean and the moments of the optimiser. It is replaced as a whole once that file is on disk: whenever the
process dies, one of two complete states is there. Random numbers need no state; see :mod:`mapper.training.sampler`.
"""

import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mapper.errors import InputError

_STATE = "checkpoint.json"
_FOLDER = ".run"
_RESULTS = (".safetensors", ".json")
"""Ends of the names of weights and card, which stand beside the folder."""
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A training after so many steps."""

    step: int
    tensors: Mapping[str, Tensor]
    progress: Mapping[str, Any] = field(default_factory=dict)
    """Curves and seconds, as JSON can hold them."""


class RunFolder:
    """The folder of one training.

    Args:
        path: Made when a training begins.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.description: Mapping[str, Any] = {}

    @property
    def weights(self) -> str:
        """Sha256 of the weights that the training ended with; empty while it has not."""
        return str(self._read().get("weights", ""))

    def differences(self, description: Mapping[str, Any]) -> list[str]:
        """Return the entries of a description that differ from those that the training began with, a line for each."""
        state = self._read()
        if not state:
            return []
        before = dict(_flatten({key: state["description"].get(key) for key in description}))
        now = dict(_flatten(json.loads(json.dumps(description))))
        keys = sorted(before.keys() | now.keys())
        return [
            f"{key} was {_show(before, key)}, is {_show(now, key)}" for key in keys if before.get(key) != now.get(key)
        ]

    def begin(self, description: Mapping[str, Any]) -> str | None:
        """Begin a training, or resume it; what is there of another training gets another name, and stays.

        Args:
            description: All that decides the result.

        Returns:
            Name that a finished training of another description, or weights from elsewhere, have from now on; None
            where nothing stood in the way.

        Raises:
            InputError: If an unfinished training was begun by another description, or nothing can be written here.
        """
        self.description = description
        self._check_writable()
        changed = self.differences(description)
        if changed and not self.weights:
            more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
            raise InputError(
                f"training in {self.path} was begun otherwise: {'; '.join(changed[:_SHOWN])}{more}; change it back to "
                f"go on, or delete the folder or choose another name to begin anew"
            )
        if changed:
            return self._set_aside(_FOLDER, *_RESULTS)
        weights = self.path.with_name(f"{self._name}{_RESULTS[0]}")
        if weights.is_file() and _hash_file(weights) != self.weights:
            return self._set_aside(*_RESULTS)
        return None

    def _check_writable(self) -> None:
        """Check that the folder takes files: it is long until the first is written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise InputError(f"a training cannot be written to {self.path}: {error.strerror or error}") from error

    @property
    def _name(self) -> str:
        return self.path.name.removesuffix(_FOLDER)

    def _set_aside(self, *suffixes: str) -> str:
        """Rename what bears the name of this training; returns a name that was free."""
        names = (f"{self._name}.before-{number}" for number in itertools.count(1))
        free = next(name for name in names if not any(self.path.with_name(name + end).exists() for end in suffixes))
        for end in suffixes:
            found = self.path.with_name(self._name + end)
            if found.exists():
                found.rename(found.with_name(free + end))
        return free

    def load(self) -> Checkpoint | None:
        """Read what was saved last; None if nothing was.

        Raises:
            InputError: If it is damaged.
        """
        state = self._read()
        if not state:
            return None
        path = self.path / str(state["tensors"])
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != state["sha256"]:
                raise InputError(f"checkpoint {path} was changed; delete {self.path} to begin anew")
            tensors = load(content)
        except (OSError, SafetensorError) as error:
            raise InputError(f"checkpoint {path} cannot be read: {error}; delete {self.path} to begin anew") from error
        return Checkpoint(step=state["step"], tensors=tensors, progress=state["facts"])

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace what was saved last."""
        self.path.mkdir(parents=True, exist_ok=True)
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()})
        name = f"step-{checkpoint.step:07d}.safetensors"
        _replace(self.path / name, content)
        self._write(
            {
                "step": checkpoint.step,
                "tensors": name,
                "sha256": hashlib.sha256(content).hexdigest(),
                "weights": "",
                "description": self.description,
                "facts": checkpoint.progress,
            }
        )
        for old in self.path.glob("step-*.safetensors"):
            if old.name != name:
                old.unlink()

    def finish(self, weights: str) -> None:
        """Note that the training ended with weights of this sha256."""
        self._write(self._read() | {"weights": weights})

    def _read(self) -> dict[str, Any]:
        path = self.path / _STATE
        try:
            state: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"checkpoint {path} cannot be read: {error}; delete {self.path} to begin anew") from error
        known = isinstance(state, dict) and {"step", "tensors", "sha256", "description", "facts"} <= state.keys()
        if not known or not isinstance(state["description"], dict):
            raise InputError(f"checkpoint {path} is not one; delete {self.path} to begin anew")
        return state

    def _write(self, state: Mapping[str, Any]) -> None:
        _replace(self.path / _STATE, (json.dumps(state, indent=1) + "\n").encode())


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that it is there as a whole or not at all."""
    unfinished = path.with_name(f"{path.name}.tmp")
    with unfinished.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(path)


def _hash_file(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flatten(content: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict) and content:
        for name, value in content.items():
            yield from _flatten(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, content


def _show(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "not given"
