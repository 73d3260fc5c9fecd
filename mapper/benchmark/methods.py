"""The model that a method has for a site, made without seeing the truth of that site.

That truth is not among the arguments: a training gets other sites, or the site's own source and guide, coarsened. Sites
at one place are never others to each other.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mapper.benchmark.ground_methods import GROUND_METHODS, Solver, knows_cover
from mapper.benchmark.sites import Site, slug
from mapper.benchmark.suite import MethodConfig, is_weights
from mapper.benchmark.yardsticks import YARDSTICKS
from mapper.errors import SpecError
from mapper.models.architectures import ARCHITECTURES
from mapper.models.burst import BackProjection
from mapper.models.card import Card, model_names, read_card
from mapper.models.model import Model
from mapper.models.pixtransform import make_pixtransform
from mapper.models.views import PointSpread
from mapper.models.weights import load_model
from mapper.predict.predictor import Predictor
from mapper.spec import ModelSpec
from mapper.training.config import TrainConfig, read_config
from mapper.training.curves import Row
from mapper.training.fitting import Watch
from mapper.training.sample import Sample
from mapper.training.scene_config import BurstData, PsfConfig
from mapper.training.trainer import train
from mapper.training.wald import degrade

Notify = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class SiteModel:
    """A model that is scored at a site."""

    parameters: int
    name: str
    """Name of the weights, or of the method."""
    model: Model | Solver
    whole: bool = False
    """True where the site must be given to the model in one piece."""

    @property
    def device(self) -> str:
        """Device that predicts, and on a CPU the number of threads."""
        device = "cpu" if isinstance(self.model, Solver) else Predictor(self.model).device.type
        return "cpu, 1 thread" if device == "cpu" else device


def find_weights(method: MethodConfig, weights: Path) -> MethodConfig:
    """Return a method with the file of its model, where none of that name ships and one lies in a folder of weights."""
    if method.model is None or is_weights(method.model) or method.model in model_names():
        return method
    path = weights.absolute() / f"{method.model}.safetensors"
    return method.model_copy(update={"model": str(path)}) if path.is_file() else method


def check_parts(method: MethodConfig) -> None:
    """Check that weights and architecture of a method are there.

    Raises:
        InputError: If they are missing or wrong.
    """
    if method.model is not None:
        read_card(_spec_of(method.model))
        if method.samples and not read_card(_spec_of(method.model)).contract.noise_bands:
            raise SpecError(f"{method.name} is to draw {method.samples} samples of {method.model}, which draws none")
    for name, known in ((method.ground, GROUND_METHODS), (method.yardstick, YARDSTICKS)):
        if name is not None and name not in known:
            raise SpecError(f"{method.name}: unknown {name!r}, expected one of {', '.join(known)}")
    if method.yardstick is not None and YARDSTICKS[method.yardstick].sees_truth != (method.group == "truth"):
        seeing = ", ".join(name for name, each in YARDSTICKS.items() if each.sees_truth)
        raise SpecError(f"{method.name}: {seeing} see the truth and are of group truth, others are not")
    for path in (method.recipe, method.training, method.wald):
        if path is not None and (architecture := read_config(path).model.architecture) not in ARCHITECTURES:
            raise SpecError(f"{path} trains {architecture!r}: mapper has {', '.join(sorted(ARCHITECTURES))}")


def check_site(method: MethodConfig, site: Site, others: Sequence[Site], *, mixed: bool) -> None:
    """Check that a method can work at a site.

    Args:
        method: The method.
        site: The site.
        others: Sites that it may learn from; see :func:`choose_others`.
        mixed: True where sites may lack a channel of the guide altogether.

    Raises:
        InputError: If it does not fit the site, has seen it, or there is no other site that it could learn from.
    """
    sample = site.sample
    if method.model is not None:
        card = read_card(_spec_of(method.model))
        chosen = sample.check(card.contract)
        if _has_seen(card, sample):
            raise SpecError(f"{method.name}: {card.name} was trained or calibrated on {site.name}: it is no test")
        _check_known(method, sample, chosen if mixed else ())
    if method.training is not None and _trains_on(read_config(method.training), sample):
        raise SpecError(f"{method.name}: {method.training.name} is trained or calibrated on {site.name}: it is no test")
    if method.shifts == "known":
        site.with_true_shifts  # noqa: B018 - says so where nobody knows them
    if method.recipe is not None:
        if mixed and read_config(method.recipe).model.guide:
            _check_known(method, sample, range(len(sample.bands)))
        if not others:
            raise SpecError(f"{method.name} is trained on the other sites, but {site.name} is the only one of its kind")
    if method.ground in ("class-median", "separation") and not knows_cover(sample):
        raise SpecError(f"{method.name} needs land cover, which is not known there")
    if method.ground == "class-median" and not any(knows_cover(other.sample) for other in others):
        raise SpecError(f"{method.name} needs land cover of other sites, which is not known")


def choose_others(method: MethodConfig, site: Site, sites: Sequence[Site], *, mixed: bool) -> list[Site]:
    """Return the sites that a method may learn from where one is scored: those at other places.

    Of mixed sites a training takes those that are like it, in scale and in what is known of the guide.
    """
    others = [other for other in sites if other is not site and not _is_same_place(other, site)]
    if method.recipe is None or not mixed:
        return others
    guide = read_config(method.recipe).model.guide
    sample = site.sample
    alike = [other for other in others if other.sample.scale == sample.scale and other.sample.bands == sample.bands]
    return [other for other in alike if not guide or not _find_unknown(other.sample, range(len(sample.bands)))]


def open_model(method: MethodConfig, site: Site, others: Sequence[Site], *, weights: Path, notify: Notify) -> SiteModel:
    """Load, train or set up the model that is scored at a site, and return it.

    Args:
        method: Way to the model.
        site: Site at which it is scored.
        others: All other sites of the suite.
        weights: Folder of weights that are trained here; what is there already is not trained again.
        notify: Is reported what is done.

    Raises:
        ValueError: If the site is among the others.
    """
    if any(other.name == site.name or _is_same_place(other, site) for other in others):
        raise ValueError(f"{site.name} is scored and must not be trained on")
    if method.model is not None:
        return _load(_spec_of(method.model), site.sample.psf)
    if method.training is not None:
        config = read_config(method.training)
        return _train(config.model_copy(update={"out": weights.absolute()}), None, notify)
    if method.recipe is not None:
        config = _config(method.recipe, others, weights, f"without-{slug(site.name)}")
        return _train(config, [other.sample for other in others], notify)
    if method.wald is not None:
        config = _config(method.wald, [site], weights, f"on-{slug(site.name)}")
        return _train(config, [degrade(site.blind)], notify)
    if solve := GROUND_METHODS.get(method.ground or "") or YARDSTICKS.get(method.yardstick or ""):
        solver = Solver(solve=solve, others=tuple(other.sample for other in others))
        return SiteModel(model=solver, parameters=0, name=method.name)
    sample = site.sample
    model = make_pixtransform(bands=sample.bands, units=sample.source_units, scale=sample.scale, **method.options)
    return SiteModel(model=model, parameters=model.parameters, name=method.name, whole=True)


def _config(path: Path, sites: Sequence[Site], weights: Path, suffix: str) -> TrainConfig:
    """Return a training description whose data are these sites, and no other site at all."""
    config = read_config(path)
    changes = {
        "name": f"{config.name}-{suffix}",
        "out": weights.absolute(),
        "data": tuple(site.data for site in sites),
        "validation": (),  # what a file names there might be the site that is scored
    }
    return config.model_copy(update=changes)


def _train(config: TrainConfig, samples: Sequence[Sample] | None, notify: Notify) -> SiteModel:
    """Train on samples, or on the data that the description names."""
    own = "its own data" if samples is None else ", ".join(sample.name for sample in samples)
    notify(f"{config.name} learns from {own}")
    validation: list[Sample] | None = None if samples is None else []
    train(config, samples=samples, validation=validation, notify=notify, watch=_notify_quarters(config, notify))
    return _load(ModelSpec(name=config.name, weights=config.out / f"{config.name}.safetensors"))


def _notify_quarters(config: TrainConfig, notify: Notify) -> Watch:
    """Return a function that reports four times how far a training is."""
    reported = {0}

    def watch(row: Row) -> None:
        quarter = 4 * row.step // config.steps
        if quarter not in reported:
            reported.add(quarter)
            notify(f"{config.name}: step {row.step} of {config.steps}, loss {row.loss:.3f}")

    return watch


def _load(spec: ModelSpec, psf: PsfConfig | None = None) -> SiteModel:
    """Load a model; one that projects back takes the point spread function of the site's sensor."""
    model, card = load_model(spec), read_card(spec)
    if psf and isinstance(model, BackProjection):
        model = BackProjection(card, psf=PointSpread(sd=psf.sd, mean_px=psf.aperture_px)).eval()
    return SiteModel(model=model, parameters=card.parameters, name=spec.name)


