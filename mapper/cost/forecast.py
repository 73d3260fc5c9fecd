"""Forecast of requests, bytes, hours and money of a plan: estimated, calibrated by a pilot, compared with actuals.

A pilot is a run of some tiles into the same store, as ``mapper run MAP.yaml --every N`` makes one: its records say what
each tile took. While tiles are missing, all that have run calibrate the rest. Once the map is complete, the tiles of
its first run stand for the pilot, and what they foretold is held against the whole.

Hours are those that workers are busy with a tile, one tile each, retries and waiting for files included. They are not
wall time: that is less by the number of workers, and more by what the slowest of them waits for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mapper.arrays import Float64Array
from mapper.cost.actuals import QUANTITIES, Actuals, read_actuals
from mapper.cost.cost_table import CostRow, State, tabulate
from mapper.cost.estimate import Device, Estimate, estimate_tasks
from mapper.cost.prices import Prices
from mapper.cost.ratio_estimator import FEWEST_TILES, Calibration
from mapper.plan.context import Context
from mapper.plan.memory import tile_bytes
from mapper.plan.plan import Plan
from mapper.store.ledger import Ledger
from mapper.store.map_store import MapStore
from mapper.text import describe_amount

_GIB = 1 << 30


_HOUR = 3600


_Weights = Mapping[str, float]


_ROWS: Sequence[tuple[str, str, _Weights]] = (
    ("requests", "", {"requests": 1}),
    ("bytes read", "B", {"bytes": 1}),
    ("reading", "h", {"read": 1 / _HOUR}),
    ("prediction", "h", {"predict_cpu": 1 / _HOUR, "predict_cuda": 1 / _HOUR}),
    ("writing", "h", {"write": 1 / _HOUR}),
    ("CPU-hours", "h", {"read": 1 / _HOUR, "predict_cpu": 1 / _HOUR, "write": 1 / _HOUR}),
    ("GPU-hours", "h", {"predict_cuda": 1 / _HOUR}),
)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Forecast of what a plan will cost, and what is known of it."""

    tiles: int
    done: int
    """Tiles that have run and are up to date."""
    pilot: int
    """Tiles that the calibration comes from; 0 if there is none."""
    device: Device
    """Kind of device that networks are taken to run on."""
    predict_calibrated: bool
    """True if the pilot ran on that kind of device."""
    quantities: tuple[CostRow, ...]
    cost: tuple[CostRow, ...]
    """The parts, their total, and the total by tile and by million square kilometres; empty without prices."""
    prices: Prices | None

    @property
    def state(self) -> State:
        """Progress of the map."""
        return "complete" if self.done == self.tiles else "pilot" if self.done else "new"

    def to_dict(self) -> dict[str, Any]:
        """Return the forecast for JSON."""
        lines = {
            name: [asdict(line) | {"error": line.error} for line in getattr(self, name)]
            for name in ("quantities", "cost")
        }
        facts = {name: getattr(self, name) for name in ("tiles", "done", "pilot", "device", "predict_calibrated")}
        return facts | lines | {"prices": self.prices.model_dump(mode="json") if self.prices else None}

    def summary(self) -> str:
        """Return the forecast for people."""
        done = f"{self.done:,} of {self.tiles:,} tiles" if self.state == "pilot" else f"{self.tiles:,} tiles"
        parts = [tabulate("", self.quantities, state=self.state, done=done), self._explain()]
        if self.prices:
            title = f"cost in {self.prices.currency}"
            parts += ["", tabulate(title, self.cost, state=self.state, done=done)]
            parts.append(
                f"  prices of {self.prices.date}: {self.prices.source}\n"
                f"  the store is paid for {self.prices.months_stored:g} months before compression, "
                "a GPU only while it predicts"
            )
        return "\n".join(parts)

    def _explain(self) -> str:
        """Explain what the figures are worth."""
        notes = ["hours are those that workers are busy, a tile at a time each: not wall time"]
        if not self.pilot and self.state == "complete":
            notes.append("the map was made in one run: no pilot foretold it")
        elif not self.pilot:
            every = self.tiles // 20 or self.tiles // 5 or 1
            notes.append(
                f"not calibrated: {self.done} tiles have run, {FEWEST_TILES} are needed; hours may be far off\n"
                f"  a pilot comes first, for example: mapper run MAP.yaml --every {every}"
            )
        else:
            run = " of the first run" if self.state == "complete" else ""
            notes.append(
                f"calibrated by {self.pilot:,} tiles{run}: ranges hold while machines and archives stay as quick"
            )
        if self.pilot and not self.predict_calibrated:
            notes.append(f"prediction is not calibrated: no pilot ran on {self.device}")
        elif not self.pilot:
            notes.append(f"networks are taken to run on {self.device}")
        if self.device == "cuda" and not self.predict_calibrated:
            notes.append("seconds on a GPU are assumed, not measured: see mapper/cost/estimate.py")
        return "\n".join(f"  {note}" for note in notes)


