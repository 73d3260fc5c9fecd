"""The card of a model: its contract, the checksum of its weights, and how it was trained. Imports no torch.

A card is JSON beside the weights, in the field names of STAC's machine learning model extension (``mlm:``), so that it
can be published as it is. The weights carry the digest of contract and options in their header, and the card carries
the sha256 of the weights: neither can be changed without the other noticing.
"""

import hashlib
import io
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO

from mapper.errors import WeightsError
from mapper.models.card_limits import check_contract, check_name, check_options
from mapper.models.contract import (
    ANY,
    FILL_STEPS,
    BandNorm,
    Contract,
    Input,
    Output,
    digest_form,
    make_inputs,
    make_outputs,
)
from mapper.models.risk import Risk, parse_risk
from mapper.spec import ModelOptions, ModelSpec

INTERPOLATIONS: Mapping[str, int] = {"nearest": 0, "bilinear": 1, "bicubic": 2}
"""Ways to interpolate: name to radius in source pixels."""

MEDIAN = "median"
"""The median over dates, interpolated bicubically."""

MEAN = "mean"
"""The mean over dates, interpolated bicubically."""

BACK_PROJECTION = "back-projection"
"""The anchor, sharpened until the sensor would see it as it is."""

BURST = "burst"
"""Dates shifted by parts of a pixel, sharpened until the sensor would see each as it is."""

BACK_PROJECTION_ROUNDS = ModelOptions().rounds
"""Rounds of back-projection, where a map does not say."""

PROTOCOL_PSF = ModelOptions().psf
"""Standard deviation in source pixels of the Gaussian of a point spread function, where nobody says."""

FARTHEST_SHIFT = 2
"""Longest shift of a date along an axis in source pixels; where it is longer, the date is not used."""

CELLS_PX = 64
"""Edge in source pixels of the cells in each of which dates are registered to the anchor."""

LIKENESS_REACH = 92
"""Radius in source pixels around a date's pixel in which its gain, offset and likeness to the anchor are found."""

LOOK_REACH = 2
"""Widest radius in source pixels, beyond its own, that a source pixel looks at in back-projection."""


def reach_of_rounds(rounds: int, farthest: int) -> int:
    """Return the radius of back-projection in source pixels: a bicubic start, then a look and a way back each round."""
    return INTERPOLATIONS["bicubic"] + rounds * (LOOK_REACH + INTERPOLATIONS["bicubic"] + 2 * farthest)


WEIGHTLESS: Mapping[str, int] = {
    **INTERPOLATIONS,
    MEDIAN: INTERPOLATIONS["bicubic"],
    MEAN: INTERPOLATIONS["bicubic"],
    BACK_PROJECTION: reach_of_rounds(BACK_PROJECTION_ROUNDS, 0),
    BURST: reach_of_rounds(BACK_PROJECTION_ROUNDS, FARTHEST_SHIFT) + LIKENESS_REACH,
}
"""Models without parameters: name to radius in source pixels."""

PER_SCENE = ("pixtransform",)
"""Methods that are fitted to each scene anew: tiles of one map would not meet, so they are compared, never run."""

