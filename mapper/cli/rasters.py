"""`mapper catalog rasters`: its options, what it prints, and what to do next."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from mapper.cli.options import JsonOption
from mapper.cli.printing import notify
from mapper.errors import InputError

if TYPE_CHECKING:
    from mapper.catalog.importers.rasters import RasterCatalog, RasterRequest
    from mapper.catalog.items import ItemDict

_EARTH_M = 6_371_000
SourceArgument = Annotated[
    str, typer.Argument(metavar="DIR|LIST|FILE|URL", help="Folder, list of paths and addresses, or one GeoTIFF.")
]
WordsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="NAME=NUMBER", help="More of **--classes** or **--bands**.")
]
OutOption = Annotated[Path, typer.Option(metavar="DIR", help="Directory of **catalog.json** and **provider.yaml**.")]
PatternOption = Annotated[
    str | None, typer.Option(metavar="GLOB", help='Names of the files of this layer, such as **"*_dsm.tif"**.')
]
CollectionOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Name of the collection; default: that of the folder.")
]
KindOption = Annotated[
    Literal["elevation", "image", "classes"] | None,
    typer.Option(help="Content: heights, values to be interpolated, or codes. Default: guessed, and said."),
]
BandsOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME[=NUMBER]", help="Band by our name, in order or by its number; repeatable."),
]
ClassesOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=CODE[,CODE]", help="Class by name, with its codes: a band of 0 and 1; repeatable."),
]
UnitsOption = Annotated[
    str | None, typer.Option(help="Units; heights in **ft**, **us-ft**, **cm** or **mm** are read as metres.")
]
DatumOption = Annotated[
    str | None, typer.Option(metavar="CRS", help="Vertical datum of heights, such as EPSG:3855 for EGM2008.")
]
HeightsOption = Annotated[
    Literal["surface", "ground"] | None, typer.Option(help="Heights with trees and buildings, or of bare earth.")
]
DateOption = Annotated[
    str | None, typer.Option(metavar="DAY[/DAY]", help="Date, 2021-06-30, or first and last day; static: none.")
]
NodataOption = Annotated[
    str | None, typer.Option(metavar="VALUE", help="One more missing value; **none**: not even the files' own.")
]
CrsOption = Annotated[str | None, typer.Option(metavar="CRS", help="CRS of files that name none.")]
LicenceOption = Annotated[str, typer.Option(help="Licence of the data.")]


def describe_rasters(  # noqa: PLR0913 - options of a command
    source: SourceArgument,
    words: WordsArgument = None,
    *,
    out: OutOption = Path("rasters"),
    pattern: PatternOption = None,
    collection: CollectionOption = None,
    kind: KindOption = None,
    bands: BandsOption = None,
    classes: ClassesOption = None,
    units: UnitsOption = None,
    vertical_datum: DatumOption = None,
    heights: HeightsOption = None,
    date: DateOption = None,
    nodata: NodataOption = None,
    crs: CrsOption = None,
    licence: LicenceOption = "not said: that of the files",
    as_json: JsonOption = False,
) -> None:
    """Describe a folder of GeoTIFFs as a STAC catalogue, with a provider that a MAP.yaml can name at once.

    Only headers are read, and files stay where they are. One call describes one layer (elevation, an image, codes of
    land cover); a second call with another **--pattern** and **--collection** adds a layer. What the files say (CRS,
    missing values, scale, vertical datum) is taken, what nobody says is guessed and printed, and where a file and an
    option contradict each other nothing is written. The exit code is 1 if files had to be left out.

    For example::

        mapper catalog rasters lidar --pattern "*_dsm.tif" --collection dsm --heights surface --vertical-datum EPSG:5720
        mapper catalog rasters lidar --pattern "*_mask.tif" --collection cover --classes building=1 tree=2 water=3
    """
    from mapper.catalog.importers.rasters import make_raster_catalog

    request = parse_request(
        source=source, words=words or (), out=out, pattern=pattern, collection=collection, kind=kind,
        bands=bands or (), classes=classes or (), units=units, vertical_datum=vertical_datum, heights=heights,
        date=date, nodata=nodata, crs=crs, licence=licence,
    )  # fmt: skip
    with Progress(console=Console(stderr=True), transient=True) as progress:
        files = progress.add_task("headers", total=None)

        def report(done: int, total: int) -> None:
            progress.update(files, completed=done, total=total)

        made = make_raster_catalog(request, report=report)
    print_catalog(made, as_json=as_json)
    if made.left_out:
        raise typer.Exit(1)


def parse_request(
    *,
    words: Iterable[str],
    bands: Iterable[str],
    classes: Iterable[str],
    date: str | None,
    nodata: str | None,
    **said: Any,
) -> "RasterRequest":
    """Return the request that options spell.

    Args:
        words: Further classes, or bands, after the first of them.
        bands: Names, with numbers or not.
        classes: Names with codes.
        date: A day, or two.
        nodata: A number, or ``none``.
        said: What stays as it is.

    Raises:
        InputError: If an option cannot be understood.
    """
    from mapper.catalog.importers.raster_layer import LayerRequest, parse_numbers
    from mapper.catalog.importers.rasters import RasterRequest

    more, named, coded = list(words), _split_words(bands), _split_words(classes)
    if more and not (named or coded):
        raise InputError(f"{' '.join(more)}: names of bands follow --bands, those of classes --classes")
    if coded:
        coded += more
    else:
        named += more
    numbers = parse_numbers(named, "--bands")
    several = [name for name, each in numbers.items() if len(each) > 1]
    if several:
        raise InputError(f"--bands {several[0]} has several numbers: a band has one")
    codes = parse_numbers(coded, "--classes")
    silent = [name for name, each in codes.items() if not each]
    if silent:
        raise InputError(f"--classes {silent[0]} has no code: {silent[0]}=1")
    layer = LayerRequest(
        kind=said.pop("kind"),
        bands={name: each[0] if each else None for name, each in numbers.items()},
        units=said.pop("units"),
        vertical_datum=said.pop("vertical_datum"),
        heights=said.pop("heights"),
        classes=codes,
        nodata=_parse_nodata(nodata),
    )
    return RasterRequest(layer=layer, dates=_parse_dates(date), **said)


def print_catalog(made: "RasterCatalog", *, as_json: bool) -> None:
    """Print what was written, what was guessed, what was left out, and what to do next."""
    if as_json:
        content = {
            "catalog": str(made.catalog),
            "provider": str(made.provider),
            "collection": made.collection,
            "bands": list(made.layer.bands),
            "rule": made.layer.rule,
            "items": [item["id"] for item in made.items],
            "notes": list(made.notes),
            "left_out": list(made.left_out),
        }
        typer.echo(json.dumps(content, indent=2, allow_nan=True))
        return
    for line in made.left_out:
        notify(escape(f"left out: {line}"))
    typer.echo(f"{made.catalog}: {len(made.items)} items of collection {made.collection}")
    for line in made.notes:
        typer.echo(f"  {line}")
    typer.echo(f"next, in MAP.yaml:\n\n{_suggest(made)}")
    folder = made.catalog.parent / made.collection
    typer.echo(f"how files are read: mapper catalog check {_shorten(made.provider)} --item {_shorten(folder)} --open")


def _suggest(made: "RasterCatalog") -> str:
    """Return a MAP.yaml that reads heights, or the part of one that reads a guide."""
    from mapper.catalog.importers.rasters import ANY_DAY

    home = {"catalog": {"provider": _shorten(made.provider)}}
    if made.layer.kind != "elevation":
        layer = {"collection": made.collection, "bands": list(made.layer.bands), "static": True}
        return _write({"guide": {"layers": [{**layer, **home}]}})
    crs, step = _find_grid(made.items[0])
    thirds = step % 3 == 0
    boxes = [item["bbox"] for item in made.items]
    west, south, east, north = (
        pick(edge) for pick, edge in zip((min, min, max, max), zip(*boxes, strict=True), strict=True)
    )
    return _write(
        {
            "preset": "elevation",
            "name": made.collection,
            "area": {"bbox": [round(edge, 6) for edge in (west, south, east, north)]},
            "period": {"start": str(ANY_DAY), "end": str(ANY_DAY)},
            "grid": {"crs": crs, "resolution": step / (3 if thirds else 2)},
            **home,
            "source": {
                "collection": made.collection, "variable": made.layer.bands[0], "resolution": step, "static": True,
            },
            "model": {"name": "bicubic"},
            "store": f"{made.collection}.icechunk",
        }
    )  # fmt: skip


def _find_grid(item: "ItemDict") -> tuple[str, float]:
    """Return a CRS in metres for a map of a file, and a source pixel as large as the file's."""
    from pyproj import CRS

    asset = item["assets"]["data"]
    crs = CRS.from_user_input(asset["proj:epsg"] or asset["proj:wkt2"])
    unit, step = crs.axis_info[0].unit_conversion_factor, abs(asset["proj:transform"][4])
    if crs.is_geographic:
        return _find_utm(item), float(f"{step * unit * _EARTH_M:.1g}")
    own = f"EPSG:{asset['proj:epsg']}" if asset["proj:epsg"] and unit == 1 else _find_utm(item)
    return own, float(f"{step * unit:.6g}")