def make_forecast(
    plan: Plan,
    context: Context,
    estimate: Estimate,
    *,
    ledger: Ledger | None = None,
    prices: Prices | None = None,
    device: Device | None = None,
) -> Forecast:
    """Forecast what a plan will cost.

    Args:
        plan: All tasks.
        context: What they share.
        estimate: Of the tasks, in the same order.
        ledger: Of the store; None if there is none yet.
        prices: None leaves the cost out.
        device: Where networks are to run; None takes what most tiles ran on, or the CPU.
    """
    stored = tile_bytes(context)
    actuals = read_actuals(plan, ledger, stored=stored)
    kind = device or actuals.common_device()
    calibration = _calibrate(estimate, actuals, kind, stored)
    weights = [(name, unit, _vector(parts)) for name, unit, parts in _ROWS]
    lines = tuple(_make_row(name, unit, vector, calibration, actuals) for name, unit, vector in weights)
    return Forecast(
        tiles=len(plan),
        done=actuals.done,
        pilot=int(calibration.pilot.sum()),
        device=kind,
        predict_calibrated=calibration.is_measured(_vector({f"predict_{kind}": 1})),
        quantities=lines,
        cost=_price(prices, calibration, actuals, estimate) if prices else (),
        prices=prices,
    )


def _calibrate(estimate: Estimate, actuals: Actuals, device: Device, stored: int) -> Calibration:
    estimated = np.zeros_like(actuals.spent)
    for name, values in (
        ("requests", estimate.reads.requests),
        ("bytes", estimate.reads.bytes_read),
        ("read", estimate.read_s),
        (f"predict_{device}", estimate.predict_s(device)),
        ("write", estimate.write_s),
        ("stored", stored),
    ):
        estimated[:, QUANTITIES.index(name)] = values
    known, pilot, fits_device = actuals.choose_pilot(device)
    measured = np.array([name != "stored" and not name.startswith("predict") for name in QUANTITIES])
    measured[QUANTITIES.index(f"predict_{device}")] = fits_device
    return Calibration(estimated=estimated, actual=actuals.spent, known=known, pilot=pilot, measured=measured)


def _vector(parts: _Weights) -> Float64Array:
    return np.array([parts.get(name, 0.0) for name in QUANTITIES])


def _make_row(name: str, unit: str, weights: Float64Array, calibration: Calibration, actuals: Actuals) -> CostRow:
    has_run = actuals.known
    total = calibration.total(weights)
    return CostRow(
        name=name,
        unit=unit,
        estimated=float((calibration.estimated @ weights).sum()),
        calibrated=total.mid if total else None,
        low=total.low if total else None,
        high=total.high if total else None,
        actual=float((calibration.actual @ weights).sum()) if has_run.any() else None,
        expected=float((calibration.estimated[has_run] @ weights).sum()) if has_run.any() else None,
    )


def _price(prices: Prices, calibration: Calibration, actuals: Actuals, estimate: Estimate) -> tuple[CostRow, ...]:
    memory = float(estimate.memory_bytes.max()) / _GIB
    hour, busy = 1 / _HOUR, ("read", "predict_cpu", "predict_cuda", "write")
    on_cpu = prices.vcpu_hour * prices.vcpus_per_worker * hour
    parts = {
        "vCPU": _vector(dict.fromkeys(("read", "predict_cpu", "write"), on_cpu)),
        "GPU": _vector({"predict_cuda": prices.gpu_hour * hour}),
        "memory": _vector(dict.fromkeys(busy, prices.memory_gib_hour * memory * hour)),
        "reading": _vector({"bytes": prices.read_gib / _GIB}),
        "requests": _vector({"requests": prices.requests_1000 / 1000}),
        "storage": _vector({"stored": prices.stored_gib_month * prices.months_stored / _GIB}),
    }
    lines = [_make_row(name, prices.currency, vector, calibration, actuals) for name, vector in parts.items()]
    has_run = actuals.known
    total = _make_row("total", prices.currency, np.sum(list(parts.values()), axis=0), calibration, actuals)
    lines += [total, total.scaled("per tile", by=len(has_run), by_done=float(has_run.sum()))]
    area, area_done = estimate.area_km2.sum() / 1e6, estimate.area_km2[has_run].sum() / 1e6
    return (*lines, *([total.scaled("per Mkm2", by=area, by_done=area_done)] if area else []))


_QUANTITIES = ("CPU-hours", "GPU-hours", "bytes read")


_COST = ("total", "per tile", "per Mkm2")


def forecast_again(plan: Plan, context: Context, prices: Prices | None = None) -> Forecast:
    """Forecast a plan by what is in the store of its map now."""
    estimate, ledger = estimate_tasks(context, plan.tasks), MapStore.open(context.spec.store).ledger
    return make_forecast(plan, context, estimate, ledger=ledger, prices=prices)


def compare(forecast: Forecast) -> str:
    """Return actual beside estimated, of the tiles that have run; empty if none has."""
    quantities = [line for line in forecast.quantities if line.name in _QUANTITIES]
    parts = [f"{line.name.removesuffix(' read')} {_both(line)}" for line in quantities if line.actual or line.expected]
    if forecast.prices:
        named = {line.name: line for line in forecast.cost}
        cost = [f"{name} {_both(named[name])}" for name in _COST if name in named]
        parts.append(f"cost in {forecast.prices.currency}: {', '.join(cost)}")
    if not forecast.done or not parts:
        return ""
    return f"took (estimated), {forecast.done:,} tiles: {'; '.join(parts)}"


def _both(line: CostRow) -> str:
    return f"{describe_amount(line.actual, line.unit)} ({describe_amount(line.expected, line.unit)})"
