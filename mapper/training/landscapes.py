"""Synthetic landscapes as samples: rendered where they are not yet there, read like any map, and kept as read.

A landscape is rendered once, for all scales and seasons; what is read of it is kept beside its scenes as plain arrays
under a name that says what was asked, since reading takes seconds each time.
"""

import hashlib
import json
import logging
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mapper import __version__
from mapper.catalog.items import Items, freeze_items
from mapper.catalog.provider import provider_of
from mapper.catalog.search import search, search_collection
from mapper.errors import InputError, SpecError
from mapper.spec import MapSpec, read_spec
from mapper.synthetic.biomass import TRUTH
from mapper.synthetic.scenes import write_scenes
from mapper.training.config import SyntheticData
from mapper.training.maps import samples_from_map
from mapper.training.sample import Sample

_TILE_PX, _MARGIN_PX = 100, 64
"""Of the maps: little more than the landscape itself is rendered."""
_VARIABLE = "agb"
_BAND: dict[str, Any] = {"target": _VARIABLE, "bounds": (0, None)}
_ARRAYS = ("guide", "source", "source_sd", "truth")
_FACTS = ("bands", "source_units", "dates", "name", "degradation", "digest")

_LOG = logging.getLogger(__name__)


def read_landscapes(data: SyntheticData) -> list[Sample]:
    """Read landscapes with their truth, in the order of their seeds as given.

    Raises:
        InputError: If a landscape is too small, or has no scene in some season.
    """
    if data.size_px < 2 * data.scale:
        raise InputError(f"landscapes of {data.size_px} px hold fewer than two source pixels of {data.scale} px")
    samples = [_read_landscape(data, seed) for seed in data.seeds]
    return samples if data.limit is None else [sample.cut_truth(data.limit) for sample in samples]


def render_landscape(folder: Path, *, seed: int, size_px: int) -> Path:
    """Render the scenes of one landscape unless they are there; other processes may do so at the same time.

    Args:
        folder: Gets ``{seed}-{size_px}`` with ``map.yaml`` and ``catalog``, only once it is complete.
        seed: Names the landscape.
        size_px: Its edge in pixels of 10 m.

    Returns:
        Path of ``map.yaml``.
    """
    place = folder / f"{seed}-{size_px}"
    if not (place / "map.yaml").is_file():
        aside = folder / f".{place.name}.{os.getpid()}"
        shutil.rmtree(aside, ignore_errors=True)
        try:
            write_scenes(
                aside / "catalog",
                seed=seed,
                size_px=size_px,
                tile_px=_TILE_PX,
                chunk_px=_TILE_PX,
                margin_px=_MARGIN_PX,
            )
            _rename(aside, place)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return place / "map.yaml"


def _rename(aside: Path, place: Path) -> None:
    try:
        aside.rename(place)
    except OSError:
        if not (place / "map.yaml").is_file():
            raise
        _LOG.info("%s was rendered by another process", place)


def _read_landscape(data: SyntheticData, seed: int) -> Sample:
    path = render_landscape(data.folder, seed=seed, size_px=data.size_px)
    spec = _describe(path, data)
    items = freeze_items([*search(spec), *search_collection(spec, TRUTH)])
    _check_seasons(spec, items)
    asked = f"{__version__} {spec.digest} {items.digest} {TRUTH} {_VARIABLE}"
    kept = path.parent / f"sample-{hashlib.sha256(asked.encode()).hexdigest()[:16]}.npz"
    sample = _load(kept)
    if sample is None:
        sample = samples_from_map(spec, items, provider_of(spec), TRUTH, _VARIABLE, name=f"landscape {seed}")
        how = f"area mean of the truth on a grid of 1/1125 degree, saturating, with noise, read at {data.scale} x 10 m"
        sample = replace(sample, degradation=how)
        _save(sample, kept)
    return sample


def _describe(path: Path, data: SyntheticData) -> MapSpec:
    """The landscape's map with the scale and the seasons that are asked for."""
    spec = read_spec(path)
    changes: dict[str, Any] = {
        "source": spec.source.model_copy(update={"resolution": spec.grid.resolution * data.scale})
    }
    if data.seasons is not None:
        try:
            changes["guide"] = spec.guide.model_copy(update={"seasons": data.seasons})
        except ValueError as error:
            raise SpecError(f"seasons {data.seasons}: {' '.join(str(error).split())}") from error
    return spec.model_copy(update=changes)


def _check_seasons(spec: MapSpec, items: Items) -> None:
    """A season without a scene is a mistake here: it would be learnt as a gap."""
    for season, months, layer in spec.guide.composites:
        if not len(items.for_layer(layer, months)):
            raise InputError(f"landscapes have no scene of {layer.collection} in {season}, months {list(months)}")


def _save(sample: Sample, path: Path) -> None:
    """Keep a sample: arrays and JSON, nothing that could run; the file appears complete or not at all."""
    facts = json.dumps({name: getattr(sample, name) for name in _FACTS})
    aside = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    try:
        np.savez(aside, facts=np.array(facts), **{name: getattr(sample, name) for name in _ARRAYS})
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _load(path: Path) -> Sample | None:
    """What was kept; None if nothing was, or it cannot be read."""
    if not path.is_file():
        return None
    try:
        # numpy leaves a file that it opened itself open where it is broken
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            facts = json.loads(str(kept["facts"]))
            facts["bands"] = tuple((str(name), str(units)) for name, units in facts["bands"])
            return Sample(**facts, **_BAND, **{name: kept[name] for name in _ARRAYS})
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        _LOG.warning("%s cannot be used and is read again: %s", path, error)
        return None
