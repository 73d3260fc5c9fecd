"""Policy, callbacks and report of a run on the command line."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mapper.cli.printing import notify, print_json
from mapper.errors import InputError

if TYPE_CHECKING:
    from mapper.cost.map_plan import MapPlan
    from mapper.events import Callback
    from mapper.monitor.metrics import RunMetrics
    from mapper.plan.selection import Order
    from mapper.run.commit_loop import RunPolicy
    from mapper.run.report import RunReport


@contextmanager
def open_callbacks(
    log: Path | None, metrics_port: int | None, metrics_host: str = "127.0.0.1"
) -> Iterator[list["Callback"]]:
    """Yield the progress bar, and the other callbacks that were asked for.

    Args:
        log: File for JSON lines.
        metrics_port: Port for Prometheus; 0 takes a free one.
        metrics_host: Address that the port is on.

    Raises:
        InputError: If metrics cannot be served.
    """
    from mapper.monitor.progress import EventLog, ProgressBar

    callbacks: list[Callback] = [ProgressBar(), *([EventLog(log)] if log else [])]
    with ExitStack() as stack:
        if metrics_port is not None:
            callbacks.append(_open_metrics(stack, metrics_port, metrics_host))
        yield callbacks


def _open_metrics(stack: ExitStack, port: int, host: str) -> "RunMetrics":
    try:
        from mapper.monitor.metrics import serve_metrics
    except ImportError as error:
        raise InputError("--metrics-port needs prometheus-client: pip install 'mapper[worker]'") from error
    metrics, port = stack.enter_context(serve_metrics(port, host))
    notify(f"metrics on http://{host}:{port}/metrics")
    return metrics


def make_policy(
    commit_tiles: int, commit_seconds: float, failure_budget: int | None = None, order: "Order" = "blocks"
) -> "RunPolicy":
    """Return the policy of a run from the options of a command."""
    from mapper.run.commit_loop import RunPolicy

    return RunPolicy(
        commit_tiles=commit_tiles, commit_seconds=commit_seconds, failure_budget=failure_budget, order=order
    )


def print_run_report(report: "RunReport", planned: "MapPlan", *, as_json: bool) -> None:
    """Print the report of a run, and the cost of the map against its estimate."""
    from mapper.cost.forecast import compare, forecast_again

    if as_json:
        print_json(report.to_dict())
        return
    typer.echo(report.summary())
    job = planned.job
    if report.tiles and (line := compare(forecast_again(job.plan, job.context, planned.prices))):
        typer.echo(line)
