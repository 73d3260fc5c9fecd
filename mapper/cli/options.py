"""Arguments and options that several commands take."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mapper.cli.printing import notify

if TYPE_CHECKING:
    from mapper.cluster.kubernetes.session import KubernetesOptions

MapArgument = Annotated[Path, typer.Argument(metavar="MAP.yaml", help="The map description.")]
StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="A store, or the MAP.yaml that names it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
OnlyOption = Annotated[
    str | None, typer.Option(metavar="TILES", help="Tiles to take: **3,7**, **2-4,0-9**, **::10**, **failed**.")
]
EveryOption = Annotated[int | None, typer.Option(min=1, help="Take every Nth tile: a pilot.")]
GuideOption = Annotated[str | None, typer.Option(metavar="STORE", help="Of the guide that **mapper composite** wrote.")]
PricesOption = Annotated[
    Path | None, typer.Option(metavar="PRICES.yaml", help="Add the cost; an example is **deploy/prices.yaml**.")
]
RefreshOption = Annotated[bool, typer.Option("--refresh", help="Query again, even if items are frozen already.")]
ClusterOption = Annotated[
    str, typer.Option(help="**threads**, **serial**, **local** processes, **kubernetes**[:POOL], or a Dask scheduler.")
]
OrderOption = Annotated[
    str, typer.Option(help="**blocks** shares scenes between neighbours, **spread** spares the archive, or **rows**.")
]
LogOption = Annotated[Path | None, typer.Option(help="Append every event to this file, as JSON lines.")]
MetricsOption = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Serve Prometheus metrics on this port of the driver.")
]

SettingsOption = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        metavar="CLUSTER.yaml",
        help="Of the cluster on Kubernetes; default: **cluster.yaml** beside MAP.yaml, else built in.",
    ),
]
KeepOption = Annotated[
    bool, typer.Option("--keep-cluster", help="Leave up on Kubernetes what was brought up for this.")
]
WorkersOption = Annotated[int, typer.Option(help="Processes of a local cluster, or threads; 0 suits the machine.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="List the tiles that are due and stop.")]
CommitTilesOption = Annotated[int, typer.Option(min=1, help="Tiles in one commit.")]
CommitSecondsOption = Annotated[float, typer.Option(help="Commit fewer tiles after so many seconds.")]
BudgetOption = Annotated[int | None, typer.Option(help="Failed tiles that are borne; one more stops.")]


def kubernetes_options(map_path: Path, settings: Path | None, *, keep: bool) -> "KubernetesOptions":
    """How a command uses Kubernetes, where it is told to."""
    from mapper.cluster.kubernetes.session import KubernetesOptions
    from mapper.cluster.settings import find_settings

    def tell(text: str) -> None:
        notify(escape(text))

    return KubernetesOptions(settings=find_settings(settings, map_path), keep=keep, notify=tell)


def selection_of(only: str | None, every: int | None) -> str | None:
    """The tiles that ``--only`` or ``--every`` take."""
    if only and every:
        raise typer.BadParameter("give --only or --every, not both")
    return f"::{every}" if every else only
