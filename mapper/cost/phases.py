"""Two ways to make a map, and which is cheaper: all in one go, or the guide once and maps from it.

In one go, every worker reads archives and runs the network. Where networks run on GPUs, a GPU that waits for archives
is paid for all the same: its hours are those of the slower of the two, prediction by the GPU and reading by the vCPUs
that come with it. In two phases workers without a GPU read the archives once, every pixel of the guide but once, and
maps are made from what they wrote, as many as there are models to try.

Only what differs is counted: the store of the map is the same either way.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mapper.cost.estimate import LOCATE_SECONDS, WRITE_SECONDS, Device, Estimate, estimate_tasks
from mapper.cost.forecast import Forecast
from mapper.cost.prices import Prices
from mapper.plan.context import Context
from mapper.plan.guide_context import make_guide_context, read_guide_context, tiles_under
from mapper.plan.job import Job
from mapper.plan.memory import tile_bytes
from mapper.plan.pending import find_pending
from mapper.plan.plan import make_plan
from mapper.store.map_store import MapStore
from mapper.text import describe_bytes

VCPUS_OF_GPU = 8
"""vCPUs that come with a GPU and read for it, a tile at a time each."""


STORED_SECONDS = 1.2e-8
"""Seconds for each byte of a window that is read from a stored guide, to fetch and decode it."""


_HOUR = 3600


_GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Work:
    """Work of one phase."""

    read_h: float
    predict_h: float
    write_h: float
    bytes_read: float = 0.0
    """Bytes from archives."""
    requests: float = 0.0
    stored_bytes: float = 0.0
    """Bytes of a guide, before compression."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Cost of one phase."""

    cpu_h: float
    """Hours of workers without a GPU."""
    gpu_h: float
    """Hours that GPUs are paid for."""
    idle_h: float
    """GPU-hours in which the GPU waits for data."""
    stored_bytes: float
    cost: float | None
    """Amount in the currency of the prices; None without."""


