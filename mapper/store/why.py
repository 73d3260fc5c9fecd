"""Explanation of a pixel: its values, and the record of the tile it lies in."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store

from mapper.catalog.uses import ItemUse
from mapper.grid import Tile
from mapper.predict.quality import read_flags
from mapper.store.checksums import read_pixels
from mapper.store.description import Description, read_description
from mapper.store.errors import explain_faults
from mapper.store.ledger import Ledger
from mapper.store.map_store import MapStore
from mapper.store.product import DAYS, Band, Banded
from mapper.store.record import Record
from mapper.store.repository import NoVersionError, is_kept, open_snapshot, trace_ancestry

_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, kw_only=True)
class BandValue:
    """Value of one target band at one pixel, in its units."""

    name: str
    units: str
    value: float | None
    """None where missing."""
    sd: float | None
    """None where missing, or where the map has none."""
    vertical_datum: str = ""
    """Datum of heights; empty for other values, and where nobody says."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One pixel and what made it."""

    x: float
    y: float
    crs: str
    """CRS of ``x`` and ``y`` as they were asked."""
    row: int
    col: int
    tile: Tile
    target: str
    """Name of the first target band; ``guide`` for a guide."""
    units: str
    value: float | None
    """Value of the first target band, None where missing."""
    sd: float | None
    qa: int
    flags: tuple[str, ...]
    """Meanings of the bits of ``qa``."""
    n_valid: int
    snapshot: str
    """Version that wrote the tile; empty if it was never written or has expired."""
    written_at: datetime | None
    record: Record | None
    """None if the tile was never attempted."""
    channels: dict[str, float | None] = field(default_factory=dict)
    """Values of the channels of a guide by name, None where missing; a guide has no other value."""
    bands: tuple[BandValue, ...] = ()
    """Values of the target bands of a map, in the order of the store."""
    vertical_datum: str = ""
    """Datum of the heights of the first target band; empty for other values, and where nobody says."""

    ancillary: dict[str, float | str | None] = field(default_factory=dict)
    """What else the map says of the pixel, by name of the band: numbers, days in ISO 8601, None where missing."""

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON-ready values, without ``bands`` where there is one; see :func:`to_plain`."""
        left_out = {"bands": len(self.bands) < 2, "vertical_datum": not self.vertical_datum}
        left_out["ancillary"] = not self.ancillary
        return {each.name: to_plain(getattr(self, each.name)) for each in fields(self) if not left_out.get(each.name)}

    def to_text(self) -> str:
        """Return the answer for a terminal."""
        lines = [
            *self._describe_values(),
            f"  pixel     row {self.row}, col {self.col}, tile {self.tile}; asked ({self.x}, {self.y}) in {self.crs}",
            f"  quality   {', '.join(self.flags) or 'nothing to remark'}; {self.n_valid} valid observations",
        ]
        lines += [f"  {name:<9} {'unknown' if value is None else value}" for name, value in self.ancillary.items()]
        if self.record is None:
            return "\n".join([*lines, "  made by   nothing: this tile was never attempted"])
        return "\n".join([*lines, *_describe_record(self.record, self.snapshot, self.written_at)])

    def _describe_values(self) -> list[str]:
        if self.channels:
            values = {name: "no value" if value is None else f"{value:g}" for name, value in self.channels.items()}
            return [self.target, *(f"  {name:<24} {value}" for name, value in values.items())]
        return [_describe_value(band) for band in self.bands]


def why(location: str | Path, x: float, y: float, *, crs: str = "EPSG:4326", ref: str = "main") -> Answer:
    """Explain what made the pixel that holds a point.

    Args:
        location: Directory, or s3://, gs://, az:// location.
        x: Easting or longitude.
        y: Northing or latitude.
        crs: CRS of the point.
        ref: Branch, tag or snapshot id.

    Raises:
        StoreError: If the store or the version does not exist.
        GridError: If the point is outside the map.
    """
    store = MapStore.open(location, ref)
    return explain_pixel(store.ledger, x, y, crs=crs, description=store.description)


def explain_pixel(
    ledger: Ledger, x: float, y: float, *, crs: str = "EPSG:4326", description: Description | None = None
) -> Answer:
    """Return what made the pixel that holds a point, of a store that is open; see :func:`why`.

    Args:
        ledger: Of one version.
        x: Easting or longitude.
        y: Northing or latitude.
        crs: CRS of the point.
        description: Of the store, if it was read before.

    Raises:
        GridError: If the point is outside the map.
    """
    store = ledger.session.store
    description = description or read_description(store)
    row, col, tile = description.grid.locate(x, y, crs=crs)
    batch = ledger.batch_at(tile)
    snapshot = ledger.snapshot_of(batch) if batch else None
    return Answer(
        x=x,
        y=y,
        crs=crs,
        row=row,
        col=col,
        tile=tile,
        **_read_pixel(store, description, row, col),
        snapshot=snapshot.id if snapshot else "",
        written_at=snapshot.written_at if snapshot else None,
        record=ledger.record_at(tile),
    )


def _read_pixel(store: Store, bands: Banded, row: int, col: int) -> dict[str, Any]:
    """Return the decoded values of one pixel, as fields of an answer."""

    def read(band: Band) -> Any:
        pixel = slice(row, row + 1), slice(col, col + 1)
        return read_pixels(zarr.open_array(store, path=band.name, mode="r"), *pixel)[0, 0]

    def decode(band: Band | None) -> float | None:
        if band is None or band.encoding is None:
            return None
        value = float(band.encoding.decode(read(band)))
        return None if np.isnan(value) else value

    values = tuple(
        BandValue(
            name=band.name,
            units=band.units,
            value=decode(band),
            sd=decode(bands.sd_of(band.name)),
            vertical_datum=band.vertical_datum,
        )
        for band in bands.values
    )
    first = values[0] if values else BandValue(name="guide", units="", value=None, sd=None)
    quality = int(read(bands.quality))
    return {
        "target": first.name,
        "units": first.units,
        "value": first.value,
        "sd": first.sd,
        "qa": quality if values else 0,
        "flags": name_flags(bands.quality, quality),
        "n_valid": int(read(bands.count)),
        "channels": {band.name: decode(band) for band in bands.channels},
        "bands": values,
        "vertical_datum": first.vertical_datum,
        "ancillary": {band.name: _show(band, read(band), decode(band)) for band in bands.ancillary},
    }


def _show(band: Band, stored: Any, value: float | None) -> float | str | None:
    """Return what an ancillary band says of a pixel: a count as it is stored, a day as a date."""
    if band.encoding is None:
        return int(stored)
    if value is None or band.units != DAYS:
        return value
    return (_EPOCH + timedelta(days=value)).isoformat()


def _describe_value(band: BandValue) -> str:
    value = "no value" if band.value is None else f"{band.value:g} {band.units}"
    sd = "" if band.sd is None else f" ± {band.sd:g} (standard deviation)"
    datum = f", heights in {band.vertical_datum}" if band.vertical_datum else ""
    return f"{band.name} {value}{sd}{datum}"


def name_flags(quality: Band, stored: int) -> tuple[str, ...]:
    """Return the meanings of a stored number of a quality band, which holds bits or one of several values."""
    if not stored:
        return ()
    return tuple(name for name, (mask, value) in read_flags(quality.attributes).items() if stored & mask == value)


def _describe_record(record: Record, snapshot: str, written_at: datetime | None) -> list[str]:
    written = f"{written_at:%Y-%m-%d %H:%M:%S} UTC" if written_at else "at a version that has expired"
    seconds = ", ".join(f"{stage} {duration:.1f} s" for stage, duration in record.seconds.items())
    rows = {
        "status": f"{record.status}{f': {record.reason}' if record.reason else ''}",
        "written": f"{written}, snapshot {snapshot or 'unknown'}, run {record.run_id}",
        "task": record.task_id,
        "model": f"{record.model} ({record.model_digest[:12]})" if record.model else "none: composites only",
        "code": f"mapper {record.code_version}; {record.environment}",
        "worker": f"{record.worker} on {record.device}; {seconds or 'no timings'}; attempt {record.attempts}",
        "reading": _describe_reading(record),
        **({"guide": f"read from {record.guide_store}"} if record.guide_store else {}),
        **({"dates": _describe_dates(record), "anchor": record.anchor} if record.dates else {}),
        "spec": f"{record.spec_digest[:12]}, grid {record.grid_digest[:12]}",
    }
    lines = [f"  {name:<9} {text}" for name, text in rows.items()]
    used = sorted(record.items, key=lambda item: (item.role, bool(item.dropped), item.datetime))
    return [*lines, f"  items     {len(used)}", *(_describe_item(item) for item in used)]


def _describe_dates(record: Record) -> str:
    """Return the days of a stack, each with its shift against the anchor where it is known."""
    shifts = {shift.date: shift for shift in record.shifts}
    return ", ".join(
        f"{day} ({shift.down:+.2f} down, {shift.right:+.2f} right, trust {shift.trust:.2f})"
        if (shift := shifts.get(day))
        else f"{day}"
        for day in record.dates
    )


def _describe_reading(record: Record) -> str:
    if not record.requests:
        return "no request over the network"
    reasons = Counter(retry.reason for retry in record.retries)
    again = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return f"{record.requests} requests, {record.bytes_read / 1e6:.1f} MB; put again: {again or 'none'}"


def _describe_item(item: ItemUse) -> str:
    fate = f"DROPPED: {item.dropped}" if item.dropped else item.calibration
    return f"    {item.role:<6} {item.datetime:%Y-%m-%d} {item.collection}/{item.id} ({fate})"


def to_plain(value: Any) -> Any:
    """Return a value as JSON holds it: dataclasses as objects, times in ISO 8601, null where a number is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: to_plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, date):  # and so a datetime
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return [to_plain(item) for item in value] if isinstance(value, tuple | list) else value


