"""One map, ready to be run: its description, items, plan and context, kept in files beside its MAP.yaml."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mapper import __version__
from mapper.catalog.inventory import inventory_path, open_inventory
from mapper.catalog.items import Items
from mapper.errors import PlanError
from mapper.plan.context import MapContext, RunOptions, make_context
from mapper.plan.guide_context import GuideContext, make_guide_context, read_halo
from mapper.plan.memory import check_memory
from mapper.plan.pending import Pending, find_pending
from mapper.plan.plan import Plan, make_plan, select_indices
from mapper.plan.plan_file import load_plan, save_plan
from mapper.spec import MapSpec, read_spec
from mapper.store.ledger import Ledger, read_ledger
from mapper.store.repository import check_store, store_exists

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a run needs, frozen."""

    spec: MapSpec
    items: Items
    context: MapContext
    plan: Plan
    """Of the tiles that were asked for."""
    whole: Plan
    """Of all tiles; what is kept."""
    path: Path
    """Where the plan is kept."""
    kept: bool
    """Whether that is what lies there already."""
    ledger: Ledger | None
    """Of the store as it is; None if there is no store yet."""

    def pending(self) -> Pending:
        """What is done, what is due, and why."""
        return find_pending(self.plan, self.ledger)

    def freeze(self) -> None:
        """Keep the plan beside the map description, so that the next run need not plan."""
        if not self.kept:
            save_plan(self.whole, self.path, key=key_of(self.context, self.items))


def plan_path(map_path: Path) -> Path:
    """Where the plan of a map description is kept: ``map.yaml`` -> ``map.plan.parquet``."""
    return map_path.with_suffix(".plan.parquet")


def key_of(context: MapContext, items: Items) -> Mapping[str, str]:
    """All that a plan depends on, by what people call it; a plan that is kept is good while none of it changes."""
    return {
        "map": context.spec_digest,
        "grid": context.grid.digest,
        "model": context.model_digest,
        "provider": hashlib.sha256(context.provider.model_dump_json().encode()).hexdigest(),
        "set of items": items.seal or items.digest,
        "version of mapper": __version__,
    }


def prepare_job(
    map_path: Path,
    *,
    only: str | None = None,
    refresh: bool = False,
    options: RunOptions | None = None,
    worker_memory: int | None = None,
) -> Job:
    """Read a map description, find its items, check that everything fits, and plan, unless a good plan is kept.

    Args:
        map_path: The MAP.yaml; its items and its plan are kept beside it.
        only: Tiles to take, see :mod:`mapper.plan.selection`.
        refresh: Search even if items are kept.
        options: How tiles are computed.
        worker_memory: Bytes that one task may use; None does not check.

    Raises:
        InputError: If anything is wrong with the request; nothing was started.
        StoreMismatchError: If the store belongs to another map.
    """
    spec = read_spec(map_path)
    context = make_context(spec, options=options)
    ledger = None
    if store_exists(spec.store):
        check_store(spec.store, product=context.product)
        ledger = read_ledger(spec.store)
    items = open_inventory(spec, inventory_path(map_path), refresh=refresh)
    kept = _find_plan(plan_path(map_path), context, items)
    whole = kept or make_plan(spec, items, context=context)
    chosen = select_indices(whole.tasks.indices, only, ledger) if only else None
    plan = whole if chosen is None else replace(whole, tasks=whole.tasks.take(chosen))
    if worker_memory is not None:
        check_memory(context, plan.tasks, worker_memory)
    return Job(
        spec=spec,
        items=items,
        context=context,
        plan=plan,
        whole=whole,
        path=plan_path(map_path),
        kept=kept is not None,
        ledger=ledger,
    )


def _find_plan(path: Path, context: MapContext, items: Items) -> Plan | None:
    """The plan that is kept, if it is sound and nothing that it depends on has changed."""
    if not path.exists():
        return None
    try:
        return load_plan(path, items, key=key_of(context, items))
    except PlanError as error:
        _logger.info("planning again: %s", error)
        return None


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
        only: Tiles to take, see :mod:`mapper.plan.selection`.
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
        check_store(location, product=context.product)
    items = open_inventory(spec, inventory_path(map_path), refresh=refresh)
    ledger = read_ledger(location) if exists else None
    plan = make_plan(spec, items, context=context, only=only, ledger=ledger, worker_memory=worker_memory)
    return GuideJob(spec=spec, items=items, context=context, plan=plan, location=location, ledger=ledger)


def guide_location(spec: MapSpec) -> str:
    """Where the guide of a map is kept: ``map.icechunk`` -> ``map.guide.icechunk``."""
    parent, slash, name = spec.store.rstrip("/").rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    return f"{parent}{slash}{stem}.guide{dot}{suffix}" if dot else f"{parent}{slash}{name}.guide"
