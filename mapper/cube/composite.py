"""Composites of many dates to the guide: one image for each season and band.

Seasons and layers are worked through one after the other and bands one at a time, so the memory needed is that of one
band of one season. A file that turns out to be broken takes its item out of the tile: the layer is composed again
without it, and the item is noted.

A layer of the items of the source is no composite: at each pixel it is the item that the source shows there, and
nothing where that has no value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import bottleneck as bn
import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from mapper.access.files import Access
from mapper.arrays import BoolArray, Float32Array, UInt16Array
from mapper.catalog.heights import describe_heights, list_heights
from mapper.catalog.items import ItemDict, Items
from mapper.catalog.provider import CollectionRule, Provider
from mapper.catalog.uses import ItemUse
from mapper.cube.calibrate import to_decibel, to_power
from mapper.cube.check import GuideCheck
from mapper.cube.datum_shift import add_shift
from mapper.cube.observations import describe_use, group_items
from mapper.cube.read import BlockReader, read_sound, split_usable
from mapper.cube.resample import Sampler
from mapper.cube.stack import NOT_NEEDED, Shown
from mapper.cube.witness import Witness
from mapper.errors import SpecError
from mapper.spec import LayerSpec, MapSpec

Reducer = Literal["median", "mean", "first"]
"""Reduction of dates; ``first`` takes the value of the first that has one, as indicators of classes are reduced."""


@dataclass(frozen=True, kw_only=True)
class Guide:
    """Fine predictors of one window, in the order of ``spec.guide.channels``."""

    values: Float32Array
    """(channel, y, x) in the units of each channel's collection, NaN where missing."""
    n_valid: UInt16Array
    """(y, x) number of valid observations in all seasons, of the first reflectance layer (else of the first layer)."""
    gaps: npt.NDArray[np.bool_]
    """(y, x): True where any channel is missing."""
    uses: tuple[ItemUse, ...]
    """Uses of all items, those left out included."""
    counts: bool = True
    """False where all of it is of the items of the source, which is counted by itself."""


def compose(dataset: xr.Dataset, reducer: Reducer) -> tuple[Float32Array, UInt16Array]:
    """Reduce a block to one image for each band.

    Args:
        dataset: Variables (time, y, x), float32, NaN where missing, with the attribute ``units``.
        reducer: ``median``, or ``mean``, which for decibels is taken in linear power; of an indicator of classes the
            first valid value is taken.

    Returns:
        Values (band, y, x) float32, NaN where no date is valid; on how many dates the first band is (y, x).
    """
    stacks = [(np.asarray(stack.data), stack.attrs) for stack in dataset.data_vars.values()]
    images = [
        reduce_stack(stack, "first" if "flag_values" in attrs else reducer, str(attrs.get("units", "1")))
        for stack, attrs in stacks
    ]
    return np.stack(images), _count(stacks[0][0])


def reduce_stack(stack: Float32Array, reducer: Reducer, units: str) -> Float32Array:
    """Reduce (time, y, x) to (y, x), ignoring NaN; NaN where all are."""
    if not len(stack) or reducer == "first":
        return take_first(stack)
    if reducer == "median":
        median: Float32Array = bn.nanmedian(stack, axis=0)
        return median
    mean: Float32Array = bn.nanmean(to_power(stack) if units == "dB" else stack, axis=0)
    return to_decibel(mean) if units == "dB" else mean


def take_first(stack: Float32Array) -> Float32Array:
    """Return the first valid value of each pixel, (time, y, x) to (y, x); NaN where there is none."""
    result = np.full(stack.shape[1:], np.nan, np.float32)
    for layer in stack:
        np.copyto(result, layer, where=np.isnan(result))
    return result


