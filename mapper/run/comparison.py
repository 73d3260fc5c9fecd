"""What a map took, held against what was estimated: one line at the end of a run."""

from mapper.run.context import MapContext
from mapper.run.estimate import estimate_tasks
from mapper.run.forecast import Forecast, make_forecast
from mapper.run.lines import Line, describe_amount
from mapper.run.plan import Plan
from mapper.run.prices import Prices
from mapper.store.ledger import read_ledger

_QUANTITIES = ("CPU-hours", "GPU-hours", "bytes read")
_COST = ("total", "per tile", "per Mkm2")


def forecast_again(plan: Plan, context: MapContext, prices: Prices | None = None) -> Forecast:
    """The forecast of a plan by what is in the store of its map now."""
    estimate, ledger = estimate_tasks(context, plan.tasks), read_ledger(context.spec.store)
    return make_forecast(plan, context, estimate, ledger=ledger, prices=prices)


def compare(forecast: Forecast) -> str:
    """Actual beside estimated, of the tiles that have run; empty if none has."""
    quantities = [line for line in forecast.quantities if line.name in _QUANTITIES]
    parts = [f"{line.name.removesuffix(' read')} {_both(line)}" for line in quantities if line.actual or line.expected]
    if forecast.prices:
        named = {line.name: line for line in forecast.cost}
        cost = [f"{name} {_both(named[name])}" for name in _COST if name in named]
        parts.append(f"cost in {forecast.prices.currency}: {', '.join(cost)}")
    if not forecast.done or not parts:
        return ""
    return f"took (estimated), {forecast.done:,} tiles: {'; '.join(parts)}"


def _both(line: Line) -> str:
    return f"{describe_amount(line.actual, line.unit)} ({describe_amount(line.expected, line.unit)})"