@dataclass(frozen=True, kw_only=True)
class Schemes:
    """The two schemes side by side."""

    device: Device
    fused: Phase
    """A map in one go."""
    composite: Phase
    """The guide, once."""
    sharpen: Phase
    """A map from the guide."""
    composed: float
    """Share of the guide that is there already."""
    prices: Prices | None

    @property
    def unit(self) -> str:
        """Unit of the comparison: money, else hours of the dearest device."""
        if self.prices:
            return self.prices.currency
        return "GPU-hours" if self.device == "cuda" else "CPU-hours"

    @property
    def pays_from(self) -> int | None:
        """Number of maps from which on two phases are cheaper; None if they never are."""
        once = self._price(self.composite) * (1 - self.composed)
        saved = self._price(self.fused) - self._price(self.sharpen)
        return math.floor(once / saved) + 1 if saved > 0 else None

    @property
    def cheaper(self) -> str:
        """Cheaper way for a single map: ``one go`` or ``two phases``."""
        return "two phases" if self.pays_from == 1 else "one go"

    def _price(self, phase: Phase) -> float:
        if phase.cost is not None:
            return phase.cost
        return phase.gpu_h if self.device == "cuda" else phase.cpu_h

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison for JSON."""
        phases = {name: asdict(getattr(self, name)) for name in ("fused", "composite", "sharpen")}
        facts = {name: getattr(self, name) for name in ("device", "composed", "unit", "cheaper", "pays_from")}
        return facts | phases

    def summary(self) -> str:
        """Return the comparison for people."""
        names = ("in one go", "composite", "run --guide")
        phases = (self.fused, self.composite, self.sharpen)
        rows = [["two phases", *names]]
        rows.append(["CPU-hours", *(_show(phase.cpu_h) for phase in phases)])
        if self.device == "cuda":
            rows.append(["GPU-hours", *(_show(phase.gpu_h) for phase in phases)])
            rows.append(["  of these idle", *(_show(phase.idle_h) for phase in phases)])
        rows.append(["guide", *(describe_bytes(p.stored_bytes) if p.stored_bytes else "-" for p in phases)])
        if self.prices:
            rows.append([f"cost in {self.prices.currency}", *(_show(phase.cost or 0.0) for phase in phases)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
        return "\n".join([*lines, *(f"  {note}" for note in self._notes())])

    def _notes(self) -> list[str]:
        notes = [f"for one map, {self.cheaper} is cheaper in {self.unit}"]
        if self.pays_from is None:
            notes.append("a guide never pays: a map from it costs no less")
        elif self.pays_from > 1:
            notes.append(f"a guide pays from {self.pays_from} maps (models) on")
        if self.composed:
            notes.append(f"{self.composed:.0%} of the guide is there already and counts as paid".replace("%", " %"))
        if self.device == "cuda":
            notes.append(f"a GPU is taken to come with {VCPUS_OF_GPU} vCPUs, which read for it")
        return notes


def compare_schemes(
    fused: Work,
    composite: Work,
    sharpen: Work,
    *,
    device: Device,
    prices: Prices | None = None,
    composed: float = 0.0,
) -> Schemes:
    """Put a price on the two schemes.

    Args:
        fused: A map in one go.
        composite: The guide, once.
        sharpen: A map from the guide.
        device: Where networks run; guides are composed without a GPU.
        prices: None compares hours.
        composed: Share of the guide that is there already.
    """
    return Schemes(
        device=device,
        fused=_price_phase(fused, device, prices),
        composite=_price_phase(composite, "cpu", prices),
        sharpen=_price_phase(sharpen, device, prices),
        composed=composed,
        prices=prices,
    )


def estimate_works(
    context: Context, estimate: Estimate, guide: Context, composing: Estimate, forecast: Forecast
) -> tuple[Work, Work, Work]:
    """Estimate the work of a map in one go, of its guide, and of a map from it; calibrated where a pilot has run.

    Args:
        context: Of the map.
        estimate: Of its tasks.
        guide: Of its guide.
        composing: Of the tasks of the guide.
        forecast: Of the map.
    """
    factors = _factors_of(forecast)
    predict = float(estimate.predict_s(forecast.device).sum()) * factors["prediction"] / _HOUR
    write = float(estimate.write_s.sum()) * factors["writing"] / _HOUR
    fused = Work(
        read_h=float(estimate.read_s.sum()) * factors["reading"] / _HOUR,
        predict_h=predict,
        write_h=write,
        bytes_read=float(estimate.reads.bytes_read.sum()),
        requests=float(estimate.reads.requests.sum()),
    )
    stored = len(composing.tile_px) * tile_bytes(guide)
    composite = Work(
        read_h=float(composing.read_s.sum()) * factors["reading"] / _HOUR,
        predict_h=0.0,
        write_h=stored * WRITE_SECONDS / _bytes_of_pixel(context) * factors["writing"] / _HOUR,
        bytes_read=float(composing.reads.bytes_read.sum()),
        requests=float(composing.reads.requests.sum()),
        stored_bytes=float(stored),
    )
    window_px = float(estimate.window_px.sum())
    product, channels = guide.product, context.require_model().channels
    wanted = [*(product.channels[channel] for channel in channels), product.count, product.quality]
    pixel = sum(np.dtype(band.dtype).itemsize for band in wanted)
    sharpen = Work(
        # the source is read from its files as before
        read_h=window_px * (pixel * STORED_SECONDS + LOCATE_SECONDS) / _HOUR,
        predict_h=predict,
        write_h=write,
    )
    return fused, composite, sharpen


def _bytes_of_pixel(context: Context) -> float:
    return tile_bytes(context) / context.grid.tile_px**2


def _factors_of(forecast: Forecast) -> dict[str, float]:
    """Return calibrated / estimated of each kind of work; 1 where no pilot has run."""
    lines = {line.name: line for line in forecast.quantities}
    factors = {}
    for name in ("reading", "prediction", "writing"):
        line = lines[name]
        factors[name] = line.calibrated / line.estimated if line.calibrated and line.estimated else 1.0
    return factors


def _show(value: float) -> str:
    """Return a number with two decimals, more where these are 0."""
    return f"{value:,.2f}" if value >= 1 or not value else f"{value:.2g}"


def _price_phase(work: Work, device: Device, prices: Prices | None) -> Phase:
    around = work.read_h + work.write_h
    gpu_h = max(work.predict_h, around / VCPUS_OF_GPU) if device == "cuda" else 0.0
    cpu_h = around + work.predict_h if device == "cpu" else 0.0
    cost = None
    if prices:
        cost = cpu_h * prices.vcpu_hour * prices.vcpus_per_worker
        cost += gpu_h * (prices.gpu_hour + VCPUS_OF_GPU * prices.vcpu_hour)
        cost += work.bytes_read / _GIB * prices.read_gib + work.requests / 1000 * prices.requests_1000
        cost += work.stored_bytes / _GIB * prices.stored_gib_month * prices.months_stored
    return Phase(
        cpu_h=cpu_h,
        gpu_h=gpu_h,
        idle_h=max(0.0, gpu_h - work.predict_h) if device == "cuda" else 0.0,
        stored_bytes=work.stored_bytes,
        cost=cost,
    )


def compare_phases(
    job: Job, estimate: Estimate, forecast: Forecast, *, prices: Prices | None, location: str | None = None
) -> Schemes | None:
    """Hold a map in one go against its guide first and the map from it; None for a model that looks at no guide.

    Args:
        job: The map.
        estimate: Of its tasks.
        forecast: Of the map.
        prices: None compares hours.
        location: Of a guide that is there already, whole or in part.

    Raises:
        StoreMismatchError: If the store holds something else than the guide of this map.
    """
    if not job.context.reads("guide"):
        return None
    guide = read_guide_context(job.context, location) if location else make_guide_context(job.context)
    tiles = tiles_under(job.context, guide, job.plan.tasks)
    plan = make_plan(job.spec, job.items, context=guide, tiles=tiles)
    done = find_pending(plan, MapStore.open(location).ledger, explain=False).done if location else ()
    works = estimate_works(job.context, estimate, guide, estimate_tasks(guide, plan.tasks), forecast)
    return compare_schemes(*works, device=forecast.device, prices=prices, composed=len(done) / len(plan))
