"""A stack of dates: the clearest ones of each pixel, one a day, each with its mask.

Which dates a pixel keeps is decided for that pixel alone: items are ranked by the cloud cover of their scene, then by
time and id, and a pixel takes the first so many of them in which it is clear, one a day. So the same dates are used
however a map is tiled and in whatever order its items come. Items are read in that order, a few at a time, and reading
ends when no pixel lacks a date.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import bottleneck as bn
import numpy as np
from odc.geo.geobox import GeoBox
from pyproj import CRS

from mapper.access.files import Access
from mapper.arrays import BoolArray, Float32Array, IntArray, UInt16Array
from mapper.catalog.heights import describe_heights
from mapper.catalog.items import ItemDict, Items, flies, is_clear, item_datetime
from mapper.catalog.provider import CollectionRule, Provider
from mapper.catalog.uses import ItemUse
from mapper.cube.datum_shift import add_shift
from mapper.cube.observations import Observation, describe_use, group_items
from mapper.cube.projection import declared_grid
from mapper.cube.read import BlockReader, read_sound, split_usable
from mapper.spec import MapSpec, SourceSpec

NOT_NEEDED = "not needed: every pixel has clearer dates"
"""Reason of an item that was left out because other dates are clearer."""
_GRID_TOLERANCE = 1e-3
"""Largest distance between a file's pixel edges and those of a native grid, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The item that a stack shows at each pixel."""

    ids: tuple[str, ...]
    """Ids of items."""
    number: IntArray
    """(y, x) number of an item among them; -1 where none is shown."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Input of one window: bands on several dates."""

    values: Float32Array
    """(date, band, y, x) in the units of the collection, NaN where missing or not used."""
    clear: BoolArray
    """(date, y, x) True where a date is used."""
    dates: tuple[date, ...]
    """Dates in UTC, ascending."""
    days: Float32Array
    """(date,) days from the anchor; from the middle of the period where the anchor is no date."""
    image: Float32Array
    """(band, y, x) image that the map shows: the anchor, NaN where no date is clear."""
    shown: IntArray
    """(y, x) number of the date that ``image`` shows; -1 where there is none, and everywhere for the median."""
    items: Shown
    """Items that ``image`` shows."""
    n_valid: UInt16Array
    """(y, x) number of dates that are used."""
    uses: tuple[ItemUse, ...]
    """Uses of all items, those left out included."""


def read_stack(
    items: Items,
    geobox: GeoBox,
    *,
    spec: MapSpec,
    provider: Provider,
    access: Access | None = None,
    threads: int = 4,
) -> Stack:
    """Read the clearest dates of a source.

    Args:
        items: Items of any collections and dates; those that do not touch the window or are not asked for are ignored.
        geobox: Source pixels.
        spec: The map; its ``source`` is a stack.
        provider: How the collection is read.
        access: How files are reached, and who counts.
        threads: Files read at a time.

    Returns:
        The stack; on a native grid its numbers are those of the files, calibrated.

    Raises:
        SpecError: If a band is unknown or a calibration cannot be decided.
        TransientAssetError: Throttling or network.
    """
    rule = provider.rule(spec.source.collection)
    near = items.touching(geobox) if len(items) else items
    chosen = near.pick(number for number, item in enumerate(near) if enters_stack(item, spec))
    usable, dropped = split_usable(chosen, rule)
    if spec.grid.kind == "native":
        usable, dropped = _split_nested(usable, rule, geobox, spec.source, dropped)
        rule = rule.model_copy(update={"resampling": "nearest"})
    elif spec.source.resampling:
        rule = rule.model_copy(update={"resampling": spec.source.resampling})
    nested = spec.grid.kind == "native"
    reader = BlockReader(geobox=geobox, rule=rule, access=access or Access(), threads=threads, nested=nested)
    picker = _Picker(reader=reader, source=spec.source, dropped=dropped)
    picker.read(group_alone(usable, rule, spec.source.band_names))
    used = picker.used
    uses = tuple(
        describe_use(
            item,
            rule,
            spec.source.band_names,
            role="source",
            dropped=dropped.get(item["id"], "" if item["id"] in used else NOT_NEEDED),
            witness=reader.sampler.witness,
        )
        for item in chosen
    )
    heights = describe_heights(rule, spec.source.datum_shift)
    noted = tuple(replace(use, calibration="; ".join(filter(None, (use.calibration, heights)))) for use in uses)
    stack, shift = picker.stack(_anchor_day(spec)), spec.source.datum_shift
    return replace(
        stack,
        values=add_shift(stack.values, shift, geobox),
        image=add_shift(stack.image, shift, geobox),
        uses=noted,
    )


