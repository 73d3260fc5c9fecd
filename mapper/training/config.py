"""The description of a training: data, model, augmentation and optimisation; one validated YAML file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from mapper.description import FilePath, Location, Part, describe_faults, read_yaml
from mapper.errors import SpecError
from mapper.spec import MapSpec, read_spec
from mapper.spec.inputs import DatumShift
from mapper.training.scene_config import BurstData, SceneData, Seeds, Sentinel2BandsData, StackData


class TruthConfig(Part):
    """The fine map to learn: a collection of the map's own catalogue, or a store."""

    collection: str | None = None
    store: Location | None = None
    """A store written by ``mapper run``, or any Zarr that says where it lies; instead of ``collection``."""
    variable: str | None = None
    """Name of its band or array; None takes the name of the map's first target band."""
    limit: float | None = None
    """Truth above this is cut off, in its units; labels have outliers."""
    datum_shift: DatumShift | None = None
    """Metres to add to a truth of heights to reach the vertical datum of the map: a number, or a GeoTIFF grid of
    metres."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.collection is None) == (self.store is None):
            raise ValueError("give exactly one of collection and store")
        return self


class MapsData(Part):
    """Maps with a truth: guide and source are read as a run reads them."""

    kind: Literal["maps"] = "maps"
    maps: tuple[FilePath, ...] = Field(min_length=1)
    """Map descriptions."""
    truth: TruthConfig


class WaldData(Part):
    """Maps without a truth, by Wald's protocol: everything one scale coarser, the source is the truth."""

    kind: Literal["wald"] = "wald"
    maps: tuple[FilePath, ...] = Field(min_length=1)


class BioMasstersData(Part):
    """BioMassters chips as published: ``{chip}_S1_{month}.tif``, ``{chip}_S2_{month}.tif``, ``{chip}_agbm.tif``."""

    kind: Literal["biomassters"] = "biomassters"
    folder: FilePath
    """Holds the files, in any folders."""
    chips: tuple[str, ...] | None = None
    """Names; None takes all."""
    leave_out: tuple[str, ...] = ()
    scale: int = Field(default=10, gt=1)
    seasons: dict[str, tuple[int, ...]] | Literal["quarterly", "monthly"] = "quarterly"
    """Season name to calendar months; a median of each is one date of the guide."""
    limit: float | None = None
    """Value that the label is cut off at, in Mg ha-1, before it is averaged or learnt; None keeps all of it."""


class SyntheticData(Part):
    """Synthetic landscapes, rendered where they are not yet there."""

    kind: Literal["synthetic"] = "synthetic"
    seeds: tuple[int, ...] = Field(min_length=1)
    folder: FilePath
    """Gets one folder of scenes for each landscape."""
    size_px: int = Field(default=600, ge=100)
    scale: int = Field(default=10, gt=1)
    seasons: dict[str, tuple[int, ...]] | None = None
    """Season name to calendar months of the guide; None takes those of the demo."""
    limit: float | None = None


class ElevationData(Part):
    """Places whose bare earth is known: a folder of GeoTIFFs for each, see :mod:`mapper.training.elevation`."""

    kind: Literal["elevation"] = "elevation"
    folder: FilePath
    """Holds the folders of the places."""
    places: tuple[str, ...] | None = None
    """Names; None takes all."""
    leave_out: tuple[str, ...] = ()
    scale: int | None = Field(default=None, gt=1)
    """Scale of places without a source; None takes 30 m over the surface where their pixels divide that, else 10 for
    pixels up to 3 m, 5 up to 10 m and 3 beyond over the ground itself."""
    truth_within_m: float = Field(default=6.0, ge=0)
    """Distance to the next ground return up to which the truth counts, in metres, where it is known."""
    drop_objects: float = Field(default=0.0, ge=0, lt=1)
    """Share of the buildings and of the stands of trees that are missing from the guide; then places without a mask of
    objects are left out."""
    seed: int = Field(default=0, ge=0)
    """Seed of which are missing."""
    outlines: bool = False
    """True makes ``buildings*.geojson`` the channel of buildings of a place without a mask; often it has only some."""


