"""A training as it is asked for: a description, and what is to be otherwise."""

from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from mapper.errors import SpecError
from mapper.spec import read_spec
from mapper.training.config import Changes, MapsData, TrainConfig, read_config


def describe_training(
    path: Path | None,
    *,
    wald: Sequence[Path] = (),
    maps: Sequence[Path] = (),
    truth: str | None = None,
    changes: Changes | None = None,
) -> TrainConfig:
    """Put a training together.

    Args:
        path: Its description; None takes the one for Wald's protocol that ships, and writes to ``weights/`` beside the
            first map.
        wald: Train on these maps by Wald's protocol instead of the places described.
        maps: Train on these maps with their truth instead.
        truth: That truth, as COLLECTION:BAND; None takes that of the first maps described.
        changes: What else is to be otherwise than described.

    Raises:
        SpecError: If nothing says what to train on, or a description is wrong.
    """
    changes = changes or Changes()
    if path is None:
        if not wald:
            raise SpecError("say what to train: a CONFIG.yaml, or maps for Wald's protocol")
        path = Path(str(resources.files("mapper"))) / "training" / "recipes" / "wald.yaml"
        out = changes.out or wald[0].absolute().parent / "weights"
        changes = replace(changes, out=out, name=changes.name or f"wald-{read_spec(wald[0]).name}")
    data: list[dict[str, Any]] = [{"kind": "wald", "maps": _absolute(wald)}] if wald else []
    if maps:
        data.append({"kind": "maps", "maps": _absolute(maps), "truth": _find_truth(path, truth)})
    return read_config(path, data=data, changes=changes)


def _find_truth(path: Path, truth: str | None) -> dict[str, Any]:
    described = next((part.truth for part in read_config(path).data if isinstance(part, MapsData)), None)
    content: dict[str, Any] = described.model_dump() if described else {}
    if truth:
        collection, colon, variable = truth.partition(":")
        if not (collection and colon and variable):
            raise SpecError(f"truth {truth!r} is not COLLECTION:BAND")
        content |= {"collection": collection, "variable": variable, "store": None}
    if not content:
        raise SpecError(f"{path} describes no maps whose truth could be taken: name it as COLLECTION:BAND")
    return content


def _absolute(paths: Sequence[Path]) -> list[str]:
    return [str(path.absolute()) for path in paths]
