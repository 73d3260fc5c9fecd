"""Coverage of a map by its items, estimated before anything is read: passes, clouds, gaps.

All of it is estimated from metadata: footprints, and the cloud cover that items state; where none is stated a scene
counts as clear. Items of one pass are one observation where they overlap.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mapper.arrays import BoolArray, Float64Array
from mapper.catalog.items import ItemDict, Items, flies, is_clear, item_datetime
from mapper.catalog.provider import name_pass, provider_of
from mapper.catalog.query import sound_footprint
from mapper.catalog.sample_points import CoveredPoints, SamplePoints
from mapper.grid import Tile
from mapper.spec import LayerSpec, MapSpec, SourceSpec

FEW_OBSERVATIONS = 3
"""Valid observations that a pixel should have at least."""


_YEAR = tuple(range(1, 13))
_WHOLE = 0.99
"""Share of a tile that must be covered once by items that do not change with time; shares are sampled."""


@dataclass(frozen=True, kw_only=True, order=True)
class CollectionView:
    """Items of one collection, and of one orbit direction where a layer asks for one."""

    collection: str
    orbit: str = ""

    def __str__(self) -> str:
        return f"{self.collection} {self.orbit}".strip()

    def includes(self, item: ItemDict) -> bool:
        """Return True for an item of the collection and orbit direction."""
        return self.collection == item["collection"] and (not self.orbit or flies(item, self.orbit))


@dataclass(frozen=True, kw_only=True)
class MonthOfItems:
    """Items of one view in one month."""

    view: CollectionView
    month: str
    """Month as ``2020-06``."""
    items: int
    passes: int
    """Number of overpasses: items of one overpass count once."""
    cloud: float | None
    """Mean of the cloud cover that items state, in percent; None where no item states it."""
    share: float
    """Share of the mapped area that lies in a footprint, 0 to 1."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return {
            "collection": self.view.collection,
            "orbit": self.view.orbit or None,
            "month": self.month,
            "items": self.items,
            "passes": self.passes,
            "cloud_cover": None if self.cloud is None else round(self.cloud, 2),
            "area_share": round(self.share, 4),
        }


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Clear observations that one layer can expect in one season."""

    layer: LayerSpec
    season: str
    clear: Float64Array
    """(tile,) observations: the sum over passes of the covered share of the tile times the clear share of the scene."""

    @property
    def view(self) -> CollectionView:
        """Return the items that the layer is made from."""
        return view_of(self.layer)

    enough: float
    """Clear observations that a season should have: its part of those that a pixel should have, and at least one."""

    @property
    def short(self) -> BoolArray:
        """Return True for the tiles with fewer observations than are enough; dims (tile,)."""
        return self.clear < self.enough


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Coverage of one map by its items."""

    tiles: tuple[Tile, ...]
    months: tuple[MonthOfItems, ...]
    """Months of each view; months that a season asks for and that have no item are there too."""
    expectations: tuple[Expectation, ...]
    """Expectations of each layer and season."""
    sourced: BoolArray
    """(tile,) True where an item of the source covers some of the tile."""

    @property
    def worst(self) -> Expectation | None:
        """Return the layer and season short on most tiles; of equals the one that expects least; None without any."""
        if not self.expectations:
            return None
        return min(self.expectations, key=lambda each: (-int(each.short.sum()), float(each.clear.mean())))


def view_of(layer: LayerSpec) -> CollectionView:
    """Return the items that a layer is made from, as a view."""
    return CollectionView(collection=layer.collection, orbit=layer.orbit or "")


def survey(spec: MapSpec, items: Items) -> Coverage:
    """Estimate the coverage of a map by its items.

    Args:
        spec: The map.
        items: Its frozen items.

    Raises:
        SpecError: If a provider does not describe a collection of the map.
        GridError: If the area cannot be mapped.
    """
    points = SamplePoints.of(spec.map_grid)
    own = (each for each in spec.guide.composites if each[2].items == "own")
    composites = (*own, *_dates_of(spec.source))
    layers = tuple(dict.fromkeys(layer for _, _, layer in composites))
    views = sorted({*map(view_of, layers), CollectionView(collection=spec.source.collection)})
    clear = [np.zeros(len(points.tiles)) for _ in composites]
    sourced = np.zeros(len(points.tiles), bool)
    asked, months = _asked(spec), []
    for month, scenes in _monthly(spec, items, points, asked):
        awaited = {view_of(layer) for layer in layers if not layer.static} if month in asked else set()
        shown = [view for view in views if view in awaited or any(view.includes(scene.item) for scene in scenes)]
        months += [_count(view, month, scenes, points) for view in shown]
        for k, (_, season_months, layer) in enumerate(composites):
            if int(month[-2:]) in season_months:
                clear[k] += _expect(layer, scenes, points)
        for scene in scenes:
            if scene.item["collection"] == spec.source.collection:
                sourced[scene.cover.tiles[scene.cover.covered.any(axis=1)]] = True
    return Coverage(
        tiles=points.tiles,
        months=tuple(sorted(months, key=lambda row: (row.view, row.month))),
        expectations=tuple(
            Expectation(layer=layer, season=season, clear=expected, enough=_enough(spec, season, layer))
            for expected, (season, _, layer) in zip(clear, composites, strict=True)
        ),
        sourced=sourced,
    )


