"""The command line: arguments in, functions called, results printed; nothing else.

Reports go to standard output (``--json`` for machines), progress and errors to standard error. Exit codes: 0 done,
1 finished with failed tiles or a failure of the world, 2 bad usage or a bad map description.

Commands import what they run when they run, so that ``--help`` and ``why`` need not wait for torch and Dask.
"""

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mapper.catalog.provider import load_provider, provider_names
from mapper.errors import MapperError
from mapper.models.card import Card, model_names, read_card
from mapper.spec import ModelSpec, read_spec

if TYPE_CHECKING:
    from mapper.evaluation.compare import Comparison
    from mapper.events import Callback

_REASONS_SHOWN = 10

app = typer.Typer(
    help="From a STAC query to a continental, guided-super-resolved Zarr map with provenance.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
catalog_app = typer.Typer(help="Providers of items, and catalogues made from files.", no_args_is_help=True)
app.add_typer(catalog_app, name="catalog")

MapArgument = Annotated[Path, typer.Argument(metavar="MAP.yaml", help="The map description.")]
StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="A store, or the MAP.yaml that names it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
OnlyOption = Annotated[
    str | None, typer.Option(metavar="TILES", help="Tiles to take: **3,7**, **2-4,0-9**, **::10**, **failed**.")
]
EveryOption = Annotated[int | None, typer.Option(min=1, help="Take every Nth tile: a pilot.")]
RefreshOption = Annotated[bool, typer.Option("--refresh", help="Query again, even if items are frozen already.")]


def main() -> None:
    """Run the command line; errors of mapper become one line and an exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except MapperError as error:
        _notify(f"[red]error:[/red] {escape(str(error))}")
        sys.exit(error.exit_code)


def _notify(text: str) -> None:
    """Print to standard error, in one line unless the text has more."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(text)


def _print_json(content: object) -> None:
    typer.echo(json.dumps(content, indent=2, default=str))


def _print_table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if not table.columns else "right")
    for row in rows:
        table.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row))
    Console(width=120 if not sys.stdout.isatty() else None).print(table)


def _print_facts(title: str, facts: Mapping[str, Any]) -> None:
    _print_table(title, ("", ""), ((key.replace("_", " "), value) for key, value in facts.items()))


