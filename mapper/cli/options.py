"""Arguments and options that several commands take."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from mapper.cli.printing import notify

if TYPE_CHECKING:
    from mapper.cluster.kubernetes.session import KubernetesOptions

MapArgument = Annotated[Path, typer.Argument(metavar="MAP.yaml", help="The map description.")]
StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="A store, or the MAP.yaml that names it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
OnlyOption = Annotated[
    str | None,
    typer.Option(
        metavar="TILES", help="Tiles to take: **ROW,COL**, ranges **2-4,0-9**, every tenth **::10**, **failed**."
    ),
]
EveryOption = Annotated[int | None, typer.Option(min=1, help="Take every Nth tile: a pilot.")]
GuideOption = Annotated[
    str | None, typer.Option(metavar="STORE", help="Store of the guide that **mapper composite** wrote.")
]
PricesOption = Annotated[
    Path | None, typer.Option(metavar="PRICES.yaml", help="Prices, for the cost; an example is **deploy/prices.yaml**.")
]
RefreshOption = Annotated[bool, typer.Option("--refresh", help="Query again, even if items are frozen already.")]
ClusterOption = Annotated[
    str,
    typer.Option(help="**threads**, **serial**, **local** processes, **kubernetes**[:POOL], or a scheduler's address."),
]
OrderOption = Annotated[
    Literal["blocks", "rows", "spread"],
    typer.Option(help="**blocks** shares scenes between neighbours, **spread** spares the archive, or **rows**."),
]
LogOption = Annotated[Path | None, typer.Option(help="Append every event to this file, as JSON lines.")]
MetricsOption = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port of the driver for Prometheus metrics; 0 takes a free one.")
]
MetricsHostOption = Annotated[
    str,
    typer.Option(metavar="ADDRESS", help="Address that metrics are served on; **0.0.0.0** for all of the machine."),
]
SettingsOption = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        metavar="CLUSTER.yaml",
        help="Settings of the cluster on Kubernetes; default: **cluster.yaml** beside MAP.yaml, else built in.",
    ),
]
KeepOption = Annotated[
    bool, typer.Option("--keep-cluster", help="Leave the cluster up that this command starts on Kubernetes.")
]
WorkersOption = Annotated[
    int, typer.Option(min=0, max=4096, help="Number of local processes, or threads; 0 suits the machine.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="List the tiles that are due and stop.")]
CommitTilesOption = Annotated[int, typer.Option(min=1, help="Largest number of tiles in one commit.")]
CommitSecondsOption = Annotated[float, typer.Option(min=0, help="Seconds after which fewer tiles are committed.")]
BudgetOption = Annotated[
    int | None, typer.Option(min=0, help="Number of failed tiles to tolerate; one more stops. Default: no limit.")
]


def kubernetes_options(
    cluster: str, map_path: Path, settings: Path | None = None, *, keep: bool = False
) -> "KubernetesOptions | None":
    """Return the settings and options of Kubernetes that a command was given; None for a cluster elsewhere.

    Raises:
        SpecError: If the cluster is none, so that a wrong word or address ends a command before it does anything.
    """
    from mapper.cluster.open_executor import check_cluster

    check_cluster(cluster)
    if "kubernetes" not in cluster:
        return None
    from mapper.cluster.kubernetes.session import KubernetesOptions
    from mapper.cluster.settings import find_settings

    def notify_plain(text: str) -> None:
        notify(escape(text))

    return KubernetesOptions(settings=find_settings(settings, map_path), keep=keep, notify=notify_plain)


def selection_of(only: str | None, every: int | None) -> str | None:
    """Return the selection of tiles that ``--only`` or ``--every`` asks for."""
    if only and every:
        raise typer.BadParameter("give --only or --every, not both")
    return f"::{every}" if every else only
