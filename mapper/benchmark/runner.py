"""Run a suite: read the sites, make the models, predict, honour the source, score.

All methods are scored on the same pixels: where the truth and the source are known. A model is given guide, source and
the source's standard deviation of a site, or some of the dates of a scene; its truth is only looked at when the map is
finished.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from mapper.arrays import Float32Array
from mapper.benchmark.ground_methods import Solver
from mapper.benchmark.methods import SiteModel, check_parts, check_site, choose_others, find_weights, open_model
from mapper.benchmark.results import Outcome, Report, Result
from mapper.benchmark.scene_results import SceneOutcome, SceneReport, SceneResult, judge_scene
from mapper.benchmark.sensor_view import tie_to_source
from mapper.benchmark.sites import Site, read_sites, show_dates
from mapper.benchmark.suite import MethodConfig, Suite
from mapper.errors import ContractError, InputError, SpecError, WeightsError
from mapper.evaluation.label_resolution import drop_repeats
from mapper.evaluation.metric import Metric
from mapper.evaluation.score import Score
from mapper.evaluation.tally import Tally, Uncertainty
from mapper.predict.operators import BlockMean, expand
from mapper.predict.predictor import Estimate, Predictor
from mapper.training.sample import Sample
from mapper.training.trainer import predict_sample

Notify = Callable[[str], None]

_WARM_UP_PX = 200


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Suite, sites and folder that all methods of one run share."""

    suite: Suite
    sites: tuple[Site, ...]
    weights: Path
    notify: Notify
    skipped: Mapping[str, Mapping[str, str]]
    """Reasons by name of the site, by name of the method."""


def run_suite(
    suite: Suite,
    *,
    work: Path,
    methods: Sequence[str] = (),
    include_slow: bool = False,
    notify: Notify = lambda _: None,
) -> Report | SceneReport:
    """Compare methods and return their scores.

    Args:
        suite: Sites and methods.
        work: Folder of the results: weights that are trained here go to ``weights/`` and are found there again.
        methods: Take only these.
        include_slow: Take slow ones too, where none are named.
        notify: Gets a line on each step.

    Raises:
        InputError: If a method or site is wrong or missing; found out before anything is trained.
    """
    weights = work / "weights"
    chosen = [find_weights(method, weights) for method in suite.choose(methods, slow=include_slow)]
    notify(f"reading the sites of {suite.name}")
    absent: list[str] = []
    sites = read_sites(suite.data, mixed=suite.mixed, notify=absent.append)
    sites = show_dates(sites, suite.dates) if suite.scenes else sites
    missing = _find_missing(chosen)
    skipped = {method.name: _check(suite, method, sites) for method in chosen if method.name not in missing}
    missing |= _find_unfit(suite, skipped, sites)
    present = [method for method in chosen if method.name not in missing]
    run = _Run(suite=suite, sites=sites, weights=weights, notify=notify, skipped=skipped)
    missing |= {} if methods or include_slow else _find_slow(suite)
    for note in (notes := [*absent, *(f"{name} is left out: {reason}" for name, reason in missing.items())]):
        notify(note)
    if suite.scenes:
        scored = [(each, *_run_method(run, each, judge_scene)) for each in present]
        found = tuple(SceneOutcome(method=each, results=own, skipped=without) for each, own, without in scored)
        notes += _list_skipped(found, sites)
        if not any(outcome.results for outcome in found):
            raise SpecError("; ".join(notes))
        known = tuple(outcome for outcome in found if outcome.results)
        return SceneReport(suite=suite, sites=sites, outcomes=known, notes=tuple(notes))
    judged = [(each, *_run_method(run, each, _judge)) for each in present]
    outcomes = tuple(Outcome(method=each, results=own, skipped=without) for each, own, without in judged)
    return Report(
        suite=suite,
        samples={site.name: site.sample for site in sites},
        outcomes=outcomes,
        device=", ".join(sorted({result.device for outcome in outcomes for result in outcome.results.values()})),
        notes=(*notes, *_notes(outcomes)),
    )


def _find_slow(suite: Suite) -> dict[str, str]:
    """Return why the slow methods of a suite are not taken, by name."""
    how = {method.name: "it is trained first" if method.training else "it is slow" for method in suite.methods}
    return {method.name: f"{how[method.name]}, ask for it with --slow" for method in suite.methods if method.slow}


