"""One map, ready to be run: its description, items, plan and context, kept in files beside its MAP.yaml."""

from dataclasses import dataclass
from pathlib import Path

from mapper.catalog.inventory import inventory_path, take_inventory
from mapper.catalog.items import Items
from mapper.run.context import MapContext, RunOptions, make_context
from mapper.run.plan import Plan, make_plan
from mapper.run.plan_file import save_plan
from mapper.run.resume import Pending, find_pending
from mapper.spec import MapSpec, read_spec
from mapper.store.ledger import Ledger, read_ledger
from mapper.store.repository import check_store, store_exists


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a run needs, frozen."""

    spec: MapSpec
    items: Items
    context: MapContext
    plan: Plan
    path: Path
    """Where the plan is kept."""
    ledger: Ledger | None
    """Of the store as it is; None if there is no store yet."""

    def pending(self) -> Pending:
        """What is done, what is due, and why."""
        return find_pending(self.plan, self.ledger)

    def freeze(self) -> None:
        """Keep the plan beside the map description."""
        save_plan(self.plan, self.path)


def prepare_job(
    map_path: Path,
    *,
    only: str | None = None,
    refresh: bool = False,
    options: RunOptions | None = None,
    worker_memory: int | None = None,
) -> Job:
    """Read a map description, find its items, check that everything fits, and plan.

    Args:
        map_path: The MAP.yaml; its items are kept beside it.
        only: Tiles to take, see :mod:`mapper.run.selection`.
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
        check_store(spec.store, spec=spec)
        ledger = read_ledger(spec.store)
    items = take_inventory(spec, inventory_path(map_path), refresh=refresh)
    plan = make_plan(spec, items, context=context, only=only, ledger=ledger, worker_memory=worker_memory)
    return Job(
        spec=spec, items=items, context=context, plan=plan, path=map_path.with_suffix(".plan.json.gz"), ledger=ledger
    )
