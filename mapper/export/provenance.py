"""What made the pixels of a piece, as names and texts for the metadata of a file: map, models, code, rights, tiles."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from mapper import __version__
from mapper.catalog.provider import provider_of
from mapper.errors import SpecError
from mapper.grid import Tile
from mapper.spec import parse_spec
from mapper.store.description import Description
from mapper.store.ledger import Ledger
from mapper.store.map_store import MapStore


@dataclass(frozen=True, kw_only=True)
class _TileSources:
    """Models and code that made some tiles, and what became of these."""

    models: tuple[str, ...]
    """Models as ``name sha256:digest``."""
    code_versions: tuple[str, ...]
    statuses: dict[str, int]
    """Tiles by status; those that were never attempted are missing."""


def describe_provenance(store: MapStore, tiles: Iterable[Tile]) -> dict[str, str]:
    """Return the names and texts for the metadata of a file with pixels of these tiles."""
    description, sources = store.description, _find_tile_sources(store.ledger, tiles)
    about = description.extra
    return {
        "map": description.name,
        "source": str(about["source"]),
        "period": f"{about['time_coverage_start']}/{about['time_coverage_end']}",
        "spec_digest": description.spec_digest,
        "grid_digest": description.grid.digest,
        "snapshot": store.snapshot,
        "models": "; ".join(sources.models),
        "made_with": "; ".join(f"mapper {version}" for version in sources.code_versions),
        "exported_with": f"mapper {__version__}",
        "tiles": ", ".join(f"{count} {status}" for status, count in sources.statuses.items()),
        **_describe_rights(description),
    }


def _find_tile_sources(ledger: Ledger, tiles: Iterable[Tile]) -> _TileSources:
    """Find what made some tiles; the records of each commit that wrote one of them are read once."""
    wanted = frozenset(tiles)
    writers = ledger.writers
    numbers = np.unique([writers[tile.row, tile.col] for tile in wanted])
    records = [
        record
        for number in numbers[numbers > 0].tolist()
        for record in ledger.records_of(number, items=False)
        if record.tile in wanted and writers[record.tile.row, record.tile.col] == number
    ]
    statuses = {"missing": len(wanted) - len(records)}
    for record in records:
        statuses[record.status] = statuses.get(record.status, 0) + 1
    return _TileSources(
        models=tuple(sorted({f"{record.model} sha256:{record.model_digest}" for record in records if record.model})),
        code_versions=tuple(sorted({record.code_version for record in records if record.code_version})),
        statuses={status: count for status, count in sorted(statuses.items()) if count},
    )


def _describe_rights(description: Description) -> dict[str, str]:
    """Return licence and attribution of the archives; nothing where the description of an archive is not at hand."""
    try:
        provider = provider_of(parse_spec(yaml.safe_load(description.spec_yaml), base=Path()))
    except SpecError:
        return {}
    return {"licence": provider.licence, "attribution": provider.attribution}