_EXTENSIONS = (
    "https://stac-extensions.github.io/mlm/v1.4.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)
_HEADER_LIMIT = 10_000_000
_LARGEST_CARD = 2**24
"""Bytes of a card: one that names thousands of chips that it was trained on has a million."""
_LONGEST_REASON = 300
_NO_CARD = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
_SHA256_MULTIHASH = "1220"


@dataclass(frozen=True, kw_only=True)
class Card:
    """Description of a model: its contract, options and training, without its weights."""

    name: str
    contract: Contract
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the architecture, for example ``{"width": 16}``."""
    parameters: int = 0
    sha256: str = ""
    """Sha256 of the weights file; empty for a model without parameters."""
    framework: str = ""
    """``torch==version`` at training."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Data and their digests, seed, steps, loss, scores."""
    risk: Risk | None = None
    """Estimate of the risk of hallucination; None where nobody fitted one."""
    written: Mapping[str, Any] = field(default_factory=dict)
    """JSON form of the contract in an older card, which seal and digest are taken of; empty for the present form."""

    @property
    def form(self) -> Mapping[str, Any]:
        """JSON form of the contract, as the card has it."""
        return self.written or self.contract.form

    @property
    def digest(self) -> str:
        """Identity of the model: sha256 of its weights, or of its contract and options if it has none."""
        return self.sha256 or (self.seal if self.options else digest_form(self.form))

    @property
    def seal(self) -> str:
        """Sha256 of contract and options, as written into the header of the weights."""
        return digest_form({"contract": self.form, "options": dict(self.options)})

    def to_json(self) -> str:
        """Return the card as a STAC item fragment."""
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
            "mapper:contract": dict(self.form),
            "mapper:training": dict(self.training),
            **({"mapper:risk": asdict(self.risk)} if self.risk else {}),
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
    """Return the card that a JSON text holds.

    Raises:
        WeightsError: If it is not a card, or says what no model can mean.
    """
    try:
        content = json.loads(text)
        properties = content["properties"]
        form = properties["mapper:contract"]
        card = Card(
            name=properties["mlm:name"],
            contract=_parse_contract(form),
            options=properties["mlm:hyperparameters"],
            parameters=properties["mlm:total_parameters"],
            sha256=content["assets"]["weights"]["file:checksum"].removeprefix(_SHA256_MULTIHASH),
            framework=f"torch=={properties['mlm:framework_version']}",
            training=properties["mapper:training"],
            risk=parse_risk(properties["mapper:risk"]) if "mapper:risk" in properties else None,
            written=form if "guide" in form else {},
        )
        _check_card(card)
    except _NO_CARD as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise WeightsError(f"not a model card: {type(error).__name__} {reason}") from error
    return card


def _check_card(card: Card) -> None:
    """Check that a card says what a model can mean: types, ranges, finite numbers, a name that is one.

    Raises:
        ValueError: With the first that it does not.
    """
    check_name("mlm:name", card.name)
    check_contract(card.contract)
    check_options(card.options)
    if not (isinstance(card.parameters, int) and card.parameters >= 0):
        raise ValueError(f"mlm:total_parameters is {card.parameters!r:.40}, expected a number of weights")
    if not isinstance(card.training, Mapping):
        raise TypeError("mapper:training is no object")


def _parse_contract(form: Mapping[str, Any]) -> Contract:
    if "guide" in form:
        return upgrade_contract(form)
    inputs = tuple(
        Input(**(entry | {"bands": tuple(BandNorm(**band) for band in entry["bands"])})) for entry in form["inputs"]
    )
    outputs = tuple(Output(**entry) for entry in form["outputs"])
    low, high = form["bounds"]
    pixels = form.get("source_m")
    parts = {"inputs": inputs, "outputs": outputs, "bounds": (low, high)}
    return Contract(**(dict(form) | parts | {"source_m": pixels and tuple(pixels)}))


def upgrade_contract(form: Mapping[str, Any]) -> Contract:
    """Return the contract that an older card describes: one coarse map, one guide of channels, one target.

    Args:
        form: With ``guide``, ``source_units``, ``source_mean``, ``source_sd``, ``target``, ``target_units``,
            ``gives_sd`` and ``non_negative`` in place of inputs, outputs and bounds.
    """
    form = {"source_mean": 0.0, "source_sd": 1.0, "gives_sd": False, "non_negative": False} | dict(form)
    guide = tuple(BandNorm(**band) for band in form.pop("guide"))
    units, mean, sd = form.pop("source_units"), form.pop("source_mean"), form.pop("source_sd")
    target, target_units = form.pop("target"), form.pop("target_units")
    gives_sd, bounds = form.pop("gives_sd"), (0.0 if form.pop("non_negative") else None, None)
    if units == ANY:
        return Contract(**form, inputs=(Input(role="source", dates=0, px=0),), outputs=(), bounds=bounds)
    source = BandNorm(name=target, units=units, mean=mean, sd=sd)
    outputs = make_outputs(target, target_units, gives_sd=gives_sd)
    return Contract(**form, inputs=make_inputs(guide, source), outputs=outputs, bounds=bounds)


def read_card(model: ModelSpec) -> Card:
    """Return the card of a model, its weights checked against it.

    Raises:
        WeightsError: If the name is unknown, a file is missing, or weights and card do not belong together.
    """
    if model.name in PER_SCENE:
        raise WeightsError(
            f"model {model.name} is fitted to each scene anew, so that tiles would not meet: no map is made with it; "
            f"a suite can compare it (per_scene: {model.name})"
        )
    if model.weights is None and model.name in WEIGHTLESS:
        return _make_card(model.name, model.options)
    if model.options is not None:
        raise WeightsError(f"model {model.name} has its options in its card: leave out model.options, or train another")
    weights = weights_path(model)
    path = weights.with_suffix(".json")
    try:
        card = parse_card(_read_text(path))
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"model {model.name}: no card at {path} ({error})") from error
    except WeightsError as error:
        raise WeightsError(f"model {model.name}: {path} is {error}") from error
    check_weights(weights, card)
    return card