class Dfc30Data(Part):
    """DFC30 as published: a folder for each city, in it one for each layer, tiles by name."""

    kind: Literal["dfc30"] = "dfc30"
    folder: FilePath
    """``DFC30_3m`` or ``DFC30_8m``."""
    cities: tuple[str, ...] | None = None
    """Names; None takes all."""
    leave_out: tuple[str, ...] = ()
    surface: str = "COP30"
    """Layer that is sharpened: COP30, FABDEM or FATHOM, which lie on the grid of the truth."""
    layers: tuple[Literal["BDORTHO", "UA2012", "CHM"], ...] = ("BDORTHO",)
    """Layers of the guide."""
    classes: tuple[int, ...] = tuple(range(15))
    """Codes of land use in UA2012, an indicator each."""
    scale: int | None = Field(default=None, gt=1)
    """Source pixel / target pixel; None takes the whole number nearest to 30 m."""


class TerrainData(Part):
    """Synthetic terrains with forest, buildings and water, of squares."""

    kind: Literal["terrain"] = "terrain"
    seeds: Seeds
    size_px: int = Field(default=330, ge=20)
    scale: int = Field(default=10, gt=1)
    px_m: float = Field(default=3.0, gt=0)
    """Edge of a pixel, in metres."""
    relief_m: float = Field(default=70.0, ge=2)
    """Largest amplitude of the relief, in metres."""
    radar: bool = False
    """True sharpens what a radar of X-band sees, False the mean of the surface."""
    drop_objects: float = Field(default=0.0, ge=0, lt=1)
    """Share of the buildings and of the stands of trees that are missing from the guide."""
    frayed: float = Field(default=0.0, ge=0, le=1)
    """Share of the pixels at the rim of buildings and trees that are missing from the guide."""
    misplaced_px: int = Field(default=0, ge=0)
    """Farthest shift of the guide along either axis, in pixels."""
    cover_m: float = Field(default=0.0, ge=0)
    """Edge of the pixels of land cover, in metres, each of the class that most of it has; 0: as fine as the truth."""


DataConfig = Annotated[
    MapsData | WaldData | BioMasstersData | SyntheticData | ElevationData | Dfc30Data | TerrainData | StackData,
    Field(discriminator="kind"),
]


class HoldOutConfig(Part):
    """Blocks of the training sites that are held back for validation: whole blocks, never random pixels."""

    share: float = Field(default=0.2, gt=0, lt=1)
    block_source_px: int = Field(default=8, gt=0)
    """Edge of a block, in source pixels."""
    gap_source_px: int = Field(default=1, ge=0)
    """Rim around each block that is neither learnt nor scored, in source pixels."""


class ModelConfig(Part):
    """The model to train."""

    architecture: str = "msg"
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the architecture, for example ``width``; ``members`` makes an ensemble."""
    guide: bool = True
    """False trains on the source alone."""
    non_negative: bool | None = None
    """True keeps the mean from falling below 0, False lets it; None keeps it within the bounds of the target."""


class AugmentConfig(Part):
    """Variations from patch to patch, beside rotations and flips."""

    guide_jitter: float = Field(default=0.0, ge=0)
    """Spread of a shift and of a relative stretch of each guide channel, in units of its training spread: other
    dates, other atmospheres."""
    guide_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of guide channels that go missing."""
    date_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of dates (seasons or months) that go missing; one at least stays."""
    dates: tuple[int, int] | None = None
    """Least and greatest number of dates that a patch of a stack shows, the anchor's own among them; None shows all."""
    source_noise: float = Field(default=0.0, ge=0)
    """Spread of noise on each source pixel, in units of the source's own standard deviation there, or of its training
    spread where that is unknown."""
    source_correlation: float = Field(default=0.0, ge=0, lt=1)
    """Share of that noise's variance that neighbouring source pixels have in common."""
    source_bias: float = Field(default=0.0, ge=0)
    """Spread of a relative bias of the source, one for a patch."""


