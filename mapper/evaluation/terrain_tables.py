"""Tables of what was counted about heights of the ground: its shape, and errors by land cover and by slope."""

from collections.abc import Mapping

from mapper.evaluation.metric import choose_metrics
from mapper.evaluation.relief import COVER
from mapper.evaluation.tables import Cell, Column, Table
from mapper.evaluation.terrain import SLOPES, TERRAIN_SCORES, Terrain
from mapper.spec.target import BandSpec

TERRAIN_COLUMNS = tuple(
    Column(
        key=key, title=title, units=units, digits=4 if key.startswith("pits") else 0 if units == "m³" else 2, better=end
    )
    for key, (title, units, end) in TERRAIN_SCORES.items()
)
"""Columns of the scores of the shape of the ground."""
CLASSES = {"cover": ("land cover", COVER), "slope": ("true slope", SLOPES)}
"""Title and classes of each way to split the ground, by its name in :class:`Terrain`."""
_PAIR = ("bias", "rmse")


def tabulate_terrain(terrains: Mapping[str, Terrain]) -> Table:
    """Return slopes, pits, depressions, streams and seams, a row for each method."""
    rows: list[dict[str, Cell]] = [{"method": name, **terrain.values()} for name, terrain in terrains.items()]
    return Table(title="shape of the ground", columns=TERRAIN_COLUMNS, rows=rows)


def tabulate_classes(
    terrains: Mapping[str, Terrain], target: BandSpec, *, place: str = "", groups: Mapping[str, str] | None = None
) -> list[Table]:
    """Return bias and RMSE by land cover and by true slope, a row for each method; no table where no class is known.

    Args:
        terrains: By method, of the same pixels.
        target: Band that was scored.
        place: Name of the place, for the title.
        groups: Group of each method.
    """
    tables = []
    metrics = choose_metrics(target, _PAIR)
    for what, (title, names) in CLASSES.items():
        classes = {method: getattr(terrain, what) for method, terrain in terrains.items()}
        present = [name for name in names if any(scores[name].n for scores in classes.values())]
        if not present:
            continue
        columns = tuple(
            Column(key=f"{name} {key}", title=f"{name} {metric.title}", better=metric.better)
            for name in present
            for key, metric in metrics.items()
        )
        rows: list[dict[str, Cell]] = [
            {"group": (groups or {}).get(method), "method": method}
            | {f"{name} {key}": scores[name].value(key) for name in present for key in metrics}
            for method, scores in classes.items()
        ]
        of = f"{place}: bias" if place else "bias"
        tables.append(Table(title=f"{of} and RMSE by {title}, {target.units}", columns=columns, rows=rows))
    return tables
