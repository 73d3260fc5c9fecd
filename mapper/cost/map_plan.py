"""A plan of one map with all that is estimated of it, put together when it is asked for."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mapper.cost.estimate import Device, Estimate, PlanSummary, estimate_tasks, explain_plan
from mapper.cost.forecast import Forecast, make_forecast
from mapper.cost.phases import Schemes, compare_phases
from mapper.cost.prices import Prices
from mapper.markup.html import Markup, make_card, to_html
from mapper.plan.job import Job
from mapper.plan.pending import Pending

_REASONS_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class MapPlan:
    """A plan of one map, explained: printed, it says what ``mapper plan`` says."""

    job: Job
    """Items, tasks and what they share."""
    prices: Prices | None = None
    device: Device | None = None
    """Device that networks are to run on; None takes that of the tiles that have run."""
    guide: str | None = None
    """Location of a guide that is composed already."""

    def __len__(self) -> int:
        return len(self.job.plan)

    def __str__(self) -> str:
        parts = [f"{self.summary.summary()}\n{self._describe_pending()}", self.forecast.summary()]
        return "\n\n".join([*parts, *([self.phases.summary()] if self.phases else [])])

    @cached_property
    def estimate(self) -> Estimate:
        """Estimates by task."""
        return estimate_tasks(self.job.context, self.job.plan.tasks)

    @cached_property
    def summary(self) -> PlanSummary:
        """Tiles, scenes, bytes and memory."""
        return explain_plan(self.job.plan, self.job.context, estimate=self.estimate)

    @cached_property
    def pending(self) -> Pending:
        """Tiles that are done or due, and why."""
        return self.job.pending()

    @cached_property
    def forecast(self) -> Forecast:
        """Hours and cost, calibrated by the tiles that have run."""
        job = self.job
        return make_forecast(
            job.plan, job.context, self.estimate, ledger=job.ledger, prices=self.prices, device=self.device
        )

    @cached_property
    def phases(self) -> Schemes | None:
        """The map in one go held against its guide first; None for a model that reads no guide."""
        return compare_phases(self.job, self.estimate, self.forecast, prices=self.prices, location=self.guide)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        pending = self.pending
        due = [{"tile": str(due.task.tile), "cause": due.cause, "reason": due.reason} for due in pending.todo]
        return {
            "file": self.job.path and str(self.job.path),
            **self.summary.to_dict(),
            "forecast": self.forecast.to_dict(),
            "two_phases": self.phases and self.phases.to_dict(),
            "done": len(pending.done),
            "due": due,
        }

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        text = Markup(f"<pre>{to_html(str(self))}</pre>")
        return self.job.plan._repr_html_() + make_card("What a run would do and take", text)

    def _describe_pending(self) -> str:
        pending = self.pending
        head = f"done          {len(pending.done)}, due {len(pending.todo)} {dict(pending.causes) or ''}"
        return "\n".join([head, *(f"  tile {due.task.tile}: {due.reason}" for due in pending.todo[:_REASONS_SHOWN])])
