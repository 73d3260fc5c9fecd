"""Findings of a suite: the map and scores of each method at each site, and their sums by method."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, Generic, Protocol, TypeVar

from mapper.arrays import Float32Array
from mapper.benchmark.suite import MethodConfig, Suite
from mapper.evaluation.score import Score, Scores, pool, rounded
from mapper.evaluation.tally import Tally, Uncertainty
from mapper.evaluation.uncertainty import Coverage
from mapper.spec.target import BandSpec
from mapper.training.sample import Sample

YARDSTICK = "bicubic"
"""The method that others are divided by."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """One method at one site."""

    value: Float32Array
    """(y, x) in target units; NaN where nothing is scored."""
    sd: Float32Array | None
    """(y, x) standard deviation of the value; None where the model gives none."""
    tally: Tally
    """Scores, errors by class of the truth and scatter."""
    native: Score | None
    """Score at the label's own resolution; None where the suite does not ask for it."""
    uncertainty: Uncertainty | None
    """Counts of the standard deviation; None where the model gives none."""
    seconds: float
    """From arrays in memory to arrays in memory; loading and warming up are not in it."""
    weights: str
    """Name of the model at this site."""
    parameters: int
    device: str
    """Device that predicted, and on a CPU the number of threads."""

    @property
    def score(self) -> Score:
        """Scores on the pixels of the map."""
        return self.tally.score

    @property
    def headline(self) -> str:
        """The score that is told while a suite runs."""
        return f"RMSE {self.score.value('rmse'):.2f}"

    @property
    def pixels(self) -> int:
        """Number of pixels that were predicted."""
        return int(self.value.size)


class Measured(Protocol):
    """What a method made of one site, and what it took."""

    @property
    def pixels(self) -> int:
        """Number of target pixels that were predicted."""

    @property
    def seconds(self) -> float:
        """From arrays in memory to arrays in memory."""

    @property
    def parameters(self) -> int:
        """Number of parameters."""


R_co = TypeVar("R_co", bound=Measured, covariant=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodOutcome(Generic[R_co]):
    """One method at all sites."""

    method: MethodConfig
    results: Mapping[str, R_co]
    """Results by name of the site."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Reasons why it was not scored, by name of the site."""

    @property
    def parameters(self) -> int:
        """Number of parameters of the largest model, should they differ from site to site."""
        return max(result.parameters for result in self.results.values())

    @property
    def mpx_per_second(self) -> float:
        """Millions of target pixels in a second, from arrays in memory to arrays in memory."""
        seconds = sum(result.seconds for result in self.results.values())
        return sum(result.pixels for result in self.results.values()) / 1e6 / max(seconds, 1e-9)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome(MethodOutcome[Result]):
    """One method at all sites of maps of one band."""

    @property
    def scores(self) -> Scores:
        """Scores on the pixels of the map."""
        return Scores(sites={name: result.score for name, result in self.results.items()})

    @property
    def rmse(self) -> float:
        """RMSE over all pixels of all sites, in target units."""
        return self.scores.pooled.value("rmse")

    @property
    def native(self) -> Scores | None:
        """Scores at the label's own resolution; None where the suite does not ask for it."""
        native = {name: result.native for name, result in self.results.items() if result.native is not None}
        return Scores(sites=native) if native else None

    @property
    def tally(self) -> Tally:
        """Everything that was counted, all sites together."""
        return reduce(add, (result.tally for result in self.results.values()))

    @property
    def uncertainty(self) -> Uncertainty | None:
        """Counts of the standard deviation, all sites together; None where the model gives none."""
        known = [result.uncertainty for result in self.results.values() if result.uncertainty is not None]
        return reduce(add, known) if known else None

    @property
    def coverage(self) -> Coverage | None:
        """Coverage of all sites together; None where the model gives no standard deviation."""
        return self.uncertainty.coverage if self.uncertainty else None

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pixels, for JSON."""
        return {
            "method": self.method.model_dump(mode="json", exclude_none=True),
            "weights": {name: result.weights for name, result in self.results.items()},
            "parameters": self.parameters,
            "mpx_per_second": rounded(self.mpx_per_second),
            "scores": self.scores.to_dict(),
            "native": self.native.to_dict() if self.native else None,
            "bins": self.tally.bins.to_dict(),
            "coverage": self.coverage.to_dict() if self.coverage else None,
            "coverage_places": {
                name: result.uncertainty.coverage.to_dict()
                for name, result in self.results.items()
                if result.uncertainty
            },
            **self._describe_terrain(),
            **({"skipped": dict(self.skipped)} if self.skipped else {}),
        }

    def _describe_terrain(self) -> dict[str, Any]:
        """Return what was counted about heights of the ground, for JSON; nothing for other targets."""
        known = {name: result.tally.terrain for name, result in self.results.items() if result.tally.terrain.counted}
        if not known:
            return {}
        places = {name: terrain.to_dict() for name, terrain in known.items()}
        return {"terrain": {"pooled": reduce(add, known.values()).to_dict(), "places": places}}


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """Findings of a suite."""

    suite: Suite
    samples: Mapping[str, Sample]
    """Guide, source and truth by name of the site."""
    outcomes: tuple[Outcome, ...]
    device: str
    """Device that predicted, and the number of threads."""
    notes: tuple[str, ...] = field(default=())
    """Notes that a reader needs beside the figures."""

    @property
    def units(self) -> str:
        """Units of the target."""
        return next(iter(self.samples.values())).source_units

    @property
    def target(self) -> BandSpec:
        """Properties of what is scored."""
        return self.suite.describe_target(self.units)

    @property
    def yardstick(self) -> Outcome | None:
        """The outcome that others are divided by; None if it is not in the suite or was not asked for."""
        return next((outcome for outcome in self.outcomes if outcome.method.model == YARDSTICK), None)

    def ratio(self, outcome: Outcome) -> float:
        """Return pooled RMSE / that of the yardstick at the same sites; NaN without one."""
        if self.yardstick is None:
            return float("nan")
        sites = self.yardstick.scores.sites
        same = pool(sites[name] for name in outcome.results if name in sites)
        return outcome.rmse / same.value("rmse")

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pixels, for JSON."""
        return {
            "suite": self.suite.name,
            "title": self.suite.title,
            "units": self.units,
            "device": self.device,
            "notes": list(self.notes),
            "places": {
                name: {
                    "shape": list(sample.truth.shape),
                    "scale": sample.scale,
                    "source": sample.degradation,
                    "digest": sample.digest,
                }
                for name, sample in self.samples.items()
            },
            "methods": {
                outcome.method.name: outcome.to_dict() | {"ratio_to_bicubic": rounded(self.ratio(outcome))}
                for outcome in self.outcomes
            },
        }
