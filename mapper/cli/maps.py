"""Commands that make a map and explain it: demo, search, plan, run, verify, why."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn, cast

import typer
from rich.markup import escape

from mapper import api
from mapper.api import is_map, location_of
from mapper.cli.options import (
    BudgetOption,
    ClusterOption,
    CommitSecondsOption,
    CommitTilesOption,
    DryRunOption,
    EveryOption,
    GuideOption,
    JsonOption,
    KeepOption,
    LogOption,
    MapArgument,
    MetricsHostOption,
    MetricsOption,
    OnlyOption,
    OrderOption,
    PricesOption,
    RefreshOption,
    SettingsOption,
    StoreArgument,
    WorkersOption,
    kubernetes_options,
    selection_of,
)
from mapper.cli.printing import notify, print_comparison, print_due, print_json, print_months
from mapper.cli.run_callbacks import make_policy, open_callbacks, print_run_report
from mapper.spec import MapSpec, read_spec

if TYPE_CHECKING:
    from mapper.catalog.coverage import Coverage
    from mapper.plan.job import Job
    from mapper.run.pyramid import PyramidReport
    from mapper.run.report import RunReport
    from mapper.store.verify import VerifyReport

_NAMED = 12
"""Number of items that a message lists."""
maps_app = typer.Typer(rich_markup_mode="markdown")


@maps_app.command()
def demo(  # noqa: PLR0913 - options of a command
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="Where everything goes.", show_default="demo, or demo-PRESET"),
    ] = None,
    *,
    preset: Annotated[
        Literal["biomass", "elevation", "sentinel2-multi", "sentinel2-generative"],
        typer.Option(
            help="Kind of map: **biomass** from 100 to 10 m, bare earth (**elevation**) from a surface of 30 m to 3 m, "
            "eight dates of Sentinel-2 to 5 m (**sentinel2-multi**), or one to 2.5 m (**sentinel2-generative**)."
        ),
    ] = "biomass",
    size: Annotated[
        int | None,
        typer.Option(
            min=64,
            max=100_000,
            help="Edge of the area in pixels of the map.",
            show_default="1024, of Sentinel-2 192 or 128",
        ),
    ] = None,
    tile: Annotated[int, typer.Option(min=32, max=8192, help="Edge of a tile in pixels, a multiple of 256.")] = 512,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**31, help="Another seed gives another region.", show_default="of a region no model trained on"
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, max=4096, help="Number of worker processes; 0 computes in threads of this one.")
    ] = 0,
    scenes_only: Annotated[bool, typer.Option("--scenes-only", help="Stop after catalog/ and map.yaml.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a synthetic region and its first map, no network: scenes, search, run, scores, `overview.png`.

    Leaves DIR/map.yaml, DIR/catalog/, DIR/map.icechunk, DIR/overview.png and DIR/report.json.

    With **--preset elevation** the scenes are GeoTIFFs in DIR/rasters/, and DIR/catalog/ is what
    `mapper catalog rasters` makes of such a folder: replace them with your own, and change DIR/map.yaml.
    With **--preset sentinel2-multi** or **sentinel2-generative** DIR/bands.yaml is beside it: their 20 m bands at 10 m.
    """
    from mapper.demo import DemoOptions, make_scenes, run_demo
    from mapper.monitor.progress import ProgressBar

    directory = directory or Path("demo" if preset == "biomass" else f"demo-{preset}")
    options = DemoOptions(preset=preset, size_px=size, tile_px=tile, seed=seed, workers=workers)
    make_scenes(directory, options, notify=notify)
    if scenes_only:
        print_json({"map": str(directory / "map.yaml")}) if as_json else notify(f"wrote {directory / 'map.yaml'}")
        return
    report = run_demo(directory, options, notify=notify, callbacks=(ProgressBar(),))
    if as_json:
        print_json(report.to_dict())
        return
    print_comparison(report.comparison)
    typer.echo(report.answer.to_text())
    notify(f"see {directory / 'overview.png'}; go on with {directory / 'map.yaml'}")


