"""Command that serves a store over HTTP: `mapper serve`."""

from pathlib import Path
from typing import Annotated

import typer

from mapper.api import serve
from mapper.cli.options import StoreArgument
from mapper.cli.printing import notify

serve_app = typer.Typer(rich_markup_mode="markdown")


@serve_app.command("serve")
def serve_command(
    store: StoreArgument,
    *,
    host: Annotated[str, typer.Option(help="Address to listen on; **0.0.0.0** for all of the machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any that is free.")] = 8080,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Ask for the token in this file: `Authorization: Bearer ...`.")
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Let pages of this origin read, **\\*** for all; may be repeated."),
    ] = None,
    public_url: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Where clients reach the server: in all links. Without it links name the host that a client asks for, "
            "and no cache keeps them.",
        ),
    ] = "",
    log_requests: Annotated[bool, typer.Option("--log-requests", help="Log every request.")] = False,
) -> None:
    """Serve a store over HTTP, read-only: no client needs Icechunk, credentials or this program.

    `/zarr/main` is the map as plain Zarr v3 for xarray, zarr, tensorstore, zarrita.js and GDAL from 3.13; instead of
    `main`, a tag or a snapshot id. `/pixel?x=12.01&y=50.01` shows what a pixel holds and what made it, `/history` what
    it held before, `/stac` is the map as a STAC collection, `/docs` lists it all.

    A run may go on meanwhile: its commits are seen within a second. Who reads a snapshot id sees no change.
    Without a token everybody who reaches the port can read; put a proxy with TLS in front of anything public.
    """
    from mapper.serve.settings import AppSettings, read_token

    settings = AppSettings(
        token=read_token(token_file) if token_file else "", cors=tuple(cors or ()), public_url=public_url
    )
    serve(
        store,
        host=host,
        port=port,
        settings=settings,
        notify=lambda url: _print_address(public_url or url, token=bool(settings.token)),
        log_requests=log_requests,
    )


def _print_address(url: str, *, token: bool) -> None:
    options = ', storage_options={"headers": {"Authorization": "Bearer ..."}}' if token else ""
    typer.echo(url)
    notify(f'xarray.open_dataset("{url}/zarr/main", engine="zarr", decode_coords="all"{options})')
    notify(f"{url}/ shows the map, {url}/docs lists what is here; Ctrl-C stops")