def trace_pixel(
    ledger: Ledger, x: float, y: float, *, crs: str = "EPSG:4326", description: Description | None = None
) -> Iterator[Answer]:
    """Yield what made the pixel that holds a point, then what made it before, back to the first.

    The cost is that of the versions of this one tile, not of all commits. It ends where a version has expired. All
    versions of a store have one description.

    Raises:
        StoreError: If the storage fails.
        GridError: If the point is outside the map.
    """
    while True:
        with explain_faults("the store"):
            description = description or read_description(ledger.session.store)
            answer = explain_pixel(ledger, x, y, crs=crs, description=description)
        if answer.record is None:
            return
        yield answer
        before = _find_parent(ledger, answer.snapshot)
        if not before:
            return
        try:
            with explain_faults("the store"):
                session = open_snapshot(ledger.repository, before)
        except NoVersionError:
            return
        ledger = replace(ledger, session=session)


def _find_parent(ledger: Ledger, snapshot: str) -> str:
    """Return the version before another; empty if there is none or it has expired."""
    if not snapshot:
        return ""
    with explain_faults("the store"):
        if not is_kept(ledger.repository, snapshot):
            return ""
        _, *before = trace_ancestry(ledger.repository, snapshot, 2)
    # the very first version was made before the store was, and holds nothing; it follows the oldest that is kept
    return before[0].id if before and before[0].parent_id is not None else ""
