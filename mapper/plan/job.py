"""Jobs: a map, or its guide, ready to be run, with description, items, plan and context."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mapper import __version__
from mapper.catalog.inventory import inventory_path, open_inventory
from mapper.catalog.items import Items
from mapper.catalog.search import search
from mapper.errors import PlanError
from mapper.plan.context import Context, RunOptions, make_context
from mapper.plan.guide_context import halo_of, make_guide_context
from mapper.plan.memory import check_memory
from mapper.plan.pending import Pending, find_pending
from mapper.plan.plan import Plan, make_plan, select_indices
from mapper.plan.plan_file import load_plan, save_plan
from mapper.spec import MapSpec, read_spec
from mapper.store.ledger import Ledger
from mapper.store.map_store import MapStore

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class GuideOptions:
    """Options of a guide that is written as a product of its own."""

    location: str | None = None
    """Store of the guide; None takes :func:`guide_location`."""
    halo_px: int | None = None
    """Context around every tile of the map; None takes that of a store that exists, or what the model needs."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that a run of a map, or of its guide, needs; frozen."""

    spec: MapSpec
    items: Items
    context: Context
    plan: Plan
    """Plan of the tiles that were asked for."""
    whole: Plan
    """Plan of all tiles, as it is saved."""
    path: Path | None
    """File in which the plan is saved; None for a guide, and for a map that was not read from a file."""
    saved: bool
    """True if the plan is in that file already."""
    location: str
    """Store of the product."""
    ledger: Ledger | None
    """Ledger of the store as it is; None if there is no store yet."""

    def pending(self) -> Pending:
        """Return what is done, what is due, and why."""
        return find_pending(self.plan, self.ledger)

    def freeze(self) -> None:
        """Save the plan beside the map description, so that the next run need not plan."""
        if self.path and not self.saved:
            save_plan(self.whole, self.path, key=key_of(self.context, self.items))


def plan_path(map_path: Path) -> Path:
    """Return the file of the plan of a map description: ``map.yaml`` -> ``map.plan.parquet``."""
    return map_path.with_suffix(".plan.parquet")


def key_of(context: Context, items: Items) -> Mapping[str, str]:
    """Return all that a plan depends on, by what people call it; a saved plan is good while none of it changes."""
    return {
        "map": context.identity.spec,
        "grid": context.identity.grid,
        "model": context.identity.model,
        "provider": hashlib.sha256(context.provider.model_dump_json().encode()).hexdigest(),
        "set of items": items.seal or items.digest,
        "version of mapper": __version__,
    }


def prepare_job(
    source: Path | MapSpec,
    *,
    guide: GuideOptions | None = None,
    only: str | None = None,
    refresh: bool = False,
    options: RunOptions | None = None,
    worker_memory: int | None = None,
) -> Job:
    """Read a map description, find its items, check that everything fits, and plan, unless a good plan is saved.

    Args:
        source: The MAP.yaml, beside which items and plan are saved; or the map as read, of which nothing is saved.
        guide: Prepare the guide of the map as a product of its own; None prepares the map.
        only: Tiles to take, see :mod:`mapper.plan.selection`.
        refresh: Search even if items are saved.
        options: How tiles are computed.
        worker_memory: Bytes that one task may use; None does not check.

    Raises:
        InputError: If anything is wrong with the request; nothing was started.
        StoreMismatchError: If the store holds something else.
    """
    spec = source if isinstance(source, MapSpec) else read_spec(source)
    location = spec.store if guide is None else guide.location or guide_location(spec)
    context = make_context(spec, options=options)
    store = MapStore.find(location)
    if guide:
        held = halo_of(store.description) if store and guide.halo_px is None else guide.halo_px
        context = make_guide_context(context, halo_px=held)
    if store:
        store.check(context.product)
    ledger = store.ledger if store else None
    if isinstance(source, MapSpec):
        items = search(spec, margin_px=context.halo_px)
    else:
        items = open_inventory(spec, inventory_path(source), refresh=refresh, margin_px=context.halo_px)
    path = None if guide or isinstance(source, MapSpec) else plan_path(source)
    saved = _find_plan(path, context, items) if path else None
    whole = saved or make_plan(spec, items, context=context)
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
        path=path,
        saved=saved is not None,
        location=location,
        ledger=ledger,
    )


def _find_plan(path: Path, context: Context, items: Items) -> Plan | None:
    """Read the plan that is saved, if it is sound and nothing that it depends on has changed."""
    if not path.exists():
        return None
    try:
        return load_plan(path, items, key=key_of(context, items))
    except PlanError as error:
        _logger.info("planning again: %s", error)
        return None


def guide_location(spec: MapSpec) -> str:
    """Return the store of the guide of a map: ``map.icechunk`` -> ``map.guide.icechunk``."""
    parent, slash, name = spec.store.rstrip("/").rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    return f"{parent}{slash}{stem}.guide{dot}{suffix}" if dot else f"{parent}{slash}{name}.guide"