def _find_utm(item: "ItemDict") -> str:
    west, south, east, north = item["bbox"]
    zone = min(60, max(1, int(((west + east) / 2 + 180) // 6) + 1))
    return f"EPSG:{326 if south + north >= 0 else 327}{zone:02d}"


def _write(content: Mapping[str, Any]) -> str:
    return "".join(f"    {line}\n" for line in yaml.safe_dump(dict(content), sort_keys=False).splitlines())


def _shorten(path: Path) -> str:
    """Return a path from here, if it is below."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _split_words(words: Iterable[str]) -> list[str]:
    return [part for word in words for part in word.split()]


def _parse_nodata(text: str | None) -> float | Literal["none"] | None:
    if text is None or text == "none":
        return "none" if text else None
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"--nodata {text!r} is neither a number nor none") from error


def _parse_dates(text: str | None) -> tuple[date, date] | None:
    if text is None:
        return None
    days: Sequence[str] = text.split("/")
    try:
        first, last = (date.fromisoformat(day) for day in (days[0], days[-1]))
    except ValueError as error:
        raise InputError(f"--date {text!r} is no date: 2021-06-30, or 2020-01-01/2021-12-31") from error
    if len(days) > 2 or last < first:
        raise InputError(f"--date {text!r} is no period: first day, /, last day")
    return first, last
