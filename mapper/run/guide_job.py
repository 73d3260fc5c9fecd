"""The guide of one map, ready to be composed, and a map ready to be made from it."""

from dataclasses import dataclass
from pathlib import Path

from mapper.catalog.inventory import inventory_path, open_inventory
from mapper.catalog.items import Items
from mapper.run.context import MapContext, RunOptions, make_context
from mapper.run.estimate import Estimate, estimate_tasks
from mapper.run.forecast import Forecast
from mapper.run.guide import GuideContext, make_guide_context
from mapper.run.guide_store import attach_guide, read_guide_context, read_halo, tiles_under
from mapper.run.job import Job
from mapper.run.plan import Plan, make_plan
from mapper.run.prices import Prices
from mapper.run.resume import Pending, find_pending
from mapper.run.schemes import Schemes, compare_schemes, estimate_works
from mapper.spec import MapSpec, read_spec
from mapper.store.ledger import Ledger, read_ledger
from mapper.store.repository import check_store, store_exists


@dataclass(frozen=True, kw_only=True)
class GuideJob:
    """Everything that composing a guide needs, frozen."""

    spec: MapSpec
    items: Items
    context: GuideContext
    plan: Plan
    location: str
    """Of the store of the guide."""
    ledger: Ledger | None
    """Of that store as it is; None if there is none yet."""

    def pending(self) -> Pending:
        """What is done, what is due, and why."""
        return find_pending(self.plan, self.ledger)


def prepare_guide(
    map_path: Path,
    *,
    location: str | None = None,
    halo_px: int | None = None,
    only: str | None = None,
    refresh: bool = False,
    options: RunOptions | None = None,
    worker_memory: int | None = None,
) -> GuideJob:
    """Read a map description, find its items, and plan its guide.

    Args:
        map_path: The MAP.yaml; its items are kept beside it.
        location: Of the guide's store; None takes :func:`guide_location`.
        halo_px: Context around every tile of the map; None takes that of a store that exists, or what the model needs.
        only: Tiles to take, see :mod:`mapper.run.selection`.
        refresh: Search even if items are kept.
        options: How tiles are read.
        worker_memory: Bytes that one task may use; None does not check.

    Raises:
        InputError: If anything is wrong with the request; nothing was started.
        StoreMismatchError: If the store holds something else.
    """
    spec = read_spec(map_path)
    location = location or guide_location(spec)
    exists = store_exists(location)
    if exists and halo_px is None:
        halo_px = read_halo(location)
    context = make_guide_context(make_context(spec, options=options), halo_px=halo_px)
    if exists:
        check_store(location, spec=context.product)
    items = open_inventory(spec, inventory_path(map_path), refresh=refresh)
    ledger = read_ledger(location) if exists else None
    plan = make_plan(spec, items, context=context, only=only, ledger=ledger, worker_memory=worker_memory)
    return GuideJob(spec=spec, items=items, context=context, plan=plan, location=location, ledger=ledger)


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
    if not job.context.reads_guide:
        return None
    guide = read_guide_context(job.context, location) if location else make_guide_context(job.context)
    tiles = tiles_under(job.context, guide, job.plan.tasks)
    plan = make_plan(job.spec, job.items, context=guide, tiles=tiles)
    done = find_pending(plan, read_ledger(location), explain=False).done if location else ()
    works = estimate_works(job.context, estimate, guide, estimate_tasks(guide, plan.tasks), forecast)
    return compare_schemes(*works, device=forecast.device, prices=prices, composed=len(done) / len(plan))


def guide_location(spec: MapSpec) -> str:
    """Where the guide of a map is kept: ``map.icechunk`` -> ``map.guide.icechunk``."""
    parent, slash, name = spec.store.rstrip("/").rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    return f"{parent}{slash}{stem}.guide{dot}{suffix}" if dot else f"{parent}{slash}{name}.guide"


def read_from_guide(job: Job, location: str) -> MapContext:
    """The context of a map whose tasks read their guide from a store; checked for all that is due.

    Raises:
        StoreMismatchError: If the store holds something else than the guide of this map.
        PlanError: If the guide does not reach far enough, is not complete, or was made from other items.
    """
    todo = find_pending(job.plan, job.ledger, explain=False).todo
    place = location if "://" in location else str(Path(location).absolute())
    return attach_guide(job.context, [due.task for due in todo], job.items, place)