def _trains_on(config: TrainConfig, sample: Sample) -> bool:
    """Return whether a training names the burst that a sample is among what it learns or validates on."""
    bursts = [part for part in (*config.data, *config.validation) if isinstance(part, BurstData)]
    return any(sample.name == f"burst {seed}" for part in bursts for seed in part.seeds)


def _spec_of(model: str) -> ModelSpec:
    return ModelSpec(name=Path(model).stem, weights=Path(model)) if is_weights(model) else ModelSpec(name=model)


def _has_seen(card: Card, sample: Sample) -> bool:
    """Return whether a card names a site among those it was trained, validated or calibrated on."""
    known = [entry for part in ("data", "validation") for entry in card.training.get(part, ())]
    return any((isinstance(e, dict) and sample.name == e.get("name")) or sample.digest == _digest_of(e) for e in known)


def _digest_of(entry: object) -> str:
    return str(entry.get("digest") if isinstance(entry, dict) else entry)


def _check_known(method: MethodConfig, sample: Sample, channels: Iterable[int]) -> None:
    if unknown := _find_unknown(sample, channels):
        raise SpecError(f"{method.name} needs {', '.join(unknown)}, not known there")


def _find_unknown(sample: Sample, channels: Iterable[int]) -> list[str]:
    """Return the names of the channels that have no value at all."""
    return [sample.bands[index][0] for index in channels if not np.isfinite(sample.guide[index]).any()]


def _is_same_place(one: Site, other: Site) -> bool:
    return bool(one.sample.place) and one.sample.place == other.sample.place