def _dates_of(source: SourceSpec) -> tuple[tuple[str, tuple[int, ...], LayerSpec], ...]:
    """Return a stack as a layer without seasons; nothing for a map."""
    if not source.is_stack:
        return ()
    layer = LayerSpec(
        collection=source.collection, bands=source.band_names, orbit=source.orbit, cloud_limit=source.cloud_limit
    )
    return (("", _YEAR, layer),)


def _enough(spec: MapSpec, season: str, layer: LayerSpec) -> float:
    """Return the clear observations that a layer should have in a season."""
    if layer.static:
        return _WHOLE
    if not season:
        return float(spec.source.dates)
    return max(1.0, FEW_OBSERVATIONS / len(spec.guide.seasons))


@dataclass(frozen=True, kw_only=True)
class _Scene:
    item: ItemDict
    passed: str
    """Name of the pass."""
    cover: CoveredPoints

    @property
    def cloud(self) -> float | None:
        stated = self.item["properties"].get("eo:cloud_cover")
        return None if stated is None else float(stated)


def _monthly(
    spec: MapSpec, items: Items, points: SamplePoints, asked: Collection[str]
) -> Iterator[tuple[str, Sequence[_Scene]]]:
    """Yield the scenes of each month that has some or should have, so that no more than a month is held at once."""
    provider = provider_of(spec)
    found: dict[str, list[ItemDict]] = {month: [] for month in asked}
    for item in items:
        found.setdefault(f"{item_datetime(item):%Y-%m}", []).append(item)
    for month in sorted(found):
        members = found[month]
        footprints = np.array([sound_footprint(item) for item in members], dtype=object)
        yield (
            month,
            [
                _Scene(item=item, passed=name_pass(item, provider.rule(item["collection"])), cover=cover)
                for item, cover in zip(members, points.find_covered(footprints), strict=True)
            ],
        )


def _asked(spec: MapSpec) -> frozenset[str]:
    """Return the months of the period that a season asks for."""
    start, end = spec.period.start, spec.period.end
    wanted = {month for months in spec.guide.seasons.values() for month in months}
    wanted |= set(_YEAR) if spec.source.is_stack else set()
    counted = range(start.year * 12 + start.month - 1, end.year * 12 + end.month)
    return frozenset(f"{count // 12:04d}-{count % 12 + 1:02d}" for count in counted if count % 12 + 1 in wanted)


def _count(view: CollectionView, month: str, scenes: Sequence[_Scene], points: SamplePoints) -> MonthOfItems:
    shown = [scene for scene in scenes if view.includes(scene.item)]
    clouds = [scene.cloud for scene in shown if scene.cloud is not None]
    seen = np.zeros(points.weight.shape, bool)
    for scene in shown:
        seen[scene.cover.tiles] |= scene.cover.covered
    return MonthOfItems(
        view=view,
        month=month,
        items=len(shown),
        passes=len({scene.passed for scene in shown}),
        cloud=float(np.mean(clouds)) if clouds else None,
        share=float(points.weight[seen].sum() / points.weight.sum()),
    )


def _expect(layer: LayerSpec, scenes: Sequence[_Scene], points: SamplePoints) -> Float64Array:
    """Return clear observations (tile,) of one layer; where items of a pass overlap the first counts, as in a read."""
    passes: dict[str, list[_Scene]] = {}
    for scene in scenes:
        if view_of(layer).includes(scene.item) and is_clear(scene.item, layer.cloud_limit):
            passes.setdefault(scene.passed, []).append(scene)
    expected = np.zeros(points.weight.shape[0])
    seen = np.zeros(points.weight.shape, bool)
    for members in passes.values():
        for scene in members:
            tiles = scene.cover.tiles
            fresh = scene.cover.covered & ~seen[tiles] if len(members) > 1 else scene.cover.covered
            share = (fresh * points.weight[tiles]).sum(axis=1)
            expected[tiles] += share * (1 - (scene.cloud or 0.0) / 100)
            seen[tiles] |= scene.cover.covered
        for scene in members:
            seen[scene.cover.tiles] = False
    return np.asarray(expected / points.weight.sum(axis=1))


