"""Findings of a suite of scenes: scores of each method at each scene, by the number of dates that it was shown."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from mapper.arrays import FloatArray
from mapper.benchmark.ground_methods import Solver
from mapper.benchmark.methods import SiteModel
from mapper.benchmark.results import MethodOutcome
from mapper.benchmark.sensor_view import SensorView
from mapper.benchmark.sites import Site
from mapper.benchmark.speed import count_scene_macs
from mapper.benchmark.suite import MethodConfig, Suite
from mapper.errors import SpecError
from mapper.evaluation.fidelity import fit_affine
from mapper.evaluation.scene_score import METHOD_METRICS, SCENE_METRICS, score_scene
from mapper.evaluation.score import rounded
from mapper.evaluation.tables import SEES_TRUTH, Cell, Column, Table
from mapper.evaluation.uncertainty import Coverage, cover_by_sd, find_worst_coverage
from mapper.predict.predictor import Estimate
from mapper.training.sample import Sample

_DIGITS = {"dB": 2, "px": 2, "source px": 3, "degrees": 3, "units": 5}
_ORDER = "dates: the anchor first, then those most like it, none unlike it; simulated ones as they were drawn"


@dataclass(frozen=True, kw_only=True)
class SceneResult:
    """One method at one scene, with so many dates."""

    scores: Mapping[str, float]
    """By name, see :data:`~mapper.evaluation.scene_score.SCENE_METRICS`; NaN where there is none."""
    coverage: tuple[Coverage, ...]
    """Counts of errors within intervals, by decile of the standard deviation; none where the model gives no such."""
    pixels: int
    """Number of target pixels, whatever the number of bands."""
    macs: float
    """Multiply-accumulates of convolutions and matrix products for a target pixel of all bands."""
    seconds: float
    weights: str
    parameters: int
    device: str

    @property
    def headline(self) -> str:
        """The score that is told while a suite runs."""
        return f"PSNR {self.scores['psnr']:.2f} dB"


def judge_scene(
    suite: Suite, method: MethodConfig, chosen: SiteModel, sample: Sample, prediction: Estimate, seconds: float
) -> SceneResult:
    """Compare what a model gave with the truth of a scene.

    Raises:
        SpecError: If nobody declares a range of values.
    """
    value_range = sample.value_range or suite.data_range
    if value_range is None:
        raise SpecError(f"nobody declares the range of the values of {sample.name}: give its data a value_range")
    value: FloatArray = prediction.mean
    if method.affine:
        value = fit_affine(value, sample.truth)
    view = SensorView.which_made(sample)
    scores = score_scene(value, sample.truth, sample.source, operator=view, value_range=value_range)
    return SceneResult(
        scores=scores,
        coverage=() if prediction.sd is None else cover_by_sd(prediction.mean - sample.truth, prediction.sd),
        pixels=int(np.prod(sample.truth.shape[-2:])),
        macs=_count(method, chosen, sample),
        seconds=seconds,
        weights=chosen.name,
        parameters=chosen.parameters,
        device=chosen.device,
    )


def _count(method: MethodConfig, chosen: SiteModel, sample: Sample) -> float:
    if isinstance(chosen.model, Solver):
        return 0.0
    return count_scene_macs(chosen.model, sample, samples=method.samples, steps=method.steps)


SceneOutcome = MethodOutcome[SceneResult]
"""One method at all scenes; names of sites say how many dates were shown."""


@dataclass(frozen=True, kw_only=True)
class SceneReport:
    """Findings of a suite of scenes."""

    suite: Suite
    sites: tuple[Site, ...]
    outcomes: tuple[SceneOutcome, ...]
    notes: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the tables: a scene each, or simulations whose mean is taken."""
        return tuple(dict.fromkeys(site.group for site in self.sites))

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of the tables; those in units are in those of the scene."""
        every = {**SCENE_METRICS, **METHOD_METRICS}
        names = self.suite.metrics or tuple(every)
        scores = (
            Column(key=m.name, title=m.title, units=m.units, digits=_DIGITS.get(m.units, 3), better=m.better)
            for m in (every[name] for name in names)
        )
        return (Column(key="dates", title="dates"), *scores)

    def rows(self, group: str) -> Iterator[dict[str, Cell]]:
        """Give a row for each method and number of dates: the means over the scenes of a group."""
        for outcome in self.outcomes:
            for number in dict.fromkeys(site.dates for site in self.sites if site.group == group):
                names = [site.name for site in self.sites if (site.group, site.dates) == (group, number)]
                results = [outcome.results[name] for name in names if name in outcome.results]
                if results:
                    seeing: dict[str, Cell] = {"group": SEES_TRUTH} if outcome.method.group == "truth" else {}
                    yield {**seeing, "method": outcome.method.name, "dates": number, **_average(results)}

    def tables(self) -> list[Table]:
        """Return a table for each group."""
        return [
            Table(title=f"## {self._describe_group(group)}", columns=self.columns, rows=list(self.rows(group)))
            for group in self.groups
        ]

    def to_text(self) -> str:
        """Return the report in Markdown: how it was made, and a table for each scene or group of simulations."""
        methods = [
            f"{outcome.method.name} {outcome.parameters:,} parameters, {outcome.mpx_per_second:.2f} Mpx/s"
            for outcome in self.outcomes
        ]
        lines = [_ORDER, "`affine` scores are after a + b x per band: two numbers leak", *self.suite.remarks, *methods]
        lines += self.notes
        parts = [f"# {self.suite.title}", "\n".join(f"- {line}" for line in lines)]
        return "\n\n".join([*parts, *(table.to_markdown().strip() for table in self.tables())]) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return all scores, for JSON."""
        return {
            "suite": self.suite.name,
            "title": self.suite.title,
            "order_of_dates": _ORDER,
            "device": ", ".join(
                sorted({result.device for outcome in self.outcomes for result in outcome.results.values()})
            ),
            "remarks": list(self.suite.remarks),
            "notes": list(self.notes),
            "metrics": {
                m.name: {"units": m.units, "better": m.better}
                for m in (*SCENE_METRICS.values(), *METHOD_METRICS.values())
            },
            "places": {site.name: self._describe_site(site) for site in self.sites},
            "methods": {outcome.method.name: self._describe_outcome(outcome) for outcome in self.outcomes},
            "table": {
                group: [{key: _to_number(cell) for key, cell in row.items()} for row in self.rows(group)]
                for group in self.groups
            },
        }

    def _describe_group(self, group: str) -> str:
        samples = {site.sample.name: site.sample for site in self.sites if site.group == group}
        first = next(iter(samples.values()))
        value_range = first.value_range or self.suite.data_range
        mean = f", mean of {len(samples)}" if len(samples) > 1 else ""
        return f"{group} (x{first.scale}{mean}; PSNR of a range of {value_range:g}, units {first.source_units})"

    def _describe_site(self, site: Site) -> dict[str, Any]:
        sample = site.sample
        psf = SensorView.of(sample).psf
        return {
            "group": site.group,
            "dates": site.dates,
            "shape": list(sample.truth.shape),
            "scale": sample.scale,
            "units": sample.source_units,
            "value_range": sample.value_range or self.suite.data_range,
            "psf": psf.model_dump(),
            "seen_through": SensorView.which_made(sample).psf.model_dump(),
            "source": sample.degradation,
            "digest": sample.digest,
        }

    def _describe_outcome(self, outcome: SceneOutcome) -> dict[str, Any]:
        return {
            "method": outcome.method.model_dump(mode="json", exclude_none=True),
            "weights": sorted({result.weights for result in outcome.results.values()}),
            "parameters": outcome.parameters,
            "mpx_per_second": rounded(outcome.mpx_per_second),
            "scores": {
                name: {key: _to_number(value) for key, value in _average([result]).items()}
                for name, result in outcome.results.items()
            },
            **({"skipped": dict(outcome.skipped)} if outcome.skipped else {}),
        }


