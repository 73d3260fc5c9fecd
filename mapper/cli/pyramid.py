"""Command that makes coarser versions of a map, for views of all of it: `mapper pyramid`."""

from pathlib import Path
from typing import Annotated

import typer

from mapper.api import location_of
from mapper.cli.options import (
    ClusterOption,
    CommitSecondsOption,
    CommitTilesOption,
    JsonOption,
    KeepOption,
    LogOption,
    SettingsOption,
    StoreArgument,
    WorkersOption,
    kubernetes_options,
)
from mapper.cli.printing import print_json
from mapper.cli.run_callbacks import make_policy, open_callbacks

pyramid_app = typer.Typer(rich_markup_mode="markdown")


@pyramid_app.command()
def pyramid(  # noqa: PLR0913 - options of a command
    store: StoreArgument,
    *,
    cluster: ClusterOption = "threads",
    settings: SettingsOption = None,
    keep_cluster: KeepOption = False,
    workers: WorkersOption = 0,
    check: Annotated[
        bool, typer.Option("--check", help="Read all levels first, and recompute damaged tiles as well.")
    ] = False,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Recompute all tiles.")] = False,
    rename_axes: Annotated[
        bool,
        typer.Option(
            "--rename-axes", help="Call the dimensions of levels **yc** and **xc**, where an older mapper made them."
        ),
    ] = False,
    commit_tiles: CommitTilesOption = 64,
    commit_seconds: CommitSecondsOption = 60,
    log: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the levels of a map, or bring them up to date: each has pixels twice as long as the one below.

    Servers, GIS and **open_map(store, level=3)** read a level where the map itself has far more pixels than they show.
    Four pixels become one: the mean of the valid values, the mean of their standard deviations (errors inside a source
    pixel are correlated), all flags that are set, the mean number of observations. All levels together add a third to
    the store. They are the groups **pyramid/1**, **pyramid/2** ... up to the one of a single tile; the root says where
    they are, as `multiscales`. Their dimensions are **yc** and **xc**: xarray gives those of the map, **y** and **x**,
    to all groups below it, and **xarray.open_datatree** opens the map and its levels at once only where they differ.
    Levels that an older mapper made are left as they are until **--rename-axes**, which touches no pixel.

    Only what lies above changed tiles is made, and nothing is written where nothing changed: run it after every
    **mapper run**. A map that is not finished may have a pyramid; what is missing stays empty until it arrives. The
    store is locked meanwhile, and a run is refused. Readers see whole tiles only. What was committed before an
    interruption is not made again. **mapper verify** shows which tiles of the levels are missing, stale or damaged.
    """
    from mapper.cluster.open_executor import open_executor
    from mapper.run.pyramid import build_pyramid, find_damage

    location = location_of(store)
    kubernetes = kubernetes_options(cluster, Path(store), settings, keep=keep_cluster)
    redo = find_damage(location) if check else []
    with open_executor(cluster, workers, kubernetes=kubernetes) as executor, open_callbacks(log, None) as callbacks:
        report = build_pyramid(
            location,
            executor,
            callbacks=callbacks,
            policy=make_policy(commit_tiles, commit_seconds),
            redo=redo,
            rebuild=rebuild,
            rename_axes=rename_axes,
        )
    print_json(report.to_dict()) if as_json else typer.echo(report.summary())
    raise typer.Exit(report.exit_code)
