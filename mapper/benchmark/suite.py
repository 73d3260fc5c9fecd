"""The description of a comparison: sites with a truth, and methods; one validated YAML file. Imports no torch.

Suites that ship are called by name; others by the path of their file. Relative paths in a suite refer to its folder,
except that of synthetic landscapes, which are rendered into the folder of the results.
"""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from mapper.description import FilePath, NameOrFile, Part, describe_faults, make_absolute, read_yaml
from mapper.errors import SpecError
from mapper.evaluation.scene_score import METHOD_METRICS, SCENE_METRICS
from mapper.models.card import PER_SCENE
from mapper.presets import DEFAULT, read_preset
from mapper.spec.target import BandSpec
from mapper.training.config import DataConfig
from mapper.training.scene_config import BurstData, SceneData

Group = Literal["guide+source", "source", "guide", "truth"]

_WAYS = ("model", "recipe", "training", "wald", "per_scene", "ground", "yardstick")
_YAML = (".yaml", ".yml")
_TO_BE_GIVEN = "."


class MethodConfig(Part):
    """One method: how its model comes about, and how much it has to honour the source."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
    group: Group
    """Inputs that it sees."""
    model: str | None = None
    """Name of a model that ships, or of one in ``weights/`` of the results, or a ``.safetensors`` file; trained on none
    of the suite's sites."""
    recipe: FilePath | None = None
    """A training description; for each site it is trained on all others."""
    training: FilePath | None = None
    """A training description; trained once, on the data that it names, which may be no site of the suite."""
    wald: FilePath | None = None
    """A training description; for each site it is trained on that site by Wald's protocol: never on its truth."""
    per_scene: str | None = None
    """One of :data:`~mapper.models.card.PER_SCENE`."""
    ground: str | None = None
    """One of :data:`~mapper.benchmark.ground_methods.GROUND_METHODS`, for heights of the ground."""
    yardstick: str | None = None
    """One of :data:`~mapper.benchmark.yardsticks.YARDSTICKS`: an image of a scene that shows what its scores tell."""
    samples: int | None = Field(default=None, ge=1)
    """Number that are drawn of a generative model, and whose mean is scored; None asks it without noise."""
    steps: int | None = Field(default=None, ge=1)
    """Steps in which each is drawn; None takes what its card says."""
    rounds: int = Field(default=0, ge=0)
    """Rounds of back-projection that tie a result of scenes to its source, after the model."""
    options: dict[str, int] = Field(default_factory=dict)
    """Options of a method fitted to each scene, for example ``iterations``."""
    consistency: Literal["none", "soft", "hard"] = "none"
    shifts: Literal["estimated", "known"] = "estimated"
    """``known`` shows it the true shifts of simulated dates; it is left out where nobody knows them."""
    anchor_only: bool = False
    """True where it looks at no date but the anchor: then it is scored once, not by number of dates."""
    affine: bool = False
    """True gives each band a gain and an offset by least squares against the truth: colours are no detail."""
    slow: bool = False
    """Left out unless asked for."""
    optional: bool = False
    """True leaves it out, and says so, where its weights or its architecture are not there."""

    @field_validator("model")
    @classmethod
    def _weights_from_here(cls, model: str | None, info: ValidationInfo) -> str | None:
        return str(make_absolute(Path(model), info)) if model and is_weights(model) else model

    @field_validator("per_scene")
    @classmethod
    def _is_known(cls, name: str | None) -> str | None:
        if name is not None and name not in PER_SCENE:
            raise ValueError(f"unknown method {name!r}, expected one of {', '.join(PER_SCENE)}")
        return name

    @model_validator(mode="after")
    def _exactly_one_way(self) -> Self:
        ways = [way for way in _WAYS if getattr(self, way) is not None]
        if len(ways) != 1:
            got = " and ".join(ways) or "none"
            raise ValueError(f"give exactly one of {', '.join(_WAYS[:-1])} and {_WAYS[-1]}, got {got}")
        if self.steps and not self.samples:
            raise ValueError(f"{self.name} is to take {self.steps} steps: say by samples how many it draws")
        if self.options and self.per_scene is None:
            raise ValueError("options are of methods per scene; those of a network stand in its training description")
        return self

    @property
    def is_of_scenes(self) -> bool:
        """Return whether it asks for what only scenes of several dates or bands have."""
        return self.affine or self.shifts == "known" or bool(self.samples or self.rounds or self.yardstick)


