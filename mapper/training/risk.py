"""Risk of hallucination of a model, fitted on sites whose truth it never saw, and judged on others.

What came to be is the likeness of a pixel to neither truth nor source, as opensr-test has it, by mean |difference| of
the bands and without harmonisation, which would leak the truth: 0 where neither truth nor result has enough detail to
be judged. Everything else is as in a map: the tie to the source, the dates that are found to agree, the features.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator
from scipy.optimize import isotonic_regression, minimize

from mapper.arrays import Float64Array, UInt16Array
from mapper.cube.shifts import estimate_shifts
from mapper.description import Part, describe_faults, read_yaml
from mapper.errors import InputError, SpecError
from mapper.evaluation.opensr import OpenSrOptions, map_likeness
from mapper.evaluation.score import rounded
from mapper.evaluation.uncertainty import RiskReliability
from mapper.models.card import Card, read_card, weights_path
from mapper.models.model import Model
from mapper.models.risk import FEATURES, REGIONAL_AT, Risk, parse_risk
from mapper.models.weights import load_model
from mapper.predict.appraisal import Appraisal
from mapper.predict.change import find_misfits
from mapper.predict.operators import expand, make_operator
from mapper.spec import BandConsistency, ModelSpec
from mapper.training.config import DataConfig
from mapper.training.datasets import read_samples
from mapper.training.sample import Dates, Sample
from mapper.training.trainer import predict_sample

LEAST_PIXELS = 1000
"""Pixels of a class of risk from which it counts in the largest deviation."""
_CLASSES = 40
"""Classes of risk in which it is judged, from 0 to 1: a network that is any good stays in the lower ones."""
_QUANTILES = (*np.linspace(0, 0.95, 20), 0.975, 0.99, 1.0)
"""Classes of the score between which the curve of the risk is drawn."""
_TAIL = 0.005 / (2 * len(REGIONAL_AT))
"""Share of the pixels beyond each side of the box, of all 0.5 %."""
_PENALTY = 1e-6


class RiskConfig(Part):
    """Sites, and how a map is made there. Read one with :func:`read_risk_config`."""

    data: tuple[DataConfig, ...] = Field(min_length=1)
    """Sites that were not trained on; every third is judged, the others are fitted to."""
    consistency: BandConsistency = BandConsistency()
    """Tie of every band to the source; a tolerance is in units of the sites."""
    dates: tuple[int, int] | None = None
    """Fewest and most dates of a site, drawn evenly; None takes all that it has."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.dates and not 0 < self.dates[0] <= self.dates[1]:
            raise ValueError(f"dates are fewest and most, from 1 on, got {list(self.dates)}")
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Pixels of a site with what is known of each, and what came to be."""

    features: Float64Array
    """(feature, pixel)."""
    observed: Float64Array
    """(pixel,) likeness to neither truth nor source, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class FittedRisk:
    """A risk, and how it holds on sites that it was not fitted to."""

    risk: Risk
    reliability: RiskReliability
    mean: float
    """Mean of what came to be."""
    skill: float
    """Part of the variance of what came to be that the risk explains: how far it tells pixels apart."""


def read_risk_config(path: Path) -> RiskConfig:
    """Read and validate a description; relative paths in it refer to its folder.

    Raises:
        SpecError: If the file cannot be read, is not YAML, or describes nothing valid.
    """
    try:
        return RiskConfig.model_validate(read_yaml(path), context=path.absolute().parent)
    except ValidationError as error:
        raise SpecError(f"{path}: {describe_faults(error, 'risk')}") from error