class TrainConfig(Part):
    """One training. Read one with :func:`read_config`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    out: FilePath
    """Directory for ``<name>.safetensors``, ``<name>.json``, and in ``<name>.run/`` checkpoints and curves."""
    data: tuple[DataConfig, ...] = Field(min_length=1)
    validation: tuple[DataConfig, ...] = ()
    """Sites that are only scored and calibrated on."""
    hold_out: HoldOutConfig | None = None
    """Blocks of the training sites to validate and calibrate on, where no other site is known."""
    target: str = ""
    """Name of the band that the model gives; empty takes that of the samples."""
    model: ModelConfig = ModelConfig()
    start: FilePath | None = None
    """Weights of the same architecture to begin with, for example of a training by Wald's protocol."""
    augment: AugmentConfig = AugmentConfig()
    patch_px: int = Field(default=160, gt=0)
    margin_source_px: int = Field(default=1, ge=0)
    """Rim of a patch, in source pixels, that feeds the network but not the loss."""
    batch: int = Field(default=8, gt=0)
    """Patches in one step, over all devices."""
    steps: int = Field(default=2000, gt=0)
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    loss: str = "huber"
    """One of :data:`mapper.training.losses.LOSSES`, each explained there: l1, huber, mse, nll, l1-mse-gradient, flow,
    bce, registered or radiometric-consistency (for a truth of another sensor), or one of another package."""
    ema: float = Field(default=0.99, ge=0, lt=1)
    """Decay of the running mean of weights that is saved."""
    clip: float = Field(default=1.0, gt=0)
    """Largest norm of a gradient."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """``auto`` is bf16 on a GPU that has it, fp32 elsewhere."""
    validate_every: int = Field(default=200, gt=0)
    """Steps between two validations."""
    checkpoint_every: int = Field(default=200, gt=0)
    seed: int = 0
    threads: int | None = Field(default=None, gt=0)
    """Number of threads on a CPU; None leaves it to torch."""

    @field_validator("loss")
    @classmethod
    def _is_loss(cls, name: str) -> str:
        from mapper.training.losses import LOSSES  # noqa: PLC0415 - imports torch, which suites do not need

        if name not in LOSSES:
            raise ValueError(f"unknown loss, expected one of {', '.join(LOSSES)}")
        return name

    @model_validator(mode="after")
    def _sites_are_apart(self) -> Self:
        both = sorted(_site_names(self.data) & _site_names(self.validation))
        if both:
            raise ValueError(f"sites to validate on may not be trained on: {', '.join(both)}")
        return self


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Changes to what a file describes; None changes nothing. Paths refer to the current folder."""

    out: Path | None = None
    name: str | None = None
    steps: int | None = None
    start: Path | None = None
    scale: int | None = None
    """Scale of chips and landscapes; maps have their own."""
    chips: Path | None = None
    """Folder of BioMassters chips."""

    def apply(self, content: dict[str, Any]) -> dict[str, Any]:
        """Return the content of a file with the changes; what is not as expected is left for validation to find."""
        plain = {"out": self.out and self.out.absolute(), "name": self.name, "steps": self.steps}
        plain["start"] = self.start and self.start.absolute()
        parts = {key: self._apply_to(content[key]) for key in ("data", "validation") if key in content}
        return content | {key: value for key, value in plain.items() if value} | parts

    def _apply_to(self, parts: Any) -> Any:
        if not isinstance(parts, list):
            return parts
        by_kind: dict[str, dict[str, Any]] = {
            "synthetic": {"scale": self.scale},
            "biomassters": {"scale": self.scale, "folder": self.chips and self.chips.absolute()},
            "elevation": {"scale": self.scale, "folder": self.chips and self.chips.absolute()},
            "dfc30": {"scale": self.scale, "folder": self.chips and self.chips.absolute()},
            "s2-bands": {"folder": self.chips and self.chips.absolute()},
            "terrain": {"scale": self.scale},
            "bursts": {"scale": self.scale},
        }
        known = {kind: {key: value for key, value in new.items() if value} for kind, new in by_kind.items()}
        return [part | known.get(str(part.get("kind")), {}) if isinstance(part, dict) else part for part in parts]