class Suite(Part):
    """Sites and methods. Read one with :func:`read_suite`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str
    data: tuple[DataConfig, ...] = Field(min_length=1)
    """The sites that are scored; each sample is one."""
    methods: tuple[MethodConfig, ...] = Field(min_length=1)
    preset: NameOrFile = DEFAULT
    """Kind of map that is scored; its target gives range of values, classes and bounds."""
    data_range: float | None = Field(default=None, gt=0)
    """Range of values that PSNR and SSIM refer to, in target units, instead of the preset's; never that of the data."""
    bins: tuple[Annotated[float, Field(allow_inf_nan=True)], ...] | None = None
    """Edges of classes of the truth, in target units, instead of the preset's; ``.inf`` leaves the last one open."""
    non_negative: bool | None = None
    """True sets values below 0 to 0 before they are scored, as in a map; None does so where the preset does."""
    mixed: bool = False
    """True lets sites differ in scale and guide: a method is left out, and said so, at those that it does not fit."""
    native: bool = False
    """Score also at the label's own resolution, where the label repeats its pixels on a finer grid."""

    dates: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Of scenes: numbers of dates that methods are shown, the anchor first, then by their order in the scene: those
    most like the anchor, or of a simulation as they were drawn. Empty shows all."""
    remarks: tuple[str, ...] = ()
    """Whatever a reader of the tables of scenes has to know."""
    metrics: tuple[str, ...] = ()
    """Of scenes: columns of the table, of :data:`~mapper.evaluation.scene_score.SCENE_METRICS` and ``METHOD_METRICS``;
    empty takes all."""

    @property
    def scenes(self) -> bool:
        """Return whether the sites are scenes of several dates or bands, scored as such."""
        return any(isinstance(part, BurstData | SceneData) for part in self.data)

    @field_validator("metrics")
    @classmethod
    def _are_known(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        known = (*SCENE_METRICS, *METHOD_METRICS)
        unknown = [name for name in metrics if name not in known]
        if unknown:
            raise ValueError(f"unknown metrics {', '.join(unknown)}, expected some of {', '.join(known)}")
        return metrics

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> Self:
        if not self.scenes:
            of_scenes = [method.name for method in self.methods if method.is_of_scenes]
            given = [key for key in ("dates", "metrics", "remarks") if getattr(self, key)] + of_scenes
            if given:
                raise ValueError(f"{', '.join(given)} ask for scenes of several dates, which the data are not")
            return self
        if not all(isinstance(part, BurstData | SceneData) for part in self.data):
            raise ValueError("scenes of several dates and other sites are scored differently: make two suites")
        for method in self.methods:
            if (method.model or method.training or method.yardstick) is None or method.consistency != "none":
                raise ValueError(
                    f"{method.name}: methods of scenes are a model, a training or a yardstick, without consistency"
                )
        return self

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        names = [method.name for method in self.methods]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise ValueError(f"methods appear twice: {', '.join(double)}")
        if self.bins is not None and (
            len(self.bins) < 2 or any(b <= a for a, b in zip(self.bins, self.bins[1:], strict=False))
        ):
            raise ValueError(f"bins must be at least 2 edges that rise, got {list(self.bins)}")
        return self

    def describe_target(self, units: str) -> BandSpec:
        """Return the properties of what is scored: those of the preset, and what the suite gives instead.

        Args:
            units: Units of the truth.

        Raises:
            SpecError: If there is no such preset.
        """
        section = read_preset(self.preset).content.get("target", {})
        own = {
            "value_range": self.data_range,
            "classes": self.bins,
            "bounds": None if self.non_negative is None else (0 if self.non_negative else None, None),
        }
        given = {name: value for name, value in own.items() if value is not None}
        preset = {name: value for name, value in section.items() if name in BandSpec.model_fields}
        return BandSpec.model_validate(preset | given | {"units": units})

    def choose(self, names: Sequence[str] = (), *, slow: bool = False) -> tuple[MethodConfig, ...]:
        """Return the methods of these names, or all; slow ones only where named or asked for.

        Raises:
            SpecError: If a name is unknown, or nothing is left.
        """
        known = [method.name for method in self.methods]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise SpecError(f"suite {self.name} has no method {', '.join(unknown)}: it has {', '.join(known)}")
        chosen = tuple(m for m in self.methods if (m.name in names if names else slow or not m.slow))
        if not chosen:
            raise SpecError(f"all methods of suite {self.name} are slow: ask for them with --slow or by name")
        return chosen


def is_weights(model: str) -> bool:
    """Return whether a model is named by its file."""
    return model.endswith(".safetensors")


def suite_names() -> list[str]:
    """Return the names of the suites that ship."""
    return sorted(path.stem for path in _shipped().glob("*.yaml"))


def is_suite(name: str) -> bool:
    """Return whether this is the name of a suite that ships, or a YAML file that describes methods."""
    if name in suite_names():
        return True
    try:
        content = read_yaml(name) if name.endswith(_YAML) else None
    except SpecError:
        return False  # whoever reads it as something else will say what is wrong
    return isinstance(content, dict) and "methods" in content


def read_suite(name: str | Path, *, work: Path, folder: Path | None = None) -> Suite:
    """Read and validate a suite.

    Args:
        name: Of a suite that ships, or the path of a YAML file.
        work: Folder of the results; synthetic landscapes are rendered into it.
        folder: Where the data of one's own are, instead of what the suite says; see ``folder`` of BioMassters.

    Raises:
        SpecError: If there is no such suite, or it is wrong, or the folder of its data is left to be given.
    """
    path = _find(str(name))
    content = read_yaml(path)
    try:
        if isinstance(content, dict):
            content = _locate_data(content, work=work, folder=folder)
        return Suite.model_validate(content, context=path.absolute().parent)
    except ValidationError as error:
        raise SpecError(f"suite {path}: {describe_faults(error, 'suite')}") from error


def _find(name: str) -> Path:
    if name in suite_names():
        return _shipped() / f"{name}.yaml"
    if name.endswith(_YAML):
        return Path(name)
    raise SpecError(f"unknown suite {name!r}: mapper ships {', '.join(suite_names())}; or give a YAML file")


def _shipped() -> Path:
    return Path(str(resources.files("mapper"))) / "benchmark" / "suites"


def _locate_data(content: dict[str, Any], *, work: Path, folder: Path | None) -> dict[str, Any]:
    """Return the content, folders of its data made absolute where they do not refer to the suite's own folder."""
    data = content.get("data")
    if not isinstance(data, list):
        return content
    return content | {"data": [_locate_part(part, content, work, folder) for part in data]}


def _locate_part(part: Any, content: dict[str, Any], work: Path, folder: Path | None) -> Any:
    if not isinstance(part, dict) or "folder" not in part:
        return part
    if part.get("kind") == "synthetic":
        return part | {"folder": str(work.absolute() / str(part["folder"]))}
    if folder is not None:
        return part | {"folder": str(folder.absolute())}
    if part["folder"] == _TO_BE_GIVEN and part.get("optional") is True:
        return part | {"folder": None}
    if part["folder"] == _TO_BE_GIVEN:
        raise SpecError(f"suite {content.get('name')} does not know where its data are: give their folder with --data")
    return part