def add_risk(
    config: RiskConfig, spec: ModelSpec, *, command: str = "", notify: Callable[[str], None] | None = None
) -> FittedRisk:
    """Fit the risk of a model, and write it into its card; another that is there is replaced.

    Args:
        config: Sites, and how a map is made there.
        spec: The model, its weights in files.
        command: Command line that started this, for the card.
        notify: Gets messages for people.

    Raises:
        WeightsError: If there are no weights, or they are not those of the card.
        InputError: If the model gives no deviation, a site was trained on, or too few pixels can be judged.
    """
    card = read_card(spec)
    if not card.contract.gives_sd:
        raise InputError(f"model {card.name} gives no standard deviation, which its risk would be estimated from")
    samples = read_samples(config.data)
    _check_unseen(card, samples)
    model, judged = load_model(spec), []
    for number, sample in enumerate(samples):
        judged.append(judge_sample(model, sample, config, seed=number))
        if notify:
            notify(f"{number + 1} of {len(samples)} sites: {sample.name}")
    fitted = fit_and_judge(judged)
    about = {
        "command": command,
        "sites": [{"name": sample.name, "digest": sample.digest} for sample in samples],
        "consistency": config.consistency.model_dump(mode="json"),
        "features": list(FEATURES),
        "reliability": fitted.reliability.to_dict() | {"mean": rounded(fitted.mean), "skill": rounded(fitted.skill)},
    }
    fitted = replace(fitted, risk=replace(fitted.risk, about=about))
    weights_path(spec).with_suffix(".json").write_text(replace(card, risk=fitted.risk).to_json())
    return fitted


def judge_sample(model: Model, sample: Sample, config: RiskConfig, *, seed: int = 0) -> Judged:
    """Return the pixels of a site that can be judged, as a map would hold them.

    Args:
        model: Gives a standard deviation.
        sample: The site, with its truth.
        config: How a map is made there.
        seed: Draws the number of dates.

    Raises:
        InputError: If the model gives no deviation.
    """
    if config.dates and sample.stack:
        number = int(np.random.default_rng([seed, 29]).integers(config.dates[0], config.dates[1] + 1))
        nearest = np.argsort(np.abs(sample.stack.days), kind="stable")[:number]
        sample = replace(sample, stack=sample.stack.take(np.sort(nearest)))
    appraisal = _appraise(model, sample, config.consistency)
    features = appraisal.describe(_count_dates(model, sample))
    truth = sample.truth if sample.truth.ndim == 3 else sample.truth[None]
    likeness = map_likeness(appraisal.value, truth, appraisal.image, options=OpenSrOptions(correctness="l1"))
    observed = np.where(likeness.judged, likeness.rescale()[2], 0.0)
    known = np.isfinite(likeness.classes).all(0) & np.isfinite(features).all(0)
    return Judged(features=features[:, known], observed=observed[known])


def fit_and_judge(judged: Sequence[Judged]) -> FittedRisk:
    """Fit a risk to two of three sites, and judge it on the third.

    Raises:
        InputError: If there are fewer than three sites, or too few pixels.
    """
    if len(judged) < 3:
        raise InputError(f"{len(judged)} sites are too few: expected three or more, of which every third is judged")
    own, others = _join(judged[2::3]), _join([each for number, each in enumerate(judged) if number % 3 != 2])
    risk = fit_risk(others)
    if not own.observed.size:
        raise InputError("no pixel of the sites to judge on can be judged: give larger ones")
    predicted, spread = risk.estimate(own.features), float(own.observed.var())
    return FittedRisk(
        risk=risk,
        reliability=RiskReliability.of(predicted, own.observed, classes=_CLASSES),
        mean=float(own.observed.mean()),
        skill=1 - float(((predicted - own.observed) ** 2).mean()) / spread if spread else 0.0,
    )


def fit_risk(judged: Judged) -> Risk:
    """Fit a risk: a logistic regression whose weights have given signs, and the monotone curve nearest to what came.

    Raises:
        InputError: If there are too few pixels.
    """
    if judged.observed.size < LEAST_PIXELS:
        raise InputError(f"{judged.observed.size} pixels are too few to fit a risk to, expected {LEAST_PIXELS} or more")
    weights = _fit_weights(judged)
    scores, risks = _fit_curve(np.tensordot(weights, judged.features, 1), judged.observed)
    least, most = np.quantile(judged.features[list(REGIONAL_AT)], (_TAIL, 1 - _TAIL), axis=1)
    parts = {"weights": weights, "scores": scores, "risks": risks, "least": least, "most": most}
    return parse_risk({name: [float(f"{each:.7g}") for each in numbers] for name, numbers in parts.items()})