def _average(results: Sequence[SceneResult]) -> dict[str, Cell]:
    """Return the mean of each score over scenes, and what a method is beside: intervals of all errors, cost."""
    means: dict[str, Cell] = {
        name: float(np.mean([result.scores[name] for result in results])) for name in results[0].scores
    }
    mpx = sum(result.pixels for result in results) / 1e6
    macs = sum(result.macs * result.pixels for result in results)
    cost = {"s_per_mpx": sum(result.seconds for result in results) / mpx, "tflop_per_mpx": 2 * macs / 1e12 / mpx}
    return means | _cover(results) | {name: value or None for name, value in cost.items()}


def _cover(results: Sequence[SceneResult]) -> dict[str, Cell]:
    """Return the shares of all errors within intervals, and the least of a decile of the deviations of each scene."""
    known = [result.coverage for result in results if result.coverage]
    if not known:
        return {}
    deciles = [reduce(add, each) for each in zip(*known, strict=True)]
    total = reduce(add, deciles)
    shares: dict[str, Cell] = {f"in_{round(100 * level)}": total.share(level) for level in total.levels}
    return shares | {"least_in_90": find_worst_coverage(deciles, 0.9)}


def _to_number(value: Cell) -> Cell:
    """Return a number as JSON has it: None where it is not finite."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