_NAMED = 5
"""Number of tiles that a warning names."""


_SEASONS = 3
"""Number of seasons that a warning names."""


@dataclass(frozen=True, kw_only=True)
class Shortage:
    """A lack of observations or of source on some tiles."""

    kind: str
    """Kind of the shortage: ``few-observations`` or ``no-source``."""
    of: str
    """Collection, and orbit where one was asked for."""
    tiles: tuple[Tile, ...]
    """Tiles with the shortage, the worst first."""
    seasons: tuple[str, ...] = ()
    """Seasons with the shortage, the worst first; empty for the source, which has no season."""
    text: str
    """Message for people: what is missing, on which tiles, and what to do."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for JSON: of the tiles their number and the worst."""
        return {
            "kind": self.kind,
            "of": self.of,
            "seasons": list(self.seasons),
            "n_tiles": len(self.tiles),
            "tiles": [str(tile) for tile in self.tiles[:_NAMED]],
            "text": self.text,
        }


def find_shortages(spec: MapSpec, coverage: Coverage) -> tuple[Shortage, ...]:
    """Find tiles with too few expected observations in a season, and tiles without source.

    The flag of the map itself counts the observations of all seasons; here every season has to have its part of them,
    and one at least, since each is an image of its own.
    """
    groups = (
        [each for each in coverage.expectations if each.layer == layer]
        for layer in dict.fromkeys(each.layer for each in coverage.expectations)
    )
    few = (_find_few(coverage, group) for group in groups)
    return tuple(shortage for shortage in (*few, _find_unsourced(spec, coverage)) if shortage)


def _find_few(coverage: Coverage, group: Sequence[Expectation]) -> Shortage | None:
    """Return the shortage of one layer in any of its seasons; None if there is none."""
    short = sorted((each for each in group if each.short.any()), key=lambda each: float(each.clear.min()))
    if not short:
        return None
    layer, view = short[0].layer, str(short[0].view)
    least = np.min([each.clear for each in short], axis=0)
    tiles = _pick(coverage.tiles, np.flatnonzero(least < short[0].enough), least)
    seasons = "; ".join(
        f"{each.season or 'the period'}: {each.short.sum()} tiles, the least {each.clear.min():.1f}"
        for each in short[:_SEASONS]
    )
    seasons += "; ..." if len(short) > _SEASONS else ""
    empty = int((least == 0).sum())
    remedies = ["longer seasons", *(["a longer period"] if len(short) == len(group) else [])]
    remedies += [f"a higher cloud_limit than {layer.cloud_limit:g}"] if layer.cloud_limit < 100 else []
    remedies += [f"orbits other than {layer.orbit}"] if layer.orbit else []
    text = (
        f"{view}: {len(tiles)} of {len(coverage.tiles)} tiles expect fewer than {short[0].enough:g} clear observations "
        f"in a season{f', {empty} of them none at all' if empty else ''} ({seasons}); the worst are {_name(tiles)}. "
        f"Try {', or '.join(remedies)}."
    )
    return Shortage(
        kind="few-observations", of=view, tiles=tiles, seasons=tuple(each.season for each in short), text=text
    )


def _find_unsourced(spec: MapSpec, coverage: Coverage) -> Shortage | None:
    bare = np.flatnonzero(~coverage.sourced)
    if not len(bare):
        return None
    tiles, source = tuple(coverage.tiles[k] for k in bare), spec.source.collection
    text = (
        f"{source}: {len(tiles)} of {len(coverage.tiles)} tiles have no item of the source: {_name(tiles)}. They stay "
        "without data: is the area right, or is the source cut off there?"
    )
    return Shortage(kind="no-source", of=source, tiles=tiles, text=text)


def _pick(tiles: Sequence[Tile], chosen: npt.NDArray[np.intp], least: npt.NDArray[np.float64]) -> tuple[Tile, ...]:
    return tuple(tiles[k] for k in chosen[np.argsort(least[chosen], kind="stable")])


def _name(tiles: Iterable[Tile]) -> str:
    named = [f"({tile})" for tile in tiles]
    return ", ".join(named[:_NAMED]) + (" ..." if len(named) > _NAMED else "")