def _site_names(data: Sequence[DataConfig]) -> set[str]:
    """Return the names of sites, as far as the description alone gives them."""
    sites: set[str] = set()
    for part in data:
        if isinstance(part, MapsData | WaldData):
            sites |= {str(path) for path in part.maps}
        elif isinstance(part, SyntheticData):
            sites |= {f"landscape {seed}" for seed in part.seeds}
        elif isinstance(part, TerrainData | BurstData):
            sites |= {f"{part.kind} {seed}" for seed in part.seeds}
        elif isinstance(part, ElevationData):
            sites |= {f"place {place}" for place in part.places or ()}
        elif isinstance(part, Dfc30Data):
            sites |= {f"city {city}" for city in part.cities or ()}
        elif isinstance(part, Sentinel2BandsData):
            sites |= {f"crop {crop}" for crop in part.crops or ()} | {f"scene {seed}" for seed in part.seeds or ()}
        elif isinstance(part, SceneData):
            sites |= {f"{part.kind} {place}" for place in part.places or ()}
        elif part.chips is not None:
            sites |= {f"chip {chip}" for chip in part.chips}
    return sites


def read_config(
    path: Path | str, *, data: Sequence[dict[str, Any]] = (), changes: Changes | None = None
) -> TrainConfig:
    """Read and validate a training description; relative paths in it refer to its folder.

    Args:
        path: The YAML file.
        data: Train on this instead of the file's ``data``; paths are absolute or refer to the file's folder.
        changes: Further changes.

    Raises:
        SpecError: If the file cannot be read, is not YAML, or describes no valid training.
    """
    path = Path(path)
    content = read_yaml(path)
    try:
        if isinstance(content, dict):
            content = (changes or Changes()).apply(content | ({"data": list(data)} if data else {}))
        return TrainConfig.model_validate(content, context=path.absolute().parent)
    except ValidationError as error:
        raise SpecError(f"{path}: {describe_faults(error, 'training')}") from error


def describe_training(
    path: Path | None,
    *,
    wald: Sequence[Path] = (),
    maps: Sequence[Path] = (),
    truth: str | None = None,
    changes: Changes | None = None,
) -> TrainConfig:
    """Return the description of a training, put together from a file and what a command changes.

    Args:
        path: Its description; None takes the one for Wald's protocol that ships for such a map, and writes to
            ``weights/`` beside the first map.
        wald: Train on these maps by Wald's protocol instead of the sites described.
        maps: Train on these maps with their truth instead.
        truth: That truth, as COLLECTION:BAND; None takes that of the first maps described.
        changes: Further changes to what is described.

    Raises:
        SpecError: If nothing says what to train on, or a description is wrong.
    """
    changes = changes or Changes()
    if path is None:
        if not wald:
            raise SpecError("give what to train: a CONFIG.yaml, or maps for Wald's protocol")
        spec = read_spec(wald[0])
        path = Path(str(resources.files("mapper"))) / "training" / "recipes" / f"{_choose_recipe(spec)}.yaml"
        out = changes.out or wald[0].absolute().parent / "weights"
        changes = replace(changes, out=out, name=changes.name or f"wald-{spec.name}")
    data: list[dict[str, Any]] = [{"kind": "wald", "maps": _absolute_all(wald)}] if wald else []
    if maps:
        data.append({"kind": "maps", "maps": _absolute_all(maps), "truth": _find_truth(path, truth)})
    return read_config(path, data=data, changes=changes)


def _choose_recipe(spec: MapSpec) -> str:
    """Return the recipe for Wald's protocol that ships for a map.

    Raises:
        SpecError: If there is none.
    """
    if spec.source.bands and not spec.guide.layers:
        raise SpecError(f"no recipe ships for map {spec.name}, several bands without a guide: give a CONFIG.yaml")
    return "wald-20m" if spec.source.bands else "wald"


def _find_truth(path: Path, truth: str | None) -> dict[str, Any]:
    described = next((part.truth for part in read_config(path).data if isinstance(part, MapsData)), None)
    content: dict[str, Any] = described.model_dump() if described else {}
    if truth:
        collection, colon, variable = truth.partition(":")
        if not (collection and colon and variable):
            raise SpecError(f"truth {truth!r} is not COLLECTION:BAND")
        # the shift was that of the truth described
        content |= {"collection": collection, "variable": variable, "store": None, "datum_shift": None}
    if not content:
        raise SpecError(f"{path} describes no maps whose truth could be taken: name it as COLLECTION:BAND")
    return content


def _absolute_all(paths: Sequence[Path]) -> list[str]:
    return [str(path.absolute()) for path in paths]
