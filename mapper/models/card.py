"""The card of a model: its contract, the checksum of its weights, and how it was trained. Imports no torch.

A card is JSON beside the weights, in the field names of STAC's machine learning model extension (``mlm:``), so that it
can be published as it is. The weights carry the digest of contract and options in their header, and the card carries
the sha256 of the weights: neither can be changed without the other noticing.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from mapper.errors import WeightsError
from mapper.models.contract import FILL_STEPS, Contract, GuideBand
from mapper.spec import ModelSpec

INTERPOLATIONS: Mapping[str, int] = {"nearest": 0, "bilinear": 1, "bicubic": 2}
"""Models without parameters: name to radius in source pixels."""

PER_SCENE = ("pixtransform",)
"""Methods that are fitted to each scene anew: tiles of one map would not meet, so they are compared, never run."""

_EXTENSIONS = (
    "https://stac-extensions.github.io/mlm/v1.4.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)
_HEADER_LIMIT = 10_000_000
_SHA256_MULTIHASH = "1220"


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of a model without running it."""

    name: str
    contract: Contract
    options: Mapping[str, Any] = field(default_factory=dict)
    """How the architecture was configured, for example ``{"width": 16}``."""
    parameters: int = 0
    sha256: str = ""
    """Of the weights file; empty for a model without parameters."""
    framework: str = ""
    """``torch==version`` at training."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Facts: data and their digests, seed, steps, loss, scores."""

    @property
    def digest(self) -> str:
        """What identifies the model: sha256 of its weights, or of its contract if it has none."""
        return self.sha256 or self.contract.digest

    @property
    def seal(self) -> str:
        """Sha256 of contract and options, as written into the header of the weights."""
        content = json.dumps({"contract": asdict(self.contract), "options": dict(self.options)}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def to_json(self) -> str:
        """The card as a STAC item fragment."""
        properties = {
            "mlm:name": self.name,
            "mlm:architecture": self.contract.model,
            "mlm:tasks": ["super-resolution", "regression"],
            "mlm:framework": "PyTorch",
            "mlm:framework_version": self.framework.partition("==")[2],
            "mlm:total_parameters": self.parameters,
            "mlm:hyperparameters": dict(self.options),
            "mlm:input": _describe_inputs(self.contract),
            "mlm:output": _describe_outputs(self.contract),
            "mapper:contract": asdict(self.contract),
            "mapper:training": dict(self.training),
        }
        weights = {
            "href": f"./{self.name}.safetensors",
            "roles": ["mlm:model", "mlm:weights"],
            "mlm:artifact_type": "safetensors",
            "file:checksum": _SHA256_MULTIHASH + self.sha256,
        }
        content = {"stac_extensions": _EXTENSIONS, "properties": properties, "assets": {"weights": weights}}
        return json.dumps(content, indent=2) + "\n"


def parse_card(text: str) -> Card:
    """Read a card from JSON.

    Raises:
        WeightsError: If it is not a card.
    """
    try:
        content = json.loads(text)
        properties = content["properties"]
        contract = properties["mapper:contract"]
        guide = tuple(GuideBand(**band) for band in contract["guide"])
        return Card(
            name=properties["mlm:name"],
            contract=Contract(**(contract | {"guide": guide})),
            options=properties["mlm:hyperparameters"],
            parameters=properties["mlm:total_parameters"],
            sha256=content["assets"]["weights"]["file:checksum"].removeprefix(_SHA256_MULTIHASH),
            framework=f"torch=={properties['mlm:framework_version']}",
            training=properties["mapper:training"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"not a model card: {type(error).__name__} {error}") from error


def read_card(model: ModelSpec) -> Card:
    """The card of a model, its weights checked against it.

    Raises:
        WeightsError: If the name is unknown, a file is missing, or weights and card do not belong together.
    """
    if model.name in PER_SCENE:
        raise WeightsError(
            f"model {model.name} is fitted to each scene anew, so that tiles would not meet: no map is made with it; "
            f"a suite can compare it (per_scene: {model.name})"
        )
    if model.weights is None and model.name in INTERPOLATIONS:
        return _interpolation_card(model.name)
    weights = weights_path(model)
    path = weights.with_suffix(".json")
    try:
        card = parse_card(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"model {model.name}: no card at {path} ({error})") from error
    except WeightsError as error:
        raise WeightsError(f"model {model.name}: {path} is {error}") from error
    check_weights(weights, card)
    return card


def weights_path(model: ModelSpec) -> Path:
    """Where the weights of a model are.

    Raises:
        WeightsError: If the name is unknown or the file is missing.
    """
    path = model.weights or _shipped() / f"{model.name}.safetensors"
    if path.is_file():
        return path
    if model.weights is None:
        raise WeightsError(f"unknown model {model.name!r}: mapper ships {', '.join(model_names())}; or give weights")
    raise WeightsError(f"model {model.name}: no weights at {path}")


def check_weights(path: Path, card: Card) -> None:
    """Check that a weights file is the one the card describes.

    Raises:
        WeightsError: If the file is unreadable or either was changed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"weights {path} cannot be read: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != card.sha256:
        raise WeightsError(f"weights {path} were changed: sha256 is {found}, the card says {card.sha256 or 'nothing'}")
    if _read_seal(content) != card.seal:
        raise WeightsError(f"card {path.with_suffix('.json')} was changed: its contract is not that of the weights")


def model_names() -> list[str]:
    """Names of the models that need no weights of one's own."""
    folder = _shipped()
    shipped = [path.stem for path in folder.glob("*.safetensors")] if folder.is_dir() else []
    return sorted([*INTERPOLATIONS, *shipped])


def _shipped() -> Path:
    return Path(str(resources.files("mapper"))) / "models" / "shipped"


def _read_seal(content: bytes) -> str | None:
    """The seal in the header of a safetensors file; None where there is none or the file is something else."""
    try:
        (size,) = struct.unpack("<Q", content[:8])
        if size > min(len(content) - 8, _HEADER_LIMIT):
            return None
        seal = json.loads(content[8 : 8 + size])["__metadata__"]["seal"]
    except (struct.error, ValueError, KeyError, TypeError):
        return None
    return str(seal)


def _interpolation_card(name: str) -> Card:
    contract = Contract(
        model=name,
        guide=(),
        source_units="any",
        target="any",
        target_units="any",
        scale=None,
        halo_px=0,
        halo_source_px=INTERPOLATIONS[name] + FILL_STEPS,
    )
    return Card(name=name, contract=contract)


def _describe_inputs(contract: Contract) -> list[dict[str, Any]]:
    guide = [{"type": "z-score", "mean": band.mean, "stddev": band.sd} for band in contract.guide]
    source = [{"type": "z-score", "mean": contract.source_mean, "stddev": contract.source_sd}]
    return [
        _describe_array("guide", [band.name for band in contract.guide], guide, [-1, len(contract.guide), -1, -1]),
        _describe_array("source", [contract.target], source, [-1, 1, -1, -1]),
    ]


def _describe_array(name: str, bands: list[str], scaling: list[dict[str, Any]], shape: list[int]) -> dict[str, Any]:
    array = {"shape": shape, "dim_order": ["batch", "bands", "height", "width"], "data_type": "float32"}
    return {"name": name, "bands": bands, "input": array, "value_scaling": scaling, "pre_processing_function": None}


def _describe_outputs(contract: Contract) -> list[dict[str, Any]]:
    array = {
        "shape": [-1, 1 + contract.gives_sd, -1, -1],
        "dim_order": ["batch", "bands", "height", "width"],
        "data_type": "float32",
    }
    return [{"name": contract.target, "tasks": ["super-resolution"], "result": array, "unit": contract.target_units}]