@dataclass(kw_only=True)
class _Composer:
    """Composer of the layers of one window, which records the items left out."""

    geobox: GeoBox
    provider: Provider
    access: Access
    threads: int
    nested: bool = False
    """True on a native grid, on which the items of the source are copied."""
    sampler: Sampler = field(default_factory=Sampler)
    dropped: dict[str, dict[str, str]] = field(default_factory=dict)
    """Reasons of items that were left out, by collection and id."""

    def compose_layer(self, items: Items, layer: LayerSpec) -> tuple[list[Float32Array], UInt16Array]:
        """Return one image for each band of a layer, and the count of the first, from the items of one season."""
        rule = self.provider.rule(layer.collection)
        usable, reasons = split_usable(items, rule)
        dropped = self.dropped.setdefault(layer.collection, {})
        dropped |= reasons
        return read_sound(usable, dropped, lambda sound: self._compose(sound, layer, rule))

    def read_shown(self, items: Items, layer: LayerSpec, shown: Shown) -> tuple[list[Float32Array], UInt16Array]:
        """Return the bands of a layer, each pixel of the item that the source shows, and where they have a value."""
        rule = self.provider.rule(layer.collection)
        reader = BlockReader(
            geobox=self.geobox,
            rule=rule.model_copy(update={"resampling": "nearest"}) if self.nested else rule,
            access=self.access,
            threads=self.threads,
            sampler=self.sampler,
            nested=self.nested,
        )
        dropped = self.dropped.setdefault(layer.collection, {})
        scale = self.geobox.shape[0] // shown.number.shape[0]
        images = [np.full(self.geobox.shape, np.nan, np.float32) for _ in layer.bands]
        by_id = {item["id"]: item for item in items}
        for number, name in enumerate(shown.ids):
            here = (shown.number == number).repeat(scale, 0).repeat(scale, 1)
            if here.any():
                read_sound([by_id[name]], dropped, partial(self._copy_shown, reader, here, layer, images))
        unseen = by_id.keys() - {shown.ids[number] for number in np.unique(shown.number) if number >= 0}
        dropped |= {name: NOT_NEEDED for name in unseen if name not in dropped}
        return images, np.isfinite(images[0]).astype(np.uint16)

    def _copy_shown(
        self,
        reader: BlockReader,
        here: BoolArray,
        layer: LayerSpec,
        images: Sequence[Float32Array],
        sound: Sequence[ItemDict],
    ) -> None:
        """Read the bands of an item where it is shown; all of them or, where a file is broken, none."""
        groups = group_items(sound, reader.rule, layer.bands)
        found = [reader.read_band([group], band, here[None])[0] for group in groups for band in layer.bands]
        for image, pixels in zip(images, found, strict=False):
            np.copyto(image, pixels, where=here)

    def _compose(
        self, items: Sequence[ItemDict], layer: LayerSpec, rule: CollectionRule
    ) -> tuple[list[Float32Array], UInt16Array]:
        groups = group_items(items, rule, layer.bands)
        reader = BlockReader(
            geobox=self.geobox, rule=rule, access=self.access, threads=self.threads, sampler=self.sampler
        )
        clear = reader.read_clear(groups)
        images: list[Float32Array] = []
        count = np.zeros(self.geobox.shape, np.uint16)
        for band in layer.bands:
            stack = reader.read_band(groups, band, clear)
            if not images:
                count = _count(stack)
            reducer: Reducer = "first" if rule.bands[band].classes else layer.reducer or rule.reducer
            image = reduce_stack(stack, reducer, rule.units)
            shift = layer.datum_shift if band in list_heights(layer, rule) else None
            images.append(add_shift(image, shift, self.geobox))
        return images, count


