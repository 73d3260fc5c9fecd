"""What is likely to be missing from a map, in sentences: said before a run is paid for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mapper.catalog.coverage import Coverage, Expectation
from mapper.grid import Tile
from mapper.spec import MapSpec

_NAMED = 5
"""Tiles that a warning names."""
_SEASONS = 3
"""Seasons that a warning names."""


@dataclass(frozen=True, kw_only=True)
class Shortage:
    """One thing of which there is too little on some tiles."""

    kind: str
    """``few-observations`` or ``no-source``."""
    of: str
    """Collection, and orbit where one was asked for."""
    tiles: tuple[Tile, ...]
    """Those that lack it, the worst first."""
    seasons: tuple[str, ...] = ()
    """Seasons that lack it, the worst first; none for what has no season."""
    text: str
    """For people: what is missing, where, and what to do."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON: of the tiles their number and the worst."""
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
    groups = ([each for each in coverage.expectations if each.layer == layer] for layer in spec.guide.layers)
    few = (_find_few(coverage, group) for group in groups)
    return tuple(shortage for shortage in (*few, _find_unsourced(spec, coverage)) if shortage)


def _find_few(coverage: Coverage, group: Sequence[Expectation]) -> Shortage | None:
    """What one layer lacks in any of its seasons."""
    short = sorted((each for each in group if each.short.any()), key=lambda each: float(each.clear.min()))
    if not short:
        return None
    layer, view = short[0].layer, str(short[0].view)
    least = np.min([each.clear for each in short], axis=0)
    tiles = _pick(coverage.tiles, np.flatnonzero(least < short[0].enough), least)
    seasons = "; ".join(
        f"{each.season}: {each.short.sum()} tiles, the least {each.clear.min():.1f}" for each in short[:_SEASONS]
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
