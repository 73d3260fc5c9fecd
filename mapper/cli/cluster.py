"""Commands about clusters on Kubernetes: render their objects, bring them up, take them down."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mapper.cli.printing import notify

if TYPE_CHECKING:
    from mapper.cluster.settings import ClusterSettings

cluster_app = typer.Typer(help="Clusters on Kubernetes.", no_args_is_help=True)

SettingsArgument = Annotated[
    Path | None, typer.Argument(metavar="CLUSTER.yaml", help="Settings; without them, the defaults.")
]
PoolOption = Annotated[
    list[str] | None, typer.Option("--pool", metavar="POOL", help="Only this pool; may be given again. Default: all.")
]


@cluster_app.callback()
def cluster() -> None:
    """Render, launch and delete clusters on Kubernetes."""


@cluster_app.command("render")
def render(
    settings_path: SettingsArgument = None,
    *,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write files for **kubectl apply -k DIR**; default: print.")
    ] = None,
) -> None:
    """Render the Kubernetes objects of a cluster: pools of Dask workers, the driver, and what protects them.

    CLUSTER.yaml names image, namespace, pools, driver and secrets; an example with every key is
    **deploy/kubernetes/cluster.yaml**. Nothing is sent anywhere: **mapper cluster render | kubectl apply -f -** does.
    """
    from mapper.cluster.kubernetes.objects import render_files, render_stream, write_files

    settings = _read(settings_path)
    if out is None:
        typer.echo(render_stream(settings), nl=False)
        return
    paths = write_files(render_files(settings), out)
    notify(f"wrote {len(paths)} files to {out}")


@cluster_app.command("up")
def up(
    settings_path: SettingsArgument = None,
    *,
    pool: PoolOption = None,
    driver: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="Start the driver's Job too: **run** makes the map, **composite** a guide, **pyramid** its levels.",
        ),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Time for all pods to be ready; 0 does not wait.")
    ] = 900,
) -> None:
    """Bring the pools of a cluster up on Kubernetes, and wait until all their pods are ready.

    What is there stays; sizes of pools and network rules are changed to those of CLUSTER.yaml, other changes are
    reported and need **down** first. The cluster is the one that the current context of your kubeconfig names; the Dask
    operator runs there already, and the secrets that CLUSTER.yaml names exist. **--driver** takes the map from a
    ConfigMap: without it, drive from here by **mapper run MAP.yaml --cluster kubernetes**.
    """
    from mapper.cluster.kubernetes.api import open_api
    from mapper.cluster.kubernetes.launch import Launch

    settings = _read(settings_path)
    if driver not in (None, "run", "composite", "pyramid"):
        raise typer.BadParameter(f"--driver is run, composite or pyramid, got {driver!r}")
    if driver:
        settings = settings.model_copy(update={"driver": settings.driver.model_copy(update={"command": driver})})
    pools = _pools(settings, pool)
    if driver and settings.driver_pool not in pools:
        raise typer.BadParameter(
            f"--driver {driver} works on pool {settings.driver_pool}: add --pool {settings.driver_pool}"
        )
    with open_api(settings.namespace) as api:
        launch = Launch(api, settings, _notify)
        launch.bring_up(pools, driver=driver is not None)
        if wait:
            launch.wait(pools, wait)
    for name in pools:
        _print_pool(settings, settings_path, name)
    if driver:
        typer.echo(f"the driver works as job/{settings.driver_job}:")
        typer.echo(f"  logs       kubectl -n {settings.namespace} logs -f job/{settings.driver_job}")


@cluster_app.command("down")
def down(
    settings_path: SettingsArgument = None,
    *,
    pool: PoolOption = None,
    volume: Annotated[
        bool, typer.Option("--volume", help="Delete the driver's volume too: frozen items and plans.")
    ] = False,
    namespace: Annotated[
        bool, typer.Option("--namespace", help="Delete the namespace with everything in it: secrets, other clusters.")
    ] = False,
    wait: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Time for all pods to end.")] = 300,
) -> None:
    """Delete what **up** made, or **kubectl apply** of what **render** gave, and wait until no pod is left.

    Goes by the labels of the cluster's name: objects that others made are left alone. Stores are never touched.
    """
    from mapper.cluster.kubernetes.api import open_api
    from mapper.cluster.kubernetes.launch import Launch

    settings = _read(settings_path)
    if pool and (volume or namespace):
        raise typer.BadParameter("--volume and --namespace are for a whole cluster: leave --pool away")
    with open_api(settings.namespace) as api:
        launch = Launch(api, settings, _notify)
        found = launch.find_objects(_pools(settings, pool) if pool else (), volume=volume or namespace)
        launch.take_down(found, wait)
        if namespace:
            launch.delete_namespace()
    left = [] if namespace else [f"namespace {settings.namespace} with its secrets and ConfigMaps"]
    left += [] if namespace or volume or pool else ["the driver's volume, if there is one"]
    typer.echo("no pod is left" + (f"; what stays: {', '.join(left)}" if left else ""))


def _read(path: Path | None) -> "ClusterSettings":
    from mapper.cluster.settings import ClusterSettings, read_settings

    return read_settings(path) if path else ClusterSettings()


def _pools(settings: "ClusterSettings", names: list[str] | None) -> list[str]:
    from mapper.cluster.kubernetes.session import KUBERNETES, find_pool

    return [find_pool(f"{KUBERNETES}:{name}", settings) for name in names] if names else list(settings.pools)


def _print_pool(settings: "ClusterSettings", path: Path | None, pool: str) -> None:
    service = f"{settings.cluster_name(pool)}-scheduler"
    given = f" --settings {path}" if path else ""
    typer.echo(f"pool {pool}:")
    typer.echo(f"  scheduler  {settings.scheduler_address(pool)}, inside the cluster")
    typer.echo(
        f"  dashboard  http://localhost:8787, after kubectl -n {settings.namespace} port-forward service/{service} 8787"
    )
    typer.echo(f"  use it     mapper run MAP.yaml --cluster kubernetes:{pool}{given}")


def _notify(text: str) -> None:
    notify(escape(text))
