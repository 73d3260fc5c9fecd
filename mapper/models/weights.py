"""Models from files and to files: safetensors and a card. Pickles are never loaded."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from mapper.errors import WeightsError
from mapper.models.architectures import build_network
from mapper.models.card import WEIGHTLESS, Card, read_card, weights_path
from mapper.models.contract import Contract
from mapper.models.interpolation import Interpolation
from mapper.models.model import GuidedModel, Model, Network
from mapper.spec import ModelSpec


def load_model(spec: ModelSpec) -> Model:
    """Load a model, ready to predict.

    Raises:
        WeightsError: If weights or card are missing, changed, or do not fit the architecture.
    """
    card = read_card(spec)
    if card.contract.model in WEIGHTLESS:
        return Interpolation(card).eval()
    path = weights_path(spec)
    network = _build(card.contract, card.options)
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"weights {path} do not fit {card.contract.model} {dict(card.options)}: {reason}") from error
    return GuidedModel(network, card.contract, digest=card.digest).eval()


def save_model(
    model: GuidedModel, path: Path, *, options: Mapping[str, Any], training: Mapping[str, Any] | None = None
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
    path.write_bytes(content)
    path.with_suffix(".json").write_text(card.to_json())
    return card


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable weights of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def _build(contract: Contract, options: Mapping[str, Any]) -> Network:
    if contract.scale is None:
        raise WeightsError(f"the card of {contract.model} names no scale")
    return build_network(contract.model, guide_channels=len(contract.guide), scale=contract.scale, options=options)
