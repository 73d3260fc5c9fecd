"""Explanations of pixels from the inputs that a run would read; the map need not have been run.

What is explained is what the model gives, before it is held against the source: of a model that draws samples their
mean. The model sees a window around the pixel that is no wider than asked for; how much its output changes where it
sees twice as far is part of the answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mapper.arrays import FloatArray
from mapper.catalog.inventory import inventory_path, open_inventory
from mapper.catalog.items import Items
from mapper.catalog.search import search
from mapper.errors import GridError, InputError
from mapper.grid import Tile, Window
from mapper.plan.context import Context, RunOptions, make_context
from mapper.plan.plan import make_plan
from mapper.plan.window_rules import HaloRule
from mapper.predict.attribution import (
    Attribution,
    Detail,
    Replacement,
    attribute,
    find_radius,
    measure_diffusion,
    replace_parts,
    sum_on_source,
)
from mapper.predict.predictor import Trace
from mapper.predict.removal import Names, Part, Removal
from mapper.run.explanation import ExplainOptions, Explanation, PartShare
from mapper.run.map_tile import load_predictor, read_inputs
from mapper.run.window_inputs import WindowInputs
from mapper.spec import MapSpec, read_spec

_HELD = ("source.clear", "source.days", "source.shift", "source.sd")
_RADII = {"half": 0.5, "nine_tenths": 0.9}
_WHOLE = 0.1
"""Part of the gain of detail that contributions may miss before it is remarked."""


def explain(
    spec: MapSpec | Path | str,
    x: float,
    y: float,
    *,
    crs: str = "EPSG:4326",
    options: ExplainOptions | None = None,
) -> Explanation:
    """Explain which inputs, and which pixels of them, the detail of a map around a point is from.

    The map need not have been run. For example::

        found = mapper.explain("map.yaml", 11.5, 50.0)
        print(found.to_text())

    Args:
        spec: The map: its MAP.yaml, beside which its items are kept, or as read.
        x: Easting or longitude.
        y: Northing or latitude.
        crs: CRS of the point.
        options: Window, path and device.

    Raises:
        GridError: If the point is outside the map or its area.
        InputError: If the source has no value there, or anything is wrong with the request.
        AssetError: If something cannot be read.
    """
    options = options or ExplainOptions()
    described = spec if isinstance(spec, MapSpec) else read_spec(spec)
    context = make_context(described, options=RunOptions(device=options.device))
    row, col, _ = context.grid.locate(x, y, crs=crs)
    if not context.grid.inside_area(Window(top=row, left=col, bottom=row + 1, right=col + 1)).any():
        raise GridError(f"point ({x}, {y}) in {crs} is outside the area of the map: take one inside it")
    items = _find_items(spec, described, context)
    place = _Place(context=_look_at(context, options.window_px // 2), tile=Tile(row, col), options=options)
    read = place.read(items)
    at = {"x": x, "y": y, "crs": crs, "row": row, "col": col}
    return _Explainer(place=place, read=read, bands=_choose_bands(described, options.bands)).explain(at)


def _find_items(spec: MapSpec | Path | str, described: MapSpec, context: Context) -> Items:
    if isinstance(spec, MapSpec):
        return search(described, margin_px=context.halo_px)
    return open_inventory(described, inventory_path(Path(spec)), margin_px=context.halo_px)


def _look_at(context: Context, half_px: int) -> Context:
    """Return the context of a map whose tiles are single pixels, with a window around each in its halo."""
    product = replace(context.product, grid=replace(context.grid, tile_px=1, chunk_px=1))
    rule = context.window_rule
    if not isinstance(rule, HaloRule):
        raise InputError(f"windows of {context.spec.name} follow {type(rule).__name__}, expected a halo around tiles")
    return replace(
        context,
        product=product,
        halo_px=context.halo_px + half_px,
        window_rule=replace(rule, halo_px=rule.halo_px + half_px),
    )


def _choose_bands(spec: MapSpec, names: tuple[str, ...]) -> tuple[str, ...]:
    known = {band.name: band.units for band in spec.targets}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"unknown band {', '.join(unknown)}: the map has {', '.join(known)}")
    chosen = names or tuple(name for name, units in known.items() if units == spec.targets[0].units)
    if len({known[name] for name in chosen}) > 1:
        raise InputError(f"bands of one detail have one unit, got {', '.join(f'{n} ({known[n]})' for n in chosen)}")
    return chosen


@dataclass(frozen=True, kw_only=True)
class _Place:
    """One pixel, and the windows around it."""

    context: Context
    tile: Tile
    options: ExplainOptions

    @property
    def pixel(self) -> Window:
        return self.context.grid.window(self.tile)

    @property
    def whole(self) -> Window:
        """Window that the pixels of the detail hang on in a map."""
        return self.context.needed(self.tile)

    def see(self, reach: int) -> Window:
        """Return the part of it that lies within some source pixels of the detail."""
        scale = self.context.grid.scale
        step = self.context.contract.step(scale)
        near = self.pixel.grown(self.options.window_px // 2 + reach * scale, step)
        return Window(
            top=max(near.top, self.whole.top),
            left=max(near.left, self.whole.left),
            bottom=min(near.bottom, self.whole.bottom),
            right=min(near.right, self.whole.right),
        )

    def read(self, items: Items) -> WindowInputs:
        """Read the window; items are those that were searched for the map.

        Raises:
            InputError: If the source has no value at the pixel.
        """
        searched = replace(self.context, halo_px=self.context.halo_px - self.options.window_px // 2)
        (task,) = make_plan(self.context.spec, items, context=searched, tiles=[self.tile]).tasks
        read = read_inputs(self.context, task)
        scale = self.context.grid.scale
        row, col = ((at.start // scale) for at in self.pixel.inside(self.context.window(self.tile)))
        if not np.isfinite(read.reference.image[:, row, col]).any():
            raise InputError("the source has no value at this pixel, so the map has none: take another")
        return read

    def detail_in(self, window: Window, outputs: tuple[str, ...]) -> Detail:
        """Return the detail around the pixel as it lies in a window."""
        half = self.options.window_px // 2
        rows, cols = self.pixel.grown(half, 1).inside(window)
        return Detail(outputs=outputs, rows=rows, cols=cols, kind=self.options.detail)


@dataclass(frozen=True, kw_only=True)
class _Explainer:
    """Asks the model of a map, with the inputs of one place."""

    place: _Place
    read: WindowInputs
    bands: tuple[str, ...]

    def explain(self, at: Mapping[str, Any]) -> Explanation:
        place, context, options = self.place, self.place.context, self.place.options
        scale, seen = context.grid.scale, place.see(options.reach)
        inputs = self.read.cut(seen.inside(context.window(place.tile)), scale).inputs
        removal, detail = Removal(inputs=inputs, scale=scale), place.detail_in(seen, self._outputs)
        parts = removal.find_parts(self._names())
        position = context.grid.position_of(seen)
        with load_predictor(context).follow(inputs, position=position, scale=scale) as trace:
            self._check_whole(trace, detail)
            found = attribute(trace, removal, detail, sigma=options.sigma, steps=options.steps)
            shuffles = range(options.seed * options.shuffles, (options.seed + 1) * options.shuffles)
            replaced = replace_parts(trace, removal, parts, detail, sigma=options.sigma, shuffles=shuffles)
            pictures = [trace.show(images, detail.outputs[0]) for images in ({}, removal.blur(options.sigma))]
        shares = tuple(_share(part, found, each) for part, each in zip(parts, replaced, strict=True))
        values, difference = self._look_farther(pictures[0], seen)
        return Explanation(
            map=context.spec.name,
            model=context.spec.model.name,
            **at,
            bands=self.bands,
            units=next(band.units for band in context.spec.targets if band.name == self.bands[0]),
            values=values,
            anchor=self.read.anchor,
            options=options,
            detail={"sharp": found.sharp, "blurred": found.blurred, "attributed": found.total, "gap": found.gap},
            reach={**self._describe_reach(), "difference": difference},
            held=tuple(name for name in _HELD if name in inputs),
            parts=shares,
            remarks=tuple(_remark(found, shares)),
            maps={part.name: _flatten(found, part) for part in parts if part.is_single},
            output=pictures[0],
            smooth=pictures[1],
            scale=scale,
            px=float(context.grid.resolution),
            at=(detail.rows.start + options.window_px // 2, detail.cols.start + options.window_px // 2),
            **self._measure_looks(found, seen),
        )

    def _check_whole(self, trace: Trace, detail: Detail) -> None:
        """Check that the model gives something all over the window.

        Raises:
            InputError: If not.
        """
        missing = [name for name in detail.outputs if np.isnan(trace.show({}, name)[detail.rows, detail.cols]).any()]
        if missing:
            raise InputError(
                f"the source is missing in part of the {self.place.options.window_px} x {self.place.options.window_px} "
                "pixels whose detail is asked for: take a smaller window, or another pixel"
            )

    @property
    def _outputs(self) -> tuple[str, ...]:
        names = [band.name for band in self.place.context.spec.targets]
        outputs = dict(zip(names, self.place.context.contract.name_means(names), strict=True))
        return tuple(outputs[band] for band in self.bands)

    def _names(self) -> Names:
        context = self.place.context
        channels = [context.spec.guide.channels[number] for number in context.require_model().channels]
        bands = [context.spec.source.band_names[number] for number in context.require_model().source_bands]
        return Names(
            dates=[day.isoformat() for day in self.read.all_dates],
            bands=bands,
            channels=[channel.name for channel in channels],
            seasons=[channel.season for channel in channels],
        )

    def _look_farther(self, output: FloatArray, seen: Window) -> tuple[dict[str, float], float]:
        """Return what the model gives at the pixel where it sees twice as far, and how much that changes."""
        place, context = self.place, self.place.context
        scale, farther = context.grid.scale, place.see(2 * place.options.reach)
        inputs = self.read.cut(farther.inside(context.window(place.tile)), scale).inputs
        position = context.grid.position_of(farther)
        with load_predictor(context).follow(inputs, position=position, scale=scale) as trace:
            maps = [trace.show({}, name) for name in self._outputs]
        middle, shown = (place.detail_in(window, self._outputs) for window in (farther, seen))
        apart = maps[0][middle.rows, middle.cols] - output[shown.rows, shown.cols]
        pixel = place.pixel.inside(farther)
        values = {band: float(values[pixel].item()) for band, values in zip(self.bands, maps, strict=True)}
        return values, float(np.sqrt(np.mean(np.square(apart))))

    def _describe_reach(self) -> dict[str, float]:
        half, scale = self.place.options.window_px // 2, self.place.context.grid.scale
        pixel = self.place.pixel
        return {
            name: (pixel.top - window.top - half) // scale
            for name, window in (("seen", self.place.see(self.place.options.reach)), ("whole", self.place.whole))
        }

    def _measure_looks(self, found: Attribution, seen: Window) -> dict[str, Any]:
        """Return the diffusion index and the radii of what was looked at."""
        grid = self.place.context.grid
        values = sum_on_source(found.maps, grid.scale)
        row, col = ((at.start + 0.5) / grid.scale - 0.5 for at in self.place.pixel.inside(seen))
        edge = float(grid.resolution) * grid.scale
        radii = {name: find_radius(values, (row, col), part) * edge for name, part in _RADII.items()}
        unit = "degrees" if grid.geobox.crs and grid.geobox.crs.geographic else "m"
        return {"diffusion_index": measure_diffusion(values), "radius": radii, "length_unit": unit}


def _flatten(found: Attribution, part: Part) -> FloatArray:
    """Return the contributions of a part on the pixels of its input, (y, x), over dates and bands."""
    total: FloatArray = np.sum([values.sum(axis=(0, 1)) for values in found.of(part).values()], axis=0)
    return total


def _share(part: Part, found: Attribution, replaced: Replacement) -> PartShare:
    own = found.of(part).values()
    whole = sum(float(np.abs(values).sum()) for values in found.maps.values()) or 1.0
    mine = sum(float(np.abs(values).sum()) for values in own)
    silent = "unused" if replaced.changes_nothing else "not followed"
    net = sum(float(values.sum()) for values in own)
    state = "followed" if mine else silent
    return PartShare(kind=part.kind, name=part.name, net=net, share=mine / whole, state=state, replaced=replaced)


def _remark(found: Attribution, shares: tuple[PartShare, ...]) -> list[str]:
    """Return what a reader of shares has to know."""
    blind = [part.name for part in shares if part.state == "not followed"]
    gain = found.sharp - found.blurred
    remarks = []
    if blind:
        remarks.append(f"no gradient flows to {', '.join(blind)}, on which the output hangs: read what changes without")
    if abs(found.gap) > _WHOLE * abs(gain):
        remarks.append(
            f"contributions add up to {found.total:.4g} of {gain:.4g}: the model jumps on the way, or gradients do not "
            "flow through all of it; take more steps, or read what changes without a part"
        )
    if found.lost:
        remarks.append(f"{found.lost} gradients were not finite and count as 0")
    return remarks