def weights_path(model: ModelSpec) -> Path:
    """Return the path of the weights of a model.

    Raises:
        WeightsError: If the name is unknown or the file is missing.
    """
    path = model.weights or _shipped() / f"{model.name}.safetensors"
    if path.is_file() and (model.weights or Path(model.name).name == model.name):
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
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
            seal = _read_seal(stream)
    except OSError as error:
        raise WeightsError(f"weights {path} cannot be read: {error}") from error
    if found != card.sha256:
        raise WeightsError(f"weights {path} were changed: sha256 is {found}, the card says {card.sha256 or 'nothing'}")
    if seal != card.seal:
        raise WeightsError(f"card {path.with_suffix('.json')} was changed: its contract is not that of the weights")


def model_names() -> list[str]:
    """Return the names of the models that need no weights of one's own."""
    folder = _shipped()
    shipped = [path.stem for path in folder.glob("*.safetensors")] if folder.is_dir() else []
    return sorted([*WEIGHTLESS, *shipped])


def _shipped() -> Path:
    return Path(str(resources.files("mapper"))) / "models" / "shipped"


def _read_text(path: Path) -> str:
    """Read a card, as far as one can be long.

    Raises:
        OSError: If it cannot be read.
        UnicodeDecodeError: If it is no text.
        WeightsError: If it is too long.
    """
    with path.open("rb") as stream:
        content = stream.read(_LARGEST_CARD + 1)
    if len(content) > _LARGEST_CARD:
        raise WeightsError(f"not a model card: it is longer than {_LARGEST_CARD >> 20} MiB")
    return content.decode()


def _read_seal(stream: BinaryIO) -> str | None:
    """Return the seal in the header of a safetensors file, None where there is none or the file is something else."""
    length = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    try:
        (size,) = struct.unpack("<Q", stream.read(8))
        if size > min(length - 8, _HEADER_LIMIT):
            return None
        seal = json.loads(stream.read(size))["__metadata__"]["seal"]
    except (struct.error, *_NO_CARD):
        return None
    return str(seal)


def _make_card(name: str, options: ModelOptions | None) -> Card:
    """Return the card of a model without weights.

    Raises:
        WeightsError: If it has no options, but some are given.
    """
    if options is not None and name not in (BACK_PROJECTION, BURST):
        raise WeightsError(
            f"model {name} has no options, got {options.model_dump()}: {BACK_PROJECTION} and {BURST} have some"
        )
    differing = {} if options in (None, ModelOptions()) else options.model_dump()
    farthest = FARTHEST_SHIFT if name == BURST else 0
    rounds = differing.get("rounds", BACK_PROJECTION_ROUNDS)
    more = reach_of_rounds(rounds, farthest) - reach_of_rounds(BACK_PROJECTION_ROUNDS, farthest)
    form = {  # written as ever: its digest is the model's
        "model": name,
        "guide": [],
        "source_units": ANY,
        "source_mean": 0.0,
        "source_sd": 1.0,
        "target": ANY,
        "target_units": ANY,
        "scale": None,
        "halo_px": 0,
        "halo_source_px": WEIGHTLESS[name] + more + FILL_STEPS,
        "align_px": 1,
        "sees_source_sd": False,
        "gives_sd": False,
        "sd_scale": 1.0,
        "non_negative": False,
    }
    contract = upgrade_contract(form)
    if name == BURST:
        contract = replace(contract, inputs=tuple(replace(entry, cells_px=CELLS_PX) for entry in contract.inputs))
    return Card(name=name, contract=contract, options=differing, written=form)


def _describe_inputs(contract: Contract) -> list[dict[str, Any]]:
    return [
        {
            "name": entry.role,
            "bands": [band.name for band in entry.bands],
            "input": {
                "shape": [-1, entry.dates or -1, len(entry.bands) or -1, -1, -1],
                "dim_order": ["batch", "time", "bands", "height", "width"],
                "data_type": "float32",
            },
            "value_scaling": [{"type": "z-score", "mean": band.mean, "stddev": band.sd} for band in entry.bands],
            "pre_processing_function": None,
        }
        for entry in contract.inputs
    ]


def _describe_outputs(contract: Contract) -> list[dict[str, Any]]:
    array = {"shape": [-1, 1, -1, -1], "dim_order": ["batch", "bands", "height", "width"], "data_type": "float32"}
    return [
        {"name": output.name, "tasks": ["super-resolution"], "result": array, "unit": output.units}
        for output in contract.outputs
    ]