def enters_stack(item: ItemDict, spec: MapSpec) -> bool:
    """Return True for an item that is one of the dates of a map."""
    source = spec.source
    return (
        item["collection"] == source.collection
        and spec.period.start <= item_datetime(item).date() <= spec.period.end
        and (source.orbit is None or flies(item, source.orbit))
        and is_clear(item, source.cloud_limit)
    )


def group_alone(items: Iterable[ItemDict], rule: CollectionRule, bands: Sequence[str]) -> list[Observation]:
    """Return each item as an observation of its own, the clearest first; equals by time and id."""
    groups = [group for item in items for group in group_items((item,), rule, bands)]
    return sorted(groups, key=lambda group: (_cloud_of(group), group.time, str(group.items[0]["id"])))


def _cloud_of(group: Observation) -> float:
    """Return the cloud cover of a scene in percent; one that does not state it counts as clear."""
    return float(group.items[0]["properties"].get("eo:cloud_cover") or 0.0)


def _anchor_day(spec: MapSpec) -> date:
    if isinstance(spec.source.anchor, date):
        return spec.source.anchor
    return spec.period.start + timedelta(days=(spec.period.end - spec.period.start).days // 2)


@dataclass(kw_only=True)
class _Picker:
    """Picker of the dates of each pixel while items are read, the clearest first."""

    reader: BlockReader
    source: SourceSpec
    dropped: dict[str, str]
    """Reasons of items that were left out, by id."""
    used: dict[str, int] = field(default_factory=dict)
    """Number of each item that was used, by id."""
    images: dict[date, Float32Array] = field(default_factory=dict)
    """(band, y, x) of each day."""
    clear: dict[date, BoolArray] = field(default_factory=dict)
    taken: dict[date, IntArray] = field(default_factory=dict)
    """(y, x) of each day: number of the item, in the order of ``used``, that a pixel took."""

    def __post_init__(self) -> None:
        shape = tuple(self.reader.geobox.shape)
        self.count: UInt16Array = np.zeros(shape, np.uint16)
        self.clearest: IntArray = np.zeros(shape, np.int64)
        """(y, x) ordinal of the clearest day; 0 where there is none."""

    def read(self, groups: Sequence[Observation]) -> None:
        """Read observations in their order until no pixel lacks a date."""
        step = max(1, self.reader.threads)
        for first in range(0, len(groups), step):
            if not self._lacks.any():
                return
            self._read_some(groups[first : first + step])

    def stack(self, anchor: date) -> Stack:
        """Return what was picked; days are counted from the anchor."""
        dates = tuple(sorted(self.images))
        bands, shape = len(self.source.band_names), self.count.shape
        values = np.full((len(dates), bands, *shape), np.nan, np.float32)
        clear = np.zeros((len(dates), *shape), bool)
        for number, day in enumerate(dates):
            values[number], clear[number] = self.images[day], self.clear[day]
        shown = self._find_shown(clear, dates)
        items: IntArray = np.full(shown.shape, -1, np.int64)
        for at, day in enumerate(dates):
            np.copyto(items, self.taken[day], where=shown == at)
        image = self._blank
        if self.source.anchor == "median" and dates:
            image = bn.nanmedian(values, axis=0)
        elif dates:
            picked = np.take_along_axis(values, np.maximum(shown, 0)[None, None], axis=0)[0]
            image = np.where(shown >= 0, picked, np.float32(np.nan))
        return Stack(
            values=values,
            clear=clear,
            dates=dates,
            days=np.array([(day - anchor).days for day in dates], np.float32),
            image=image,
            shown=shown,
            items=Shown(ids=tuple(self.used), number=items),
            n_valid=self.count,
            uses=(),
        )

    @property
    def _blank(self) -> Float32Array:
        """Image without a value, (band, y, x)."""
        return np.full((len(self.source.band_names), *self.count.shape), np.nan, np.float32)

    @property
    def _lacks(self) -> BoolArray:
        lacks: BoolArray = self.count < self.source.dates
        return lacks

    def _read_some(self, groups: Sequence[Observation]) -> None:
        """Read a few observations together, then let each pixel take what it lacks, in their order."""
        first = self.source.band_names[0]
        by_id = {group.items[0]["id"]: group for group in groups}

        def read_first(sound: Sequence[ItemDict]) -> list[tuple[Observation, Float32Array]]:
            alone = [by_id[item["id"]] for item in sound]
            clear = self.reader.read_clear(alone) & self._lacks
            return list(zip(alone, self.reader.read_band(alone, first, clear), strict=True))

        members = [group.items[0] for group in groups]
        for group, pixels in read_sound(members, self.dropped, read_first):
            day = group.time.date()
            takes = np.isfinite(pixels) & self._lacks & ~self.clear.get(day, np.zeros(self.count.shape, bool))
            if takes.any():
                self._take_from(group, day, takes, pixels)

    def _take_from(self, group: Observation, day: date, takes: BoolArray, first: Float32Array) -> None:
        """Read the other bands of an observation, and let pixels take it; none do where a file is broken."""
        others = self.source.band_names[1:]

        def read_others(sound: Sequence[ItemDict]) -> list[Float32Array]:
            return [self.reader.read_band([group], band, takes[None])[0] for band in others] if sound else []

        rest = read_sound(group.items, self.dropped, read_others)
        if (name := group.items[0]["id"]) not in self.dropped:
            self._take(day, takes, np.stack([first, *rest]), self.used.setdefault(name, len(self.used)))

    def _take(self, day: date, takes: BoolArray, pixels: Float32Array, item: int) -> None:
        if day not in self.images:
            self.images[day] = self._blank
            self.clear[day] = np.zeros_like(takes)
            self.taken[day] = np.full(takes.shape, -1, np.int64)
        self.taken[day][takes] = item
        self.images[day][:, takes] = pixels[:, takes]
        self.clear[day] |= takes
        self.clearest[takes & (self.count == 0)] = day.toordinal()
        self.count += takes

    def _find_shown(self, clear: BoolArray, dates: Sequence[date]) -> IntArray:
        """Return the number of the date of the anchor, (y, x); -1 where there is none."""
        shown: IntArray = np.full(self.count.shape, -1, np.int64)
        anchor = self.source.anchor
        if anchor == "clearest":
            ordinals = np.array([day.toordinal() for day in dates], np.int64)
            shown = np.where(self.clearest > 0, np.searchsorted(ordinals, self.clearest), -1)
        elif isinstance(anchor, date):
            for number in sorted(range(len(dates)), key=lambda number: (abs((dates[number] - anchor).days), number)):
                shown[clear[number] & (shown < 0)] = number
        return shown


def _split_nested(
    items: Items, rule: CollectionRule, geobox: GeoBox, source: SourceSpec, dropped: dict[str, str]
) -> tuple[Items, dict[str, str]]:
    """Split items into those whose pixels are those of a native grid, and reasons for the others."""
    reasons = dict(_find_other_grids(items, rule, geobox, source))
    nested = tuple(item for item in items if item["id"] not in reasons)
    return Items(items=nested, query=items.query), dropped | reasons


def _find_other_grids(
    items: Items, rule: CollectionRule, geobox: GeoBox, source: SourceSpec
) -> Iterator[tuple[str, str]]:
    crs, at, step = CRS(str(geobox.crs)), geobox.transform, float(source.resolution)
    for item in items:
        for band in source.band_names:
            grid = declared_grid(item, rule.bands[band].asset)
            if grid is None:
                continue  # taken at its word
            to = grid.transform
            offsets = ((to.c - at.c) / step, (to.f - at.f) / step, to.a / step - 1, to.e / step + 1)
            off = (
                max(abs(offset - round(offset)) for offset in offsets[:2]) + sum(map(abs, offsets[2:])) * grid.shape[0]
            )
            if grid.crs != crs or off > _GRID_TOLERANCE:
                size = f"pixels of {to.a:g} x {-to.e:g} from ({to.c:g}, {to.f:g}) in {grid.crs.to_string()}"
                yield item["id"], f"lies on another grid: {band} has {size}"
                break
