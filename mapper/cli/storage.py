"""Commands that look after a store: gc, expire."""

import re
from datetime import timedelta
from typing import Annotated

import typer

from mapper.api import location_of
from mapper.cli.options import JsonOption, StoreArgument
from mapper.cli.printing import notify, print_json

_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])|0")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

storage_app = typer.Typer(
    help="Look after a store: remove garbage, shorten its history.", no_args_is_help=True, rich_markup_mode="markdown"
)


def parse_age(text: str) -> timedelta:
    """Parse an age such as ``90s``, ``30m``, ``12h``, ``7d``, ``4w`` or ``0``.

    Raises:
        typer.BadParameter: If it is none.
    """
    match = _AGE.fullmatch(text.strip())
    if not match:
        raise typer.BadParameter(f"{text!r} is no age, expected a number and s, m, h, d or w (7d), or 0")
    number, unit = match.groups()
    try:
        return timedelta(**{_UNITS[unit]: float(number)}) if unit else timedelta(0)
    except OverflowError as error:
        raise typer.BadParameter(f"{text!r} is too long ago") from error


NoRunOption = Annotated[
    bool,
    typer.Option(
        "--no-run-alive", help="You know that no run writes to this object store; allows ages of less than a day."
    ),
]


@storage_app.command("gc")
def gc_command(
    store: StoreArgument,
    *,
    older_than: Annotated[
        timedelta | None,
        typer.Option(
            parser=parse_age,
            metavar="AGE",
            help="Age of garbage to remove: **7d**, **12h**, **30m**, **0**. Default: 0 on local disk, 7d elsewhere.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be removed, and remove nothing.")
    ] = False,
    no_run_alive: NoRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what no version of a store refers to: shards of lost batches, expired versions, unfinished files.

    Takes the lock of the writer, or its lease in an object store, and is refused while a run is on; so is a dry run,
    which would count the tiles of that run. A run that is paused can lose its lease and go on with a commit: in object
    stores only garbage of a day or more is removed. A lock on a network disk protects only where the disk honours it
    (NFS 4 does): give an age there as well.
    """
    from mapper.store.garbage import collect_garbage

    report = collect_garbage(location_of(store), older_than=older_than, dry_run=dry_run, no_run_alive=no_run_alive)
    print_json(report.to_dict()) if as_json else typer.echo(report.to_text())


@storage_app.command("expire")
def expire_command(
    store: StoreArgument,
    *,
    older_than: Annotated[
        timedelta,
        typer.Option(parser=parse_age, metavar="AGE", help="Forget versions of this age: **30d**, **12h**, **0**."),
    ],
    no_run_alive: NoRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Forget old versions of a store; the latest and all tagged releases stay, with their ledgers.

    Tiles, records and checksums of what stays are untouched; `mapper why` still explains all of a tile but the version
    that wrote it, if that expired. What only expired versions held is freed by `mapper store gc`; until then whoever
    has such a version open can read it.
    """
    from mapper.store.garbage import expire_snapshots

    report = expire_snapshots(location_of(store), older_than=older_than, no_run_alive=no_run_alive)
    print_json(report.to_dict()) if as_json else typer.echo(report.to_text())
    if report.expired:
        notify("`mapper store gc` frees what only they held")