def _fit_weights(judged: Judged) -> Float64Array:
    """Return the weights of the features of least cross entropy, each with the sign that it may have."""
    spread = np.maximum(judged.features.std(1), 1e-9)
    constant = judged.features.std(1) < 1e-6
    design = np.vstack([np.ones_like(judged.observed), judged.features / spread[:, None]])

    def lose(parameters: Float64Array) -> tuple[float, Float64Array]:
        score = parameters @ design
        share = 1 / (1 + np.exp(-np.clip(score, -500, 500)))
        loss = np.mean(np.logaddexp(0, score) - judged.observed * score) + _PENALTY * parameters @ parameters
        return float(loss), design @ (share - judged.observed) / share.size + 2 * _PENALTY * parameters

    bounds: list[tuple[float | None, float | None]] = [(None, None)]
    for sign, is_constant in zip(FEATURES.values(), constant, strict=True):
        bounds.append((0, 0) if is_constant else (0, None) if sign > 0 else (None, 0))
    found = minimize(lose, np.zeros(len(design)), jac=True, bounds=bounds, method="L-BFGS-B")
    return np.asarray(found.x[1:] / spread, np.float64)


def _fit_curve(score: Float64Array, observed: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return points of the curve that never falls: mean scores of classes, and the risk there."""
    edges = np.unique(np.quantile(score, _QUANTILES))
    index = np.clip(np.searchsorted(edges, score, side="right") - 1, 0, max(len(edges) - 2, 0))
    count = np.bincount(index)
    filled = np.flatnonzero(count)
    mean_score, mean = (np.bincount(index, each)[filled] / count[filled] for each in (score, observed))
    if len(filled) < 2:
        raise InputError("all pixels are alike: no risk can be told from another")
    curve = isotonic_regression(mean, weights=count[filled].astype(np.float64)).x
    return mean_score, np.clip(curve, 0, 1)


def _appraise(model: Model, sample: Sample, tie: BandConsistency) -> Appraisal:
    """Return what a map with such a tie would know of a site."""
    estimate = predict_sample(model, sample)
    if estimate.sd is None:
        raise InputError("the model gives no standard deviation, which its risk would be estimated from")
    mean, sd, image, source_sd = (
        each if each.ndim == 3 else each[None] for each in (estimate.mean, estimate.sd, sample.source, sample.source_sd)
    )
    operator = make_operator(tie, sample.scale)
    enforced = [
        operator.enforce(*each, mode=tie.mode, bounds=sample.bounds, tolerance=tie.tolerance)
        for each in zip(mean, image, source_sd, strict=True)
    ]
    if not model.contract.sees_source_sd:
        sd = np.hypot(sd, expand(np.nan_to_num(source_sd, nan=0.0), sample.scale))
    residual = [np.abs(operator.apply(each) - source) for each, source in zip(mean, image, strict=True)]
    return Appraisal(
        mean=mean, value=np.stack(enforced), sd=sd, image=image, residual=np.stack(residual), scale=sample.scale
    )


def _count_dates(model: Model, sample: Sample) -> UInt16Array | int:
    """Return the dates that agree with the anchor, by target pixel, as a map counts them; 1 without dates."""
    if sample.stack is None:
        return 1
    count = sample.stack.clear.sum(0)
    if model.contract.source.cells_px:
        count = count - _count_misfits(sample.stack, sample, cell=model.contract.source.cells_px)
    return np.asarray(expand(count, sample.scale), np.uint16)


def _count_misfits(stack: Dates, sample: Sample, *, cell: int) -> Any:
    own = np.zeros(stack.clear.shape, bool)
    own[stack.own] = True
    found = estimate_shifts(stack.values, stack.clear, sample.source, row=0, col=0, cell=cell)
    astray, changed = find_misfits(stack.values, stack.clear, sample.source, found, own=own, row=0, col=0)
    return (astray | changed).sum(0)


def _check_unseen(card: Card, samples: Iterable[Sample]) -> None:
    """Check that no site was trained, validated or calibrated on.

    Raises:
        InputError: With those that were.
    """
    seen = {
        (entry["name"], entry["digest"]) for part in ("data", "validation") for entry in card.training.get(part, ())
    }
    both = sorted(sample.name for sample in samples if (sample.name, sample.digest) in seen)
    if both:
        raise InputError(f"model {card.name} was trained or calibrated on {', '.join(both[:5])}: give other sites")


def _join(judged: Sequence[Judged]) -> Judged:
    return Judged(
        features=np.concatenate([each.features for each in judged], axis=1),
        observed=np.concatenate([each.observed for each in judged]),
    )
