"""The model that a method has for a site, made without seeing the truth of that site.

That truth is not among the arguments: a training gets other sites, or the site's own source and guide, coarsened.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mapper.benchmark.sites import Site, slug
from mapper.benchmark.suite import MethodConfig, is_weights
from mapper.errors import SpecError
from mapper.models.architectures import ARCHITECTURES
from mapper.models.card import Card, read_card
from mapper.models.model import Model
from mapper.models.pixtransform import make_pixtransform
from mapper.models.weights import load_model
from mapper.spec import ModelSpec
from mapper.training.config import TrainConfig, read_config
from mapper.training.curves import Row
from mapper.training.fitting import Watch
from mapper.training.sample import Sample
from mapper.training.trainer import train
from mapper.training.wald import degrade

Notify = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class SiteModel:
    """A model that is scored at a site."""

    model: Model
    parameters: int
    name: str
    """Name of the weights."""
    whole: bool = False
    """True where the site must be given to the model in one piece."""


def check_method(method: MethodConfig, sites: Sequence[Site]) -> None:
    """Check before anything is trained that a method can work.

    Raises:
        InputError: If weights or a training description are missing or wrong, or there is no other site.
    """
    if method.model is not None:
        card = read_card(_spec_of(method.model))
        _check_contract(card, sites[0].sample)
        seen = sorted({site.name for site in sites if _has_seen(card, site.sample)})
        if seen:
            raise SpecError(f"{method.name}: {card.name} was trained or calibrated on {', '.join(seen)}: it is no test")
    if method.recipe is not None and len(sites) < 2:
        raise SpecError(f"{method.name} is trained on the other sites, but {sites[0].name} is the only one")
    for path in (method.recipe, method.wald):
        if path is not None and (architecture := read_config(path).model.architecture) not in ARCHITECTURES:
            raise SpecError(f"{path} trains {architecture!r}: mapper has {', '.join(sorted(ARCHITECTURES))}")


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
    if any(other.name == site.name for other in others):
        raise ValueError(f"{site.name} is scored and must not be trained on")
    if method.model is not None:
        return _load(_spec_of(method.model))
    if method.recipe is not None:
        config = _config(method.recipe, others, weights, f"without-{slug(site.name)}")
        return _train(config, [other.sample for other in others], notify)
    if method.wald is not None:
        config = _config(method.wald, [site], weights, f"on-{slug(site.name)}")
        return _train(config, [degrade(site.blind)], notify)
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


def _train(config: TrainConfig, samples: Sequence[Sample], notify: Notify) -> SiteModel:
    notify(f"{config.name} learns from {', '.join(sample.name for sample in samples)}")
    train(config, samples=samples, validation=[], notify=notify, watch=_notify_quarters(config, notify))
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


def _load(spec: ModelSpec) -> SiteModel:
    return SiteModel(model=load_model(spec), parameters=read_card(spec).parameters, name=spec.name)


def _spec_of(model: str) -> ModelSpec:
    return ModelSpec(name=Path(model).stem, weights=Path(model)) if is_weights(model) else ModelSpec(name=model)


def _has_seen(card: Card, sample: Sample) -> bool:
    """Return whether a card names a site among those it was trained, validated or calibrated on."""
    known = [entry for part in ("data", "validation") for entry in card.training.get(part, ())]
    return any((isinstance(e, dict) and sample.name == e.get("name")) or sample.digest == _digest_of(e) for e in known)


def _digest_of(entry: object) -> str:
    return str(entry.get("digest") if isinstance(entry, dict) else entry)


def _check_contract(card: Card, sample: Sample) -> None:
    sample.check(card.contract)