def _find_missing(methods: Sequence[MethodConfig]) -> dict[str, str]:
    """Return why methods that may be missing are, by name.

    Raises:
        SpecError: If nothing is left.
    """
    missing: dict[str, str] = {}
    for method in (method for method in methods if method.optional):
        try:
            check_parts(method)
        except (SpecError, WeightsError) as error:
            missing[method.name] = str(error)
    if len(missing) == len(methods):
        raise SpecError("; ".join(missing.values()))
    return missing


def _find_unfit(suite: Suite, skipped: Mapping[str, Mapping[str, str]], sites: Sequence[Site]) -> dict[str, str]:
    """Return why methods fit none of the scenes that are there, by name: data of one scale may be absent.

    Raises:
        SpecError: If a method fits none of the sites of another suite, or nothing is left.
    """
    unfit = {
        name: f"fits none of the sites: {next(iter(reasons.values()))}"
        for name, reasons in skipped.items()
        if len(reasons) == len(sites)
    }
    if unfit and (not suite.scenes or len(unfit) == len(skipped)):
        raise SpecError(" ".join(next(iter(unfit.items()))))
    return unfit


def _check(suite: Suite, method: MethodConfig, sites: Sequence[Site]) -> dict[str, str]:
    """Check that a method can work, and return why it cannot at some sites of a mixed suite, by name of the site.

    Raises:
        InputError: If its parts are missing or wrong, or sites are not mixed and it cannot work at one.
    """
    check_parts(method)
    reasons: dict[str, str] = {}
    for site in sites:
        try:
            others = choose_others(method, site, sites, mixed=suite.mixed)
            check_site(method, site, others, mixed=suite.mixed)
        except InputError as error:
            if not suite.mixed:
                raise
            reasons[site.name] = str(error)
    return reasons


_R = TypeVar("_R", Result, SceneResult)
_Judge = Callable[[Suite, MethodConfig, SiteModel, Sample, Estimate, float], _R]


def _run_method(run: _Run, method: MethodConfig, judge: _Judge[_R]) -> tuple[dict[str, _R], dict[str, str]]:
    """Return the results of a method by name of the site, and the reasons why there are none at others."""
    results: dict[str, _R] = {}
    skipped, trained = dict(run.skipped[method.name]), None
    seen: set[str] = set()
    for site in run.sites:
        if method.anchor_only and site.sample.name in seen:
            continue  # what more dates show changes nothing
        seen.add(site.sample.name)
        if site.name in skipped:
            run.notify(f"{method.name} is not scored at {site.name}: {skipped[site.name]}")
            continue
        others = choose_others(method, site, run.sites, mixed=run.suite.mixed)
        chosen = trained or open_model(method, site, others, weights=run.weights, notify=run.notify)
        if method.training is not None:
            trained = chosen
            if reason := _find_misfit(chosen, site.sample, mixed=run.suite.mixed):
                skipped[site.name] = reason
                continue
        prediction, seconds = _predict(method, chosen, _show(method, site))
        results[site.name] = judge(run.suite, method, chosen, site.sample, prediction, seconds)
        run.notify(f"{method.name} at {site.name}: {results[site.name].headline}, {seconds:.1f} s")
    if not results and not run.suite.scenes:
        raise SpecError(f"{method.name} fits none of the sites: {next(iter(skipped.values()))}")
    return results, skipped


def _show(method: MethodConfig, site: Site) -> Sample:
    """Return what a method may see of a site."""
    if method.group == "truth":
        return site.sample
    return site.with_true_shifts if method.shifts == "known" else site.blind


def _find_misfit(chosen: SiteModel, sample: Sample, *, mixed: bool) -> str:
    """Return why a model that was trained elsewhere does not fit a site; empty where it does.

    Raises:
        ContractError: If sites are not mixed and it does not.
    """
    if isinstance(chosen.model, Solver):
        return ""
    try:
        sample.check(chosen.model.contract)
    except ContractError as error:
        if not mixed:
            raise
        return str(error)
    return ""


