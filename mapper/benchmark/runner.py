"""Run a suite: read the places, make the models, predict, honour the source, score.

All methods are scored on the same pixels: where the truth and the source are known. A model is given guide, source and
the source's standard deviation of a place; its truth is only looked at when the map is finished.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mapper.arrays import Float32Array
from mapper.benchmark.methods import Contestant, check_method, open_contestant
from mapper.benchmark.results import Outcome, Report, Result
from mapper.benchmark.sites import Place, read_places
from mapper.benchmark.suite import MethodConfig, Suite
from mapper.errors import SpecError
from mapper.evaluation.label_resolution import drop_repeats
from mapper.evaluation.metric import Metric
from mapper.evaluation.score import Score
from mapper.evaluation.tally import Tally, Uncertainty
from mapper.predict.operators import BlockMean, spread
from mapper.predict.predictor import Estimate, Predictor
from mapper.training.sample import Sample
from mapper.training.trainer import predict_sample

Notify = Callable[[str], None]

_WARM_UP_PX = 200


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What all methods of one run share."""

    suite: Suite
    places: tuple[Place, ...]
    weights: Path
    notify: Notify


def run_suite(
    suite: Suite,
    *,
    work: Path,
    methods: Sequence[str] = (),
    include_slow: bool = False,
    notify: Notify = lambda _: None,
) -> Report:
    """Compare methods.

    Args:
        suite: Places and methods.
        work: Folder of the results: weights that are trained here go to ``weights/`` and are found there again.
        methods: Take only these.
        include_slow: Take slow ones too, where none are named.
        notify: Is told what is done.

    Raises:
        InputError: If a method or place is wrong or missing; found out before anything is trained.
    """
    chosen = suite.choose(methods, slow=include_slow)
    notify(f"reading the places of {suite.name}")
    places = read_places(suite.data)
    for method in chosen:
        check_method(method, places)
    run = _Run(suite=suite, places=places, weights=work / "weights", notify=notify)
    outcomes = tuple(_run_method(run, method) for method in chosen)
    return Report(
        suite=suite,
        samples={place.name: place.sample for place in places},
        outcomes=outcomes,
        device=", ".join(sorted({result.device for outcome in outcomes for result in outcome.results.values()})),
        notes=_notes(outcomes),
    )


def _run_method(run: _Run, method: MethodConfig) -> Outcome:
    results: dict[str, Result] = {}
    for place in run.places:
        others = [other for other in run.places if other is not place]
        contestant = open_contestant(method, place, others, weights=run.weights, notify=run.notify)
        prediction, seconds = _predict(contestant, place.blind)
        result = _judge(run.suite, method, contestant, place.sample, prediction, seconds)
        results[place.name] = result
        run.notify(f"{method.name} at {place.name}: RMSE {result.score.value('rmse'):.2f}, {seconds:.1f} s")
    return Outcome(method=method, results=results)


def _predict(contestant: Contestant, sample: Sample) -> tuple[Estimate, float]:
    """What a model makes of a place, and how long it takes once it is warm."""
    if contestant.whole:  # fitting is what takes the time: there is nothing to warm up
        predictor = Predictor(contestant.model, patch_px=max(sample.truth.shape))
        start = time.perf_counter()
        return predictor.sharpen(sample.guide, sample.source, sample.source_sd), time.perf_counter() - start
    predict_sample(contestant.model, _corner(sample))
    start = time.perf_counter()
    return predict_sample(contestant.model, sample), time.perf_counter() - start


def _judge(
    suite: Suite, method: MethodConfig, contestant: Contestant, sample: Sample, prediction: Estimate, seconds: float
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
    tally = Tally.of(value, truth, sample.source, target=target)
    value = np.where(np.isfinite(truth), value, np.float32(np.nan))
    sd = deviation(prediction, sample, sees_source_sd=contestant.model.contract.sees_source_sd)
    return Result(
        value=value,
        sd=sd,
        tally=tally,
        native=_score_native(suite, sample.name, value, truth, tally.score.metrics) if suite.native else None,
        uncertainty=None if sd is None else Uncertainty.of(value - truth, sd, target=target),
        seconds=seconds,
        weights=contestant.name,
        parameters=contestant.parameters,
        device=_describe_device(contestant),
    )


def deviation(prediction: Estimate, sample: Sample, *, sees_source_sd: bool) -> Float32Array | None:
    """Standard deviation that a map would store; None where the model gives none."""
    return prediction.total_sd(spread(sample.source_sd, sample.scale), sees_source_sd=sees_source_sd)


def _score_native(
    suite: Suite, site: str, value: Float32Array, truth: Float32Array, metrics: Mapping[str, Metric]
) -> Score:
    try:
        return Score.of(*drop_repeats(value, truth), metrics=metrics)
    except ValueError as error:
        raise SpecError(f"suite {suite.name} asks for native resolution, but {site} has none: {error}") from error


def _corner(sample: Sample) -> Sample:
    """A small piece, to warm up."""
    scale = sample.scale
    rows, cols = (min(edge, -(-_WARM_UP_PX // scale)) for edge in sample.source.shape)
    fine, coarse = np.s_[..., : rows * scale, : cols * scale], np.s_[:rows, :cols]
    return replace(
        sample,
        guide=sample.guide[fine],
        truth=sample.truth[fine],
        source=sample.source[coarse],
        source_sd=sample.source_sd[coarse],
    )


def _describe_device(contestant: Contestant) -> str:
    device = Predictor(contestant.model).device.type
    return "cpu, 1 thread" if device == "cpu" else device


def _notes(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Methods that were not scored on all pixels the others were scored on."""
    pixels: Mapping[str, int] = {outcome.method.name: outcome.scores.pooled.n for outcome in outcomes}
    most = max(pixels.values())
    return tuple(f"{name} has no value on {most - n} of {most} pixels" for name, n in pixels.items() if n < most)
