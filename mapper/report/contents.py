"""All that the page of a run tells, read from one version of its store."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from mapper.catalog.provider import Provider, provider_of
from mapper.cost.prices import Prices
from mapper.errors import InputError, SpecError, WeightsError
from mapper.grid import Tile
from mapper.models.card import Card, read_card
from mapper.monitor.status import Standing, read_standing
from mapper.report.pixel_sample import Distributions, sample_pixels
from mapper.report.quicklook import Picture, draw_picture
from mapper.report.record_summary import Gathered, gather
from mapper.spec import MapSpec, TargetSpec, parse_spec
from mapper.store.description import Description, read_description
from mapper.store.errors import explain_faults
from mapper.store.ledger import read_ledger
from mapper.store.ledger_arrays import STATUS_CODES
from mapper.store.rasters import Rasters

_EDGE, _SMALL_EDGE = 900, 320
"""Pixels that pictures may be wide and high."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """What there is to tell of a map."""

    standing: Standing
    description: Description
    target: TargetSpec
    spec: MapSpec | None
    """None where the description of the map cannot be read by this version."""
    provider: Provider | None
    card: Card | None
    """Of the model; None where it is not at hand, or is another one by now."""
    gathered: Gathered
    pixels: Distributions
    value: Picture | None
    sd: Picture | None
    n_valid: Picture | None


def read_story(location: str | Path, *, prices: Prices | None = None) -> Story:
    """Read all that the page of a run tells; a run may be on meanwhile.

    Raises:
        InputError: If the store holds a guide.
        StoreError: If there is no store.
    """
    standing = read_standing(location, prices=prices)
    ledger = read_ledger(location, ref=standing.snapshot)
    store = ledger.session.store
    description = read_description(store)
    if description.target is None:
        raise InputError(f"{location} holds a guide, a report is of a map")
    rasters = Rasters(store, description)
    with explain_faults(str(location)):
        gathered = gather(ledger.records(), description.grid.tile_shape)
        made = np.argwhere(ledger.state == STATUS_CODES["ok"])
        pixels = sample_pixels(rasters, [Tile(row, col) for row, col in made.tolist()])
    value = description.values[0].name
    sd = description.sd_of(value)
    spec = _read_spec(description)
    return Story(
        standing=standing,
        description=description,
        target=description.target,
        spec=spec,
        provider=_find_provider(spec),
        card=_find_card(spec, gathered),
        gathered=gathered,
        pixels=pixels,
        value=draw_picture(rasters, value, ramp="value", edge=_EDGE, means=gathered.means),
        sd=draw_picture(rasters, sd.name, ramp="sd", edge=_SMALL_EDGE) if sd else None,
        n_valid=draw_picture(rasters, description.count.name, ramp="n_valid", edge=_SMALL_EDGE),
    )


def _read_spec(description: Description) -> MapSpec | None:
    try:
        return parse_spec(yaml.safe_load(description.spec_yaml), base=Path())
    except SpecError:
        return None


def _find_provider(spec: MapSpec | None) -> Provider | None:
    try:
        return provider_of(spec) if spec else None
    except SpecError:
        return None


def _find_card(spec: MapSpec | None, gathered: Gathered) -> Card | None:
    """The card of the model that made the tiles, if it is here."""
    try:
        card = read_card(spec.model) if spec else None
    except WeightsError:
        return None
    digests = {digest for _, digest in gathered.models}
    return card if card and (not digests or card.digest in digests) else None
