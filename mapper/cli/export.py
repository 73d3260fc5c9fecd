"""Commands that export a map, a piece of it, or its objects to a file: `mapper export`, `mapper polygons`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import Progress

from mapper.api import location_of
from mapper.cli.options import JsonOption, StoreArgument
from mapper.cli.printing import print_json
from mapper.text import describe_bytes

if TYPE_CHECKING:
    from mapper.export.geotiff import GeotiffReport
    from mapper.export.tile_items import TilesReport
    from mapper.export.zarr_copy import CopyReport

Form = Literal["geotiff", "zarr", "stac-geoparquet"]

_FORMS: dict[str, Form] = {".tif": "geotiff", ".tiff": "geotiff", ".zarr": "zarr", ".parquet": "stac-geoparquet"}

export_app = typer.Typer(rich_markup_mode="markdown")


def parse_box(text: str) -> tuple[float, ...]:
    """Parse four numbers with commas between them.

    Raises:
        typer.BadParameter: If it is something else.
    """
    try:
        box = tuple(float(part) for part in text.split(","))
    except ValueError:
        box = ()
    if len(box) != 4:
        raise typer.BadParameter(f"{text!r} is no box, expected west,south,east,north in degrees (12.0,50.1,12.4,50.3)")
    return box


@export_app.command("export")
def export_command(  # noqa: PLR0913
    store: StoreArgument,
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write; it appears when it is whole.")],
    form: Annotated[
        Form | None, typer.Option("--as", help="Format; default: by the name, **.tif**, **.zarr** or **.parquet**.")
    ] = None,
    variable: Annotated[
        str, typer.Option(metavar="NAME,...", help="Bands of a GeoTIFF; default: the target bands.")
    ] = "",
    bbox: Annotated[
        str | None,
        typer.Option("--bbox", metavar="W,S,E,N", help="Only this box, in degrees."),
    ] = None,
    area: Annotated[
        Path | None, typer.Option("--area", metavar="FILE.geojson", help="Only what lies in these polygons.")
    ] = None,
    ref: Annotated[str, typer.Option(help="Branch, tag or snapshot id.")] = "main",
    as_json: JsonOption = False,
) -> None:
    """Export a map, or a piece of it, to a file that any program reads.

    **geotiff**: one band or several as a cloud-optimised GeoTIFF with overviews, in the numbers of the store (scale,
    offset, nodata and units are in the file, and so is what made it). **zarr**: all of a version as plain Zarr v3,
    levels of the pyramid too; an interrupted copy goes on when it is called again. **stac-geoparquet**: the ledger, an
    item for each tile with its footprint, dates, status, model, checksum and seconds.
    """
    form = form or _FORMS.get(out.suffix.lower())
    if form is None:
        raise typer.BadParameter(f"the name {out.name} does not say what it is: end it in {', '.join(_FORMS)}, or --as")
    if form != "geotiff" and variable:
        raise typer.BadParameter(f"--variable is for a GeoTIFF, {form} holds all")
    if form == "zarr" and (bbox or area):
        raise typer.BadParameter("a Zarr copy is of the whole map: --bbox and --area are for the other forms")
    location, box = location_of(store), None if bbox is None else parse_box(bbox)
    made: GeotiffReport | CopyReport | TilesReport
    with _show_progress("copying" if form == "zarr" else "reading") as advance:
        if form == "geotiff":
            from mapper.export.geotiff import export_geotiff

            made = export_geotiff(location, out, variable=variable, ref=ref, bbox=box, area=area, progress=advance)
        elif form == "zarr":
            from mapper.export.zarr_copy import copy_zarr

            made = copy_zarr(location, out, ref=ref, progress=advance)
        else:
            from mapper.export.tile_items import export_tiles

            made = export_tiles(location, out, ref=ref, bbox=box, area=area, progress=advance)
    if as_json:
        print_json(made.to_dict())
        return
    typer.echo(f"{out}: {made.summary()}, {describe_bytes(made.bytes)}, snapshot {made.snapshot}")


@export_app.command("polygons")
def polygons_command(  # noqa: PLR0913
    store: StoreArgument,
    *,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE.parquet", help="File to write; it appears when it is whole.")
    ],
    band: Annotated[str, typer.Option(metavar="NAME", help="Band; default: the only target band.")] = "",
    threshold: Annotated[
        float, typer.Option(metavar="VALUE", help="Least value of the pixels of an object, in units of the band.")
    ] = 0.5,
    least_area: Annotated[
        float, typer.Option(min=0, metavar="M2", help="Leave out objects smaller than so many square metres.")
    ] = 0.0,
    simplify: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="DISTANCE",
            help="Farthest that an outline may move, in units of the map's CRS: half a pixel turns steps into slants.",
        ),
    ] = 0.0,
    bbox: Annotated[
        str | None, typer.Option("--bbox", metavar="W,S,E,N", help="Only this box, in degrees; it cuts objects.")
    ] = None,
    area: Annotated[
        Path | None, typer.Option("--area", metavar="FILE.geojson", help="Only what lies in these polygons.")
    ] = None,
    ref: Annotated[str, typer.Option(help="Branch, tag or snapshot id.")] = "main",
    as_json: JsonOption = False,
) -> None:
    """Export the objects of a band, such as buildings, as polygons that any GIS reads.

    An object is made of pixels that reach the threshold and share edges. The file is GeoParquet in the CRS of the map:
    **id**, **area_m2**, **pixels**, **mean** of the band, **geometry**; its metadata (`mapper:*`) say which store,
    version, model and threshold made it.

    **mapper polygons MAP.yaml --band building --threshold 0.5 --least-area 30 --out buildings.parquet**
    """
    from mapper.export.polygons import ObjectRule, export_polygons

    rule = ObjectRule(threshold=threshold, least_area=least_area, simplify=simplify)
    box = None if bbox is None else parse_box(bbox)
    with _show_progress("reading") as advance:
        made = export_polygons(
            location_of(store), out, band=band, rule=rule, ref=ref, bbox=box, area=area, progress=advance
        )
    if as_json:
        print_json(made.to_dict())
        return
    typer.echo(f"{out}: {made.summary()}, {describe_bytes(made.bytes)}, snapshot {made.snapshot}")


@contextmanager
def _show_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on standard error, where that is a terminal; yields what updates it."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task(what, total=None)

        def advance(done: int, whole: int) -> None:
            bars.update(bar, completed=done, total=whole)

        yield advance
