"""Command that writes the guide of a map, the first of two phases: `mapper composite`."""

from typing import TYPE_CHECKING, Annotated

import typer

from mapper.cli.options import (
    BudgetOption,
    ClusterOption,
    CommitSecondsOption,
    CommitTilesOption,
    DryRunOption,
    EveryOption,
    JsonOption,
    KeepOption,
    LogOption,
    MapArgument,
    OnlyOption,
    OrderOption,
    RefreshOption,
    SettingsOption,
    WorkersOption,
    kubernetes_options,
    selection_of,
)
from mapper.cli.printing import notify, print_due, print_json
from mapper.cli.run_callbacks import make_policy, open_callbacks

if TYPE_CHECKING:
    from mapper.plan.job import Job
    from mapper.run.report import RunReport

_OutOption = Annotated[
    str | None,
    typer.Option(metavar="STORE", help="Store of the guide; default: beside the map's, **map.guide.icechunk**."),
]
_HaloOption = Annotated[
    int | None,
    typer.Option(min=1, help="Pixels of context around every tile; default: what the map's model needs, rounded up."),
]

composite_app = typer.Typer(rich_markup_mode="markdown")


@composite_app.command()
def composite(  # noqa: PLR0913 - options of a command
    map_path: MapArgument,
    *,
    out: _OutOption = None,
    halo: _HaloOption = None,
    cluster: ClusterOption = "threads",
    settings: SettingsOption = None,
    keep_cluster: KeepOption = False,
    workers: WorkersOption = 0,
    only: OnlyOption = None,
    every: EveryOption = None,
    refresh: RefreshOption = False,
    dry_run: DryRunOption = False,
    commit_tiles: CommitTilesOption = 32,
    commit_seconds: CommitSecondsOption = 60,
    failure_budget: BudgetOption = None,
    order: OrderOption = "blocks",
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the guide of a map once, as a store of its own, for maps to be made from: the first of two phases.

    Reading archives takes many times as long as a network does. This reads them on machines without a GPU, and stores
    one image for each season and band, the number of valid observations, and where a channel is missing. Then **mapper
    run MAP.yaml --guide STORE** makes the map from it, as often as models change. The map is the same to the bit as
    that of **mapper run MAP.yaml** alone. **mapper plan MAP.yaml** shows which of the two is cheaper.

    It resumes where it stopped, and **status**, **verify**, **why** and **store** take STORE like that of a map. Any
    map with the same guide, period, grid and area can use it, if its model looks no farther than **--halo**.
    """
    from mapper.cluster.open_executor import memory_of_task, open_executor
    from mapper.plan.job import GuideOptions, prepare_job
    from mapper.run.runner import run_plan

    policy = make_policy(commit_tiles, commit_seconds, failure_budget, order)
    kubernetes = kubernetes_options(cluster, map_path, settings, keep=keep_cluster)
    memory = memory_of_task(cluster, workers, kubernetes=kubernetes)
    which = selection_of(only, every)
    guide = GuideOptions(location=out, halo_px=halo)
    job = prepare_job(map_path, guide=guide, only=which, refresh=refresh, worker_memory=memory)
    if dry_run:
        print_due(job.pending())
        return
    with open_executor(cluster, workers, kubernetes=kubernetes) as executor, open_callbacks(log, None) as callbacks:
        report = run_plan(job.plan, job.context, job.location, executor, callbacks=callbacks, policy=policy)
    _end(report, job, as_json=as_json)
    raise typer.Exit(report.exit_code)


def _end(report: "RunReport", job: "Job", *, as_json: bool) -> None:
    if as_json:
        print_json(report.to_dict() | {"store": job.location, "halo_px": job.context.halo_px})
        return
    typer.echo(report.summary())
    notify(f"the guide is in {job.location}, with {job.context.halo_px} px around every tile of the map")