def read_guide(
    items: Items,
    geobox: GeoBox,
    *,
    spec: MapSpec,
    provider: Provider,
    access: Access | None = None,
    threads: int = 4,
    shown: Shown | None = None,
) -> Guide:
    """Read and compose the guide of one window.

    Args:
        items: Items of any collections and dates; those that do not touch the window or are not asked for are ignored.
        geobox: Target pixels.
        spec: What is asked for.
        provider: How the collections are read.
        access: How files are reached, and who counts.
        threads: Files read at a time; reading from an archive is mostly waiting.
        shown: Items that the source shows, on its pixels; only layers of the items of the source need them.

    Returns:
        The guide; a band that no item has is missing everywhere, see :func:`check_guide`.

    Raises:
        SpecError: If a calibration cannot be decided, or nobody says what the source shows.
        TransientAssetError: Throttling or network.
    """
    near = items.touching(geobox) if len(items) else items
    composer = _Composer(
        geobox=geobox,
        provider=provider,
        access=access or Access(),
        threads=threads,
        nested=spec.grid.kind == "native",
    )
    counted = _counted_layer(spec, provider)
    values = np.empty((len(spec.guide.channels), *geobox.shape), np.float32)
    n_valid = np.zeros(geobox.shape, np.uint16)
    channel = 0
    for _, months, layer in spec.guide.composites:
        chosen = near.for_layer(layer, months)
        if layer.items == "own":
            images, count = composer.compose_layer(chosen, layer)
        elif shown is None:
            raise SpecError(f"guide layer {layer.collection} takes the items that the source shows: read that first")
        else:
            images, count = composer.read_shown(chosen, layer, shown)
        for image in images:
            values[channel] = image
            channel += 1
        n_valid += count if layer is counted else np.uint16(0)
    dropped = {(name, item): reason for name, each in composer.dropped.items() for item, reason in each.items()}
    uses = describe_guide(near, spec=spec, provider=provider, dropped=dropped, witness=composer.sampler.witness)
    counts = not spec.guide.layers or any(layer.items == "own" for layer in spec.guide.layers)
    return Guide(
        values=values, n_valid=n_valid, gaps=np.asarray(np.isnan(values).any(axis=0)), uses=uses, counts=counts
    )


def describe_guide(
    items: Items,
    *,
    spec: MapSpec,
    provider: Provider,
    dropped: Mapping[tuple[str, str], str],
    witness: Witness | None = None,
) -> tuple[ItemUse, ...]:
    """Return the provenance of a guide: the uses of its items.

    Args:
        items: Those that touch the window; what is not asked for is ignored.
        spec: What is asked for.
        provider: How the collections are read.
        dropped: Reasons of items that were left out, by collection and id; others than ``items`` are ignored.
        witness: What was learned from the files that were opened.
    """
    asked: dict[tuple[str, str], tuple[ItemDict, set[str]]] = {}
    for _, months, layer in spec.guide.composites:
        for item in items.for_layer(layer, months):
            asked.setdefault((item["collection"], item["id"]), (item, set()))[1].update(layer.bands)
    uses = (
        describe_use(
            item,
            provider.rule(item["collection"]),
            sorted(bands),
            role="guide",
            dropped=dropped.get(key, ""),
            witness=witness,
        )
        for key, (item, bands) in asked.items()
    )
    heights = _describe_heights(spec, provider)
    return tuple(
        replace(use, calibration="; ".join((use.calibration, heights[use.collection])))
        if use.collection in heights
        else use
        for use in uses
    )


def _describe_heights(spec: MapSpec, provider: Provider) -> dict[str, str]:
    """Return what a record says of the heights of a guide, by collection."""
    said: dict[str, list[str]] = {}
    for layer in spec.guide.layers:
        rule = provider.rule(layer.collection)
        if list_heights(layer, rule):
            said.setdefault(layer.collection, []).append(describe_heights(rule, layer.datum_shift))
    return {collection: "; ".join(dict.fromkeys(texts)) for collection, texts in said.items()}


def check_guide(items: Items, *, spec: MapSpec, provider: Provider) -> None:
    """Check once, on all items of a map, that its guide can be read.

    A tile whose few items lack a band is a tile with gaps; a map of which no item has it is a mistake.

    Raises:
        SpecError: If no item has a band, or the calibration of an item cannot be decided.
    """
    check = GuideCheck(spec, provider)
    for item in items:
        check.add(item)
    check.finish()


def _counted_layer(spec: MapSpec, provider: Provider) -> LayerSpec | None:
    """Return the first layer of reflectance, else the first that has dates, else the first; None without a guide."""
    optical = [layer for layer in spec.guide.layers if _has_reflectance(layer, provider.rule(layer.collection))]
    dated = [layer for layer in spec.guide.layers if not layer.static]
    return next(iter((*optical, *dated, *spec.guide.layers)), None)


def _has_reflectance(layer: LayerSpec, rule: CollectionRule) -> bool:
    return rule.units == "1" and not all(rule.bands[band].classes for band in layer.bands)


def _count(stack: Float32Array) -> UInt16Array:
    count: UInt16Array = np.isfinite(stack).sum(axis=0).astype(np.uint16)
    return count