def _predict(method: MethodConfig, chosen: SiteModel, sample: Sample) -> tuple[Estimate, float]:
    """Predict a site; return the prediction and the seconds that it takes once the model is warm."""
    if isinstance(chosen.model, Solver):
        start = time.perf_counter()
        return chosen.model(sample), time.perf_counter() - start
    if sample.stack:
        start = time.perf_counter()
        found = predict_sample(chosen.model, sample, samples=method.samples, steps=method.steps)
        if method.rounds:
            found = replace(found, mean=tie_to_source(found.mean, sample, rounds=method.rounds))
        return found, time.perf_counter() - start
    if chosen.whole:  # fitting is what takes the time: there is nothing to warm up
        predictor = Predictor(chosen.model, patch_px=max(sample.truth.shape))
        start = time.perf_counter()
        return predictor.sharpen(sample.guide, sample.source, sample.source_sd), time.perf_counter() - start
    predict_sample(chosen.model, sample.cut_corner(_WARM_UP_PX))
    start = time.perf_counter()
    return predict_sample(chosen.model, sample), time.perf_counter() - start


def _judge(
    suite: Suite, method: MethodConfig, chosen: SiteModel, sample: Sample, prediction: Estimate, seconds: float
) -> Result:
    """Compare what a model gave with the truth, as a map would hold it: the source honoured, within its bounds.

    Raises:
        SpecError: If the suite asks for the label's own resolution, and the label has no other than its pixels.
    """
    target = suite.describe_target(sample.source_units)
    value = BlockMean(sample.scale).enforce(
        prediction.mean,
        sample.source,
        sample.source_sd,
        mode=method.consistency,
        bounds=target.bounds,
    )
    truth = sample.known_truth
    tally = Tally.of(value, truth, sample.source, target=target, ground=sample.ground)
    value = np.where(np.isfinite(truth), value, np.float32(np.nan))
    sees_source_sd = not isinstance(chosen.model, Solver) and chosen.model.contract.sees_source_sd
    sd = deviation(prediction, sample, sees_source_sd=sees_source_sd)
    return Result(
        value=value,
        sd=sd,
        tally=tally,
        native=_score_native(suite, sample.name, value, truth, tally.score.metrics) if suite.native else None,
        uncertainty=None if sd is None else Uncertainty.of(value - truth, sd, target=target),
        seconds=seconds,
        weights=chosen.name,
        parameters=chosen.parameters,
        device=chosen.device,
    )


def deviation(prediction: Estimate, sample: Sample, *, sees_source_sd: bool) -> Float32Array | None:
    """Return the standard deviation that a map would store; None where the model gives none."""
    return prediction.total_sd(expand(sample.source_sd, sample.scale), sees_source_sd=sees_source_sd)


def _score_native(
    suite: Suite, site: str, value: Float32Array, truth: Float32Array, metrics: Mapping[str, Metric]
) -> Score:
    try:
        return Score.of(*drop_repeats(value, truth), metrics=metrics)
    except ValueError as error:
        raise SpecError(f"suite {suite.name} asks for native resolution, but {site} has none: {error}") from error


def _notes(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Return notes on methods that were not scored where others were: sites that do not fit, pixels without a value."""
    most: dict[str, int] = {}
    for outcome in outcomes:
        for site, result in outcome.results.items():
            most[site] = max(most.get(site, 0), result.score.n)
    notes = []
    for outcome in outcomes:
        total = sum(most[site] for site in outcome.results)
        lacking = total - outcome.scores.pooled.n
        notes += [f"{outcome.method.name} has no value on {lacking} of {total} pixels"] if lacking else []
        notes += _list_skipped([outcome], ())
    return tuple(notes)


def _list_skipped(outcomes: Sequence[Outcome | SceneOutcome], sites: Sequence[Site]) -> list[str]:
    """Return a note for each reason why a method was not scored at some sites, or at groups of them."""
    groups, notes = {site.name: site.group or site.name for site in sites}, []
    for outcome in outcomes:
        for reason in dict.fromkeys(outcome.skipped.values()):
            names = (groups.get(site, site) for site, own in outcome.skipped.items() if own == reason)
            where = ", ".join(dict.fromkeys(names))
            notes.append(f"{outcome.method.name} is not scored at {where}: {reason}")
    return notes