@maps_app.command("search")
def search_command(
    map_path: MapArgument,
    *,
    plot: Annotated[bool, typer.Option(help="Draw the items of each month as MAP.items.png.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Query STAC for the items of a map and freeze them beside it, as MAP.items.parquet.

    Prints for each month how many items there are, how cloudy they are and how much of the area they cover, draws them
    as MAP.items.png, and warns of tiles that are likely to see too little, or have no source.
    """
    from mapper.catalog.coverage import find_shortages, survey
    from mapper.catalog.inventory import inventory_path

    spec, path = read_spec(map_path), inventory_path(map_path)
    _print_grid(spec)
    items = api.search(map_path, refresh=True)
    coverage = survey(spec, items)
    shortages = find_shortages(spec, coverage)
    picture = _draw_search(spec, coverage, path.with_suffix(".png")) if plot else None
    for shortage in shortages:
        notify(f"[yellow]warning:[/yellow] {escape(shortage.text)}")
    superseded = items.query.get("superseded") or []
    if superseded:
        named = [*superseded[:_NAMED], *([f"and {len(superseded) - _NAMED} more"] if len(superseded) > _NAMED else [])]
        notify(escape(f"superseded by a newer processing of the same scene, and left out: {', '.join(named)}"))
    if as_json:
        content = {"file": str(path), "picture": picture and str(picture), "digest": items.digest, "n": len(items)}
        rows = {"months": [row.to_dict() for row in coverage.months], "warnings": [s.to_dict() for s in shortages]}
        print_json({**content, "superseded": superseded, "tiles": len(coverage.tiles), **rows})
        return
    print_months(f"{len(items)} items, frozen in {path}", coverage)


@maps_app.command()
def plan(  # noqa: PLR0913 - options of a command
    map_path: MapArgument,
    *,
    only: OnlyOption = None,
    every: EveryOption = None,
    refresh: RefreshOption = False,
    prices: PricesOption = None,
    device: Annotated[
        str | None, typer.Option(help="Device of the network in a run: **cpu** or **cuda**; default: the pilot's.")
    ] = None,
    guide: GuideOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a run would do and cost: tiles, scenes, requests, bytes, memory, hours; writes MAP.plan.parquet only.

    Before any tile has run, all figures come from the metadata of the items, and hours are rough. A pilot makes them
    good: **mapper run MAP.yaml --every 50** computes every 50th tile into the store, where it stays; **mapper plan
    MAP.yaml** then calibrates each figure by what these tiles took, with a range for 90 % of the outcomes. Once the map
    is complete, it holds the estimates against what the map took.

    Hours are those of work of workers, one tile each: divide by the number of workers for the shortest wall time.

    At the end, a map in one go is held against two phases: **mapper composite** once, then **mapper run --guide** as
    often as models change. What a guide given by **--guide** holds already counts as paid.
    """
    if device not in (None, "cpu", "cuda"):
        raise typer.BadParameter(f"--device is cpu or cuda, got {device!r}")
    _print_grid(read_spec(map_path))
    planned = api.plan(
        map_path,
        only=selection_of(only, every),
        refresh=refresh,
        prices=prices,
        device=cast("Literal['cpu', 'cuda'] | None", device),
        guide=guide,
    )
    if as_json:
        print_json(planned.to_dict())
        return
    typer.echo(str(planned))
    notify(f"plan written to {planned.job.path}")


@maps_app.command()
def run(  # noqa: PLR0913 - options of a command
    map_path: MapArgument,
    *,
    cluster: ClusterOption = "threads",
    settings: SettingsOption = None,
    keep_cluster: KeepOption = False,
    workers: WorkersOption = 0,
    guide: GuideOption = None,
    only: OnlyOption = None,
    every: EveryOption = None,
    refresh: RefreshOption = False,
    dry_run: DryRunOption = False,
    commit_tiles: CommitTilesOption = 32,
    commit_seconds: CommitSecondsOption = 60,
    failure_budget: BudgetOption = None,
    order: OrderOption = "blocks",
    device: Annotated[str, typer.Option(help="Device of the network: auto, cpu, cuda, cuda:1 ...")] = "auto",
    batch: Annotated[
        int | None, typer.Option(min=1, help="Number of patches in one batch; default: by device.")
    ] = None,
    patch: Annotated[int, typer.Option(min=1, help="Longest edge of a patch, in target pixels.")] = 512,
    log: LogOption = None,
    metrics_port: MetricsOption = None,
    metrics_host: MetricsHostOption = "127.0.0.1",
    prices: PricesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute the tiles of a map that are due, and commit them with their records; resumes where it stopped.

    With **--guide** the archives are not read for the guide: it comes from a store that **mapper composite** wrote. The
    map is the same to the bit, and may be begun in one way and finished in the other.
    """
    from mapper.cluster.open_executor import memory_of_task
    from mapper.cost.map_plan import MapPlan
    from mapper.cost.prices import read_prices
    from mapper.plan.context import RunOptions
    from mapper.plan.job import prepare_job
    from mapper.run.stored_guide import read_from_guide

    price_list = read_prices(prices) if prices else None  # what is wrong with it is wrong before the run
    policy = make_policy(commit_tiles, commit_seconds, failure_budget, order)
    options = RunOptions(device=device, batch=batch, patch_px=patch)
    kubernetes = kubernetes_options(cluster, map_path, settings, keep=keep_cluster)
    memory = memory_of_task(cluster, workers, kubernetes=kubernetes)
    job = prepare_job(map_path, only=selection_of(only, every), refresh=refresh, options=options, worker_memory=memory)
    if dry_run:
        print_due(job.pending())
        return
    job.freeze()
    planned = MapPlan(job=replace(job, context=read_from_guide(job, guide)) if guide else job, prices=price_list)
    run_on = partial(api.run, cluster=cluster, workers=workers, kubernetes=kubernetes)
    with open_callbacks(log, metrics_port, metrics_host) as callbacks:
        report = run_on(planned, progress=False, callbacks=callbacks, policy=policy)
        print_run_report(report, planned, as_json=as_json)
    raise typer.Exit(report.exit_code)


@maps_app.command()
def verify(
    store: StoreArgument,
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Compute missing, stale and corrupt tiles, then verify again.")
    ] = False,
    cluster: Annotated[str, typer.Option(help="Where tasks run to repair, as for **mapper run**.")] = "threads",
    workers: Annotated[
        int, typer.Option(min=0, max=4096, help="Number of threads or processes that repair; 0 suits the machine.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Check every tile's pixels against the ledger; with a MAP.yaml, also against what its inputs are now.

    If there is a pyramid, its tiles are checked as well: against what was written, and against what the map is now.

    **--repair** needs the MAP.yaml. It computes exactly the tiles that are missing, stale or corrupt, corrupt ones
    although the ledger calls them done, and leaves all others alone; failed tiles are for **mapper run --only failed**.
    Then it mends the pyramid. With **--json** it prints the second verification, with the first as `before` and the
    work between as `repair` and `pyramid_repair`. Of a store alone, **mapper pyramid --check** mends the pyramid.
    """
    from mapper.plan.job import prepare_job
    from mapper.plan.pending import expect_tiles
    from mapper.store.verify import verify_store

    if not is_map(store):
        if repair:
            raise typer.BadParameter("--repair needs the MAP.yaml: a store does not say where its scenes are")
        _end_verify(verify_store(store), as_json=as_json)
    if repair:
        kubernetes_options(cluster, Path(store))  # what is wrong with it is wrong before all tiles are read
    job = prepare_job(Path(store))
    expected = expect_tiles(job.plan)
    before = verify_store(job.spec.store, expected=expected)
    if not repair:
        _end_verify(before, as_json=as_json)
    if not as_json:
        typer.echo(before.to_text())
    done = _repair(Path(store), job, before, cluster, workers)
    after = verify_store(job.spec.store, expected=expected) if done else before
    levels = _repair_levels(Path(store), job.spec.store, after, cluster, workers)
    if not as_json:
        summaries = [report.summary() for report in (done, levels) if report]
        typer.echo("\n".join(summaries) or "nothing to repair")
    after = verify_store(job.spec.store, expected=expected) if levels else after
    repairs = {"repair": done and done.to_dict(), "pyramid_repair": levels and levels.to_dict()}
    _end_verify(after, as_json=as_json, before=before.to_dict(), **repairs)


@maps_app.command("why", context_settings={"ignore_unknown_options": True})
def why_command(
    store: StoreArgument,
    x: Annotated[float, typer.Argument(help="Longitude in degrees, or easting in units of --crs.")],
    y: Annotated[float, typer.Argument(help="Latitude in degrees, or northing in units of --crs.")],
    *,
    crs: Annotated[str, typer.Option(help="CRS of X and Y, as EPSG:CODE.")] = "EPSG:4326",
    ref: Annotated[str, typer.Option(help="Version: branch, tag or snapshot id.")] = "main",
    as_json: JsonOption = False,
) -> None:
    """Explain what made a pixel: its values, the items behind it with their calibration, model, code and commit."""
    from mapper.store.why import why

    answer = why(location_of(store), x, y, crs=crs, ref=ref)
    print_json(answer.to_dict()) if as_json else typer.echo(answer.to_text())


def _print_grid(spec: MapSpec) -> None:
    """Print what the map asks for before anything is spent on it: a mistaken unit or order shows here."""
    from mapper.spec.plausibility import describe_grid, doubt_box

    notify(escape(describe_grid(spec.area.geometry, spec.map_grid)))
    if spec.area.bbox and (doubt := doubt_box(spec.area.bbox)):
        notify(f"[yellow]warning:[/yellow] {escape(doubt)}")


def _draw_search(spec: MapSpec, coverage: "Coverage", path: Path) -> Path:
    from mapper.evaluation.search_plot import plot_search

    period = f"{spec.period.start} to {spec.period.end}"
    return plot_search(coverage, path, title=f"{spec.name}: what was found, {period}")


def _repair(map_path: Path, job: "Job", report: "VerifyReport", cluster: str, workers: int) -> "RunReport | None":
    """Compute the damaged tiles of a map; returns None if there are none."""
    from mapper.cluster.open_executor import open_executor
    from mapper.monitor.progress import ProgressBar
    from mapper.plan.pending import plan_repair
    from mapper.run.runner import run_plan

    plan = plan_repair(job.plan, report)
    if not plan.tasks:
        return None
    kubernetes = kubernetes_options(cluster, map_path)
    with open_executor(cluster, workers, kubernetes=kubernetes) as executor:
        return run_plan(
            plan, job.context, job.spec.store, executor, callbacks=(ProgressBar(),), redo=tuple(report.corrupt)
        )


def _repair_levels(
    map_path: Path, location: str, report: "VerifyReport", cluster: str, workers: int
) -> "PyramidReport | None":
    """Mend the pyramid of a map; returns None if there is none, or nothing to mend."""
    from mapper.cluster.open_executor import open_executor
    from mapper.monitor.progress import ProgressBar
    from mapper.run.pyramid import build_pyramid

    if report.pyramid is None or report.pyramid.is_complete:
        return None
    kubernetes = kubernetes_options(cluster, map_path)
    with open_executor(cluster, workers, kubernetes=kubernetes) as executor:
        return build_pyramid(location, executor, callbacks=(ProgressBar(),), redo=tuple(report.pyramid.corrupt))


def _end_verify(report: "VerifyReport", *, as_json: bool, **more: object) -> NoReturn:
    print_json({**report.to_dict(), **more}) if as_json else typer.echo(report.to_text())
    raise typer.Exit(0 if report.is_complete else 1)
