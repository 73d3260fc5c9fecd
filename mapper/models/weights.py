"""Models from files and to files: safetensors and a card. Pickles are never loaded."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import nn
from torch.overrides import TorchFunctionMode

from mapper.errors import MapperError, WeightsError
from mapper.models.architectures import build_network
from mapper.models.burst import BackProjection
from mapper.models.card import BACK_PROJECTION, BURST, WEIGHTLESS, Card, read_card, weights_path
from mapper.models.contract import Contract
from mapper.models.interpolation import Interpolation
from mapper.models.model import Model, Network, TrainedModel
from mapper.models.stack_model import adapt
from mapper.spec import ModelSpec

_DRAWING = {"normal_", "uniform_", "random_", "bernoulli_", "exponential_", "log_normal_", "cauchy_", "geometric_"}
_SOME_SCALE = 10
_SHOWN = 3
"""Names of tensors in a message."""


def load_model(spec: ModelSpec) -> Model:
    """Load a model, ready to predict.

    Raises:
        WeightsError: If weights or card are missing, changed, or do not fit the architecture.
    """
    card = read_card(spec)
    if card.contract.model in WEIGHTLESS:
        return (BackProjection if card.contract.model in (BACK_PROJECTION, BURST) else Interpolation)(card).eval()
    path = weights_path(spec)
    architecture = f"{card.contract.model} {dict(card.options)}"
    try:
        _check_shapes(card.contract, card.options, path)
        network = _build(card.contract, card.options)
        tensors = load_file(path)
        network.load_state_dict(tensors)
    except MapperError:
        raise
    except Exception as error:  # whatever a network says of options that were not made for it
        reason = " ".join(str(error).split()) or type(error).__name__
        raise WeightsError(f"weights {path} do not fit {architecture}: {reason}") from error
    unknown = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if unknown:
        raise WeightsError(f"weights {path} hold numbers that are not finite, in {', '.join(unknown[:_SHOWN])}")
    return adapt(network, card.contract, digest=card.digest).eval()


def save_model(
    model: TrainedModel, path: Path, *, options: Mapping[str, Any], training: Mapping[str, Any] | None = None
) -> Card:
    """Write weights, and the card beside them.

    Args:
        model: What was trained.
        path: ``<name>.safetensors``; its folder is made.
        options: How the architecture was configured.
        training: Facts for the card.
    """
    unsealed = Card(name=path.stem, contract=model.contract, options=options)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.network.state_dict().items()}
    content = save(tensors, metadata={"seal": unsealed.seal})
    card = Card(
        name=path.stem,
        contract=model.contract,
        options=dict(options),
        parameters=count_parameters(model),
        sha256=hashlib.sha256(content).hexdigest(),
        framework=f"torch=={torch.__version__}",
        training=dict(training or {}),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, content)
    _replace(path.with_suffix(".json"), card.to_json().encode())
    return card


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that it is there as a whole or not at all."""
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable weights of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


class _Unfilled(TorchFunctionMode):
    """Mode in which nothing draws random numbers: tensors without memory need none, and take seconds to pretend."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") in _DRAWING:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _check_shapes(contract: Contract, options: Mapping[str, Any], path: Path) -> None:
    """Check that a file holds the tensors of a network, before memory is taken for either.

    Raises:
        WeightsError: If names or shapes differ.
    """
    try:
        with torch.device("meta"), _Unfilled():
            planned = _build(contract, options).state_dict()
    except RuntimeError:  # a network of another package that looks at its numbers while it is made
        return
    wanted = {name: list(tensor.shape) for name, tensor in planned.items()}
    with safe_open(path, "pt") as file:
        found = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if differing:
        name = differing[0]
        raise WeightsError(
            f"weights {path} do not fit {contract.model} {dict(options)}: {len(differing)} tensors differ, {name} is "
            f"{found.get(name, 'missing')}, expected {wanted.get(name, 'none of that name')}"
        )


def _build(contract: Contract, options: Mapping[str, Any]) -> Network:
    """Return the network of a card; one of any scale is made for some scale.

    Raises:
        WeightsError: If the card names no scale, and the network needs one.
    """
    scale = contract.scale or _SOME_SCALE
    network = build_network(contract.model, guide_channels=len(contract.guide), scale=scale, options=options)
    if contract.scale is None and not network.any_scale:
        raise WeightsError(f"the card of {contract.model} names no scale")
    return network
