"""What to train, from which maps, and how: one validated YAML file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mapper.errors import SpecError


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TruthConfig(_Part):
    """The fine map to learn, a collection of the same catalogue."""

    collection: str
    variable: str
    limit: float | None = None
    """Truth above this is cut off, in its units; labels have outliers."""


class ModelConfig(_Part):
    """What to train."""

    architecture: str = "msg"
    options: dict[str, Any] = Field(default_factory=dict)
    """Of the architecture, for example ``width``."""


class AugmentConfig(_Part):
    """What is varied from patch to patch, beside rotations and flips. All in units of the training spread."""

    guide_jitter: float = Field(default=0.0, ge=0)
    """Spread of a shift and of a relative stretch of each guide channel: other dates, other atmospheres."""
    guide_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of guide channels that go missing."""
    source_noise: float = Field(default=0.0, ge=0)
    """Spread of independent noise on each source pixel."""
    source_bias: float = Field(default=0.0, ge=0)
    """Spread of a relative bias of the source, one for a patch."""


class TrainConfig(_Part):
    """One training. Read one with :func:`read_config`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    out: Path
    """Directory for ``<name>.safetensors`` and ``<name>.json``."""
    maps: tuple[Path, ...] = Field(min_length=1)
    """Map descriptions whose guide and source are learnt from."""
    validation: tuple[Path, ...] = ()
    """Map descriptions that are only scored, at the end."""
    truth: TruthConfig
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    patch_px: int = Field(default=160, gt=0)
    margin_source_px: int = Field(default=1, ge=0)
    """Rim of a patch, in source pixels, that feeds the network but not the loss."""
    batch: int = Field(default=8, gt=0)
    steps: int = Field(default=2000, gt=0)
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    loss: Literal["l1", "huber", "mse"] = "huber"
    ema: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the running mean of weights that is kept."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of a gradient."""
    seed: int = 0
    threads: int = Field(default=1, gt=0)

    @model_validator(mode="after")
    def _maps_are_apart(self) -> Self:
        both = sorted(str(path) for path in set(self.maps) & set(self.validation))
        if both:
            raise ValueError(f"maps to validate on may not be trained on: {', '.join(both)}")
        return self


def read_config(
    path: Path | str, *, maps: Sequence[Path] = (), out: Path | None = None, name: str | None = None
) -> TrainConfig:
    """Read and validate a training description; relative paths in it refer to its folder.

    Args:
        path: The YAML file.
        maps: Train on these map descriptions instead of those in the file.
        out: Write weights here instead.
        name: Name of the weights instead.

    Raises:
        SpecError: If the file cannot be read, is not YAML, or describes no valid training.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text())
        if isinstance(content, dict):
            here = {"maps": [item.absolute() for item in maps], "out": out and out.absolute(), "name": name}
            content = content | {key: value for key, value in here.items() if value}
        config = TrainConfig.model_validate(content)
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise SpecError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, f['loc'])) or 'training'}: {f['msg']}" for f in error.errors())
        raise SpecError(f"{path}: {'; '.join(faults)}") from error
    base = path.absolute().parent
    paths = {
        "out": base / config.out,
        "maps": tuple(base / item for item in config.maps),
        "validation": tuple(base / item for item in config.validation),
    }
    return config.model_copy(update=paths)
