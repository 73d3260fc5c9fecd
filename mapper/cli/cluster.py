"""Commands about clusters: what to give to Kubernetes."""

from pathlib import Path
from typing import Annotated

import typer

from mapper.cli.printing import notify

cluster_app = typer.Typer(help="Clusters on Kubernetes.", no_args_is_help=True)


@cluster_app.callback()
def cluster() -> None:
    """Clusters on Kubernetes."""


@cluster_app.command("render")
def render(
    settings_path: Annotated[
        Path | None, typer.Argument(metavar="CLUSTER.yaml", help="Settings; without them, the defaults.")
    ] = None,
    *,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write files for **kubectl apply -k DIR**; default: print.")
    ] = None,
) -> None:
    """Render the Kubernetes objects of a cluster: pools of Dask workers, the driver, and what protects them.

    CLUSTER.yaml names image, namespace, pools, driver and secrets; an example with every key is
    **deploy/kubernetes/cluster.yaml**. Nothing is sent anywhere: **mapper cluster render | kubectl apply -f -** does.
    """
    from mapper.cluster.manifests import render_files, render_stream, write_files
    from mapper.cluster.settings import ClusterSettings, read_settings

    settings = read_settings(settings_path) if settings_path else ClusterSettings()
    if out is None:
        typer.echo(render_stream(settings), nl=False)
        return
    paths = write_files(render_files(settings), out)
    notify(f"wrote {len(paths)} files to {out}")