@app.command()
def demo(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where everything goes.")] = Path("demo"),
    *,
    size: Annotated[int, typer.Option(help="Edge of the mapped area in pixels of 10 m.")] = 1024,
    tile: Annotated[int, typer.Option(help="Edge of a tile in pixels, a multiple of 256.")] = 512,
    seed: Annotated[int, typer.Option(help="Names the landscape.")] = 7,
    workers: Annotated[int, typer.Option(help="Worker processes; 0 computes in threads of this one.")] = 0,
    scenes_only: Annotated[bool, typer.Option("--scenes-only", help="Stop after catalog/ and map.yaml.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a synthetic region and its first map, no network: scenes, search, run, scores, `overview.png`.

    Leaves DIR/map.yaml, DIR/catalog/, DIR/map.icechunk, DIR/overview.png and DIR/report.json.
    """
    from mapper.demo import DemoOptions, make_scenes, run_demo
    from mapper.run.progress import ProgressBar

    options = DemoOptions(size_px=size, tile_px=tile, seed=seed, workers=workers)
    make_scenes(directory, options, notify=_notify)
    if scenes_only:
        _print_json({"map": str(directory / "map.yaml")}) if as_json else _notify(f"wrote {directory / 'map.yaml'}")
        return
    report = run_demo(directory, options, notify=_notify, callbacks=(ProgressBar(),))
    if as_json:
        _print_json(report.to_dict())
        return
    _print_comparison(report.comparison)
    typer.echo(report.answer.to_text())
    _notify(f"look at {directory / 'overview.png'}; go on with {directory / 'map.yaml'}")


@app.command("search")
def search_command(map_path: MapArgument, *, as_json: JsonOption = False) -> None:
    """Query STAC for the items of a map and freeze them beside it, as MAP.items.parquet."""
    from mapper.catalog.inventory import inventory_path, take_inventory
    from mapper.catalog.items import item_datetime

    spec = read_spec(map_path)
    items = take_inventory(spec, inventory_path(map_path), refresh=True)
    counts = Counter((item["collection"], f"{item_datetime(item):%Y-%m}") for item in items)
    if as_json:
        months = [{"collection": name, "month": month, "items": n} for (name, month), n in sorted(counts.items())]
        _print_json({"file": str(inventory_path(map_path)), "digest": items.digest, "n": len(items), "months": months})
        return
    rows = ((name, month, n) for (name, month), n in sorted(counts.items()))
    _print_table(f"{len(items)} items, frozen in {inventory_path(map_path)}", ("collection", "month", "items"), rows)


@app.command()
def plan(
    map_path: MapArgument,
    *,
    only: OnlyOption = None,
    every: EveryOption = None,
    refresh: RefreshOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a run would do: tiles, bytes, memory, and why each tile is due; writes MAP.plan.json.gz only."""
    from mapper.run.job import prepare_job
    from mapper.run.plan import explain_plan

    job = prepare_job(map_path, only=_selection(only, every), refresh=refresh)
    job.freeze()
    summary, pending = explain_plan(job.plan, job.context), job.pending()
    if as_json:
        reasons = [{"tile": str(due.task.tile), "cause": due.cause, "reason": due.reason} for due in pending.todo]
        _print_json({"file": str(job.path), **summary.to_dict(), "done": len(pending.done), "due": reasons})
        return
    typer.echo(summary.summary())
    typer.echo(f"done          {len(pending.done)}, due {len(pending.todo)} {dict(pending.causes) or ''}")
    for due in pending.todo[:_REASONS_SHOWN]:
        typer.echo(f"  tile {due.task.tile}: {due.reason}")
    _notify(f"plan written to {job.path}")


@app.command()
def run(  # noqa: PLR0913 - options of a command
    map_path: MapArgument,
    *,
    cluster: Annotated[
        str, typer.Option(help="**threads** of this process, **serial**, **local** processes, or a Dask scheduler.")
    ] = "threads",
    workers: Annotated[int, typer.Option(help="Processes of a local cluster, or threads; 0 suits the machine.")] = 0,
    only: OnlyOption = None,
    every: EveryOption = None,
    refresh: RefreshOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the tiles that are due and stop.")] = False,
    commit_tiles: Annotated[int, typer.Option(min=1, help="Tiles in one commit.")] = 32,
    commit_seconds: Annotated[float, typer.Option(help="Commit fewer tiles after so many seconds.")] = 60,
    failure_budget: Annotated[int | None, typer.Option(help="Failed tiles that are borne; one more stops.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    batch: Annotated[
        int | None, typer.Option(min=1, help="Patches through the network at once; default: by device.")
    ] = None,
    patch: Annotated[int, typer.Option(min=1, help="Longest edge of a patch, in target pixels.")] = 512,
    log: Annotated[Path | None, typer.Option(help="Append every event to this file, as JSON lines.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute the tiles of a map that are due, and commit them with their records; resumes where it stopped."""
    from mapper.cluster.choice import memory_of_task, open_executor
    from mapper.run.context import RunOptions
    from mapper.run.job import prepare_job
    from mapper.run.progress import EventLog, ProgressBar
    from mapper.run.runner import RunPolicy, run_plan

    options = RunOptions(device=device, batch=batch, patch_px=patch)
    memory = memory_of_task(cluster, workers)
    job = prepare_job(map_path, only=_selection(only, every), refresh=refresh, options=options, worker_memory=memory)
    if dry_run:
        for due in job.pending().todo:
            typer.echo(f"{due.task.tile}\t{due.cause}\t{due.reason}")
        return
    job.freeze()
    callbacks: list[Callback] = [ProgressBar(), *([EventLog(log)] if log else [])]
    policy = RunPolicy(every=commit_tiles, seconds=commit_seconds, failure_budget=failure_budget)
    with open_executor(cluster, workers) as executor:
        report = run_plan(job.plan, job.context, job.spec.store, executor, callbacks=callbacks, policy=policy)
    _print_json(report.to_dict()) if as_json else typer.echo(report.summary())
    raise typer.Exit(report.exit_code)


@app.command()
def status(store: StoreArgument, *, as_json: JsonOption = False) -> None:
    """Tell how many tiles of a store are done, empty, failed and missing, without reading pixels."""
    from mapper.store.ledger import read_ledger
    from mapper.store.repository import read_store

    location = _location_of(store)
    ledger, grid = read_ledger(location), read_store(location).grid
    tiles = set(grid.tiles())
    counts = Counter(entry.status for tile, entry in ledger.entries.items() if tile in tiles)
    facts = {
        "store": location,
        "tiles": len(tiles),
        **{name: counts[name] for name in ("ok", "empty", "failed")},
        "missing": len(tiles - ledger.entries.keys()),
        "commits": ledger.batches,
        "snapshot": ledger.session.snapshot_id,
    }
    _print_json(facts) if as_json else _print_facts("store", facts)


@app.command()
def verify(store: StoreArgument, *, as_json: JsonOption = False) -> None:
    """Check every tile's pixels against the ledger; with a MAP.yaml, also against what its inputs are now."""
    from mapper.run.job import prepare_job
    from mapper.run.resume import expect_tiles
    from mapper.store.verify import verify_store

    if store.endswith((".yaml", ".yml")):
        job = prepare_job(Path(store))
        report = verify_store(job.spec.store, expected=expect_tiles(job.plan))
    else:
        report = verify_store(store)
    _print_json(report.to_dict()) if as_json else typer.echo(report.to_text())
    raise typer.Exit(0 if report.is_complete else 1)


@app.command("why", context_settings={"ignore_unknown_options": True})
def why_command(
    store: StoreArgument,
    x: Annotated[float, typer.Argument(help="Longitude or easting.")],
    y: Annotated[float, typer.Argument(help="Latitude or northing.")],
    *,
    crs: Annotated[str, typer.Option(help="CRS of X and Y.")] = "EPSG:4326",
    ref: Annotated[str, typer.Option(help="Branch, tag or snapshot.")] = "main",
    as_json: JsonOption = False,
) -> None:
    """Tell what made a pixel: its values, the items behind it with their calibration, model, code and commit."""
    from mapper.store.why import why

    answer = why(_location_of(store), x, y, crs=crs, ref=ref)
    _print_json(answer.to_dict()) if as_json else typer.echo(answer.to_text())


@app.command()
def evaluate(
    map_path: MapArgument,
    *,
    truth: Annotated[str, typer.Option(help="COLLECTION:BAND of the map's catalogue to score against.")],
    clip: Annotated[float | None, typer.Option(help="Count larger true values as this one.")] = None,
    overview: Annotated[Path | None, typer.Option(help="Draw source, guide, map, truth, difference as a PNG.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Score a finished map and plain interpolations of its source against a truth."""
    from mapper.catalog.inventory import inventory_path, take_inventory
    from mapper.evaluation.overview import draw_overview
    from mapper.evaluation.scoring import find_truth, score_map

    spec = read_spec(map_path)
    items = take_inventory(spec, inventory_path(map_path))
    known = find_truth(spec, truth, clip=clip)
    comparison = score_map(spec, items, known)
    if overview:
        draw_overview(spec, items, overview, truth=known)
    _print_json(comparison.to_dict()) if as_json else _print_comparison(comparison)


@app.command("train")
def train_command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="What to train, from which maps, and how.")],
    *,
    maps: Annotated[
        list[Path] | None, typer.Option("--map", help="Train on this MAP.yaml instead of CONFIG's; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Directory for the weights instead of CONFIG's.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the weights instead of CONFIG's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model on maps with a truth; writes weights and their card."""
    from mapper.training.config import read_config
    from mapper.training.trainer import train

    card = train(read_config(config, maps=maps or (), out=out, name=name))
    _print_json(json.loads(card.to_json())) if as_json else _print_facts(card.name, _describe_card(card))


@app.command("models")
def models_command(*, as_json: JsonOption = False) -> None:
    """List the models that a map can name."""
    cards = [read_card(ModelSpec(name=name)) for name in model_names()]
    if as_json:
        _print_json([json.loads(card.to_json()) for card in cards])
        return
    rows = ([card.name, *_describe_card(card).values()] for card in cards)
    _print_table("models", ("name", *_describe_card(cards[0])), rows)


@catalog_app.command("list")
def list_providers(*, as_json: JsonOption = False) -> None:
    """List the providers that ship with mapper."""
    providers = [load_provider(name) for name in provider_names()]
    if as_json:
        _print_json([provider.model_dump(mode="json") for provider in providers])
        return
    rows = ((p.name, p.kind, ", ".join(p.collections), p.title) for p in providers)
    _print_table("providers", ("name", "kind", "collections", "title"), rows)


@catalog_app.command("check")
def check_provider(name: Annotated[str, typer.Argument(help="A provider's name, or a YAML file.")]) -> None:
    """Validate a provider's description and print it, defaults included."""
    typer.echo(yaml.safe_dump(load_provider(name).model_dump(mode="json"), sort_keys=False))


@catalog_app.command("biomassters")
def biomassters(
    source: Annotated[Path, typer.Argument(metavar="CHIPS", help="Directory with one folder of files per chip.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Where the catalogue and a MAP.yaml per chip go.")],
    *,
    chips: Annotated[list[str] | None, typer.Option("--chip", help="Take this chip; repeatable. Default: all.")] = None,
) -> None:
    """Turn BioMassters chips into a STAC catalogue of COGs on a declared local grid, with a MAP.yaml for each."""
    from mapper.catalog.biomassters import make_biomassters_catalog

    catalog = make_biomassters_catalog(source, out, chips=chips)
    typer.echo(str(catalog))


def _selection(only: str | None, every: int | None) -> str | None:
    if only and every:
        raise typer.BadParameter("give --only or --every, not both")
    return f"::{every}" if every else only


def _location_of(store: str) -> str:
    return read_spec(store).store if store.endswith((".yaml", ".yml")) else store


def _describe_card(card: Card) -> dict[str, object]:
    contract = card.contract
    return {
        "architecture": contract.model,
        "guide": len(contract.guide),
        "scale": contract.scale or "any",
        "halo_px": contract.halo(contract.scale) if contract.scale else "by scale",
        "parameters": card.parameters,
        "units": contract.target_units,
        "sha256": card.sha256[:12],
    }


def _print_comparison(comparison: "Comparison") -> None:
    columns = ("method", "RMSE", "MAE", "bias", "R2", "|block mean - source|", "largest")
    rows = (
        (name, score.rmse, score.mae, score.bias, score.r2, score.residual_mean, score.residual_max)
        for name, score in comparison.scores.items()
    )
    _print_table(f"against {comparison.truth}, {comparison.units}", columns, rows)


if __name__ == "__main__":
    main()
