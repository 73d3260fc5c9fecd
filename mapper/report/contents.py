"""Contents of the page of a run, read from one version of its store."""

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
from mapper.report.pixel_sample import Histogram, PixelSample, sample_pixels
from mapper.report.quicklook import Quicklook, draw_quicklook
from mapper.report.record_summary import BandSummary, RecordSummary, summarise_records
from mapper.spec import MapSpec, parse_spec
from mapper.store.description import Description, read_description
from mapper.store.errors import explain_faults
from mapper.store.ledger import read_ledger
from mapper.store.ledger_arrays import STATUS_CODES
from mapper.store.product import Band
from mapper.store.rasters import Rasters

_EDGE, _SMALL_EDGE = 900, 320
"""Most pixels along an edge of a picture."""


@dataclass(frozen=True, kw_only=True)
class BandContents:
    """Pixels of one target band."""

    band: Band
    summary: BandSummary
    values: Histogram | None
    """None if no pixel is valid."""
    sds: Histogram | None
    picture: Quicklook | None
    sd_picture: Quicklook | None


@dataclass(frozen=True, kw_only=True)
class Contents:
    """Everything that is on the page of a run."""

    status: Standing
    description: Description
    spec: MapSpec | None
    """None where the description of the map cannot be read by this version."""
    provider: Provider | None
    card: Card | None
    """Card of the model; None where it is not at hand, or is another one by now."""
    summary: RecordSummary
    sample: PixelSample
    bands: tuple[BandContents, ...]
    """Target bands, in the order of the store."""
    count_picture: Quicklook | None
    """Valid observations."""


def read_contents(location: str | Path, *, prices: Prices | None = None) -> Contents:
    """Read everything that is on the page of a run; the run may be on meanwhile.

    Raises:
        InputError: If the store holds a guide.
        StoreError: If there is no store.
    """
    status = read_standing(location, prices=prices)
    ledger = read_ledger(location, ref=status.snapshot)
    store = ledger.session.store
    description = read_description(store)
    if not description.values:
        raise InputError(f"{location} holds a guide, a report is of a map")
    rasters = Rasters(store, description)
    names = [band.name for band in description.values]
    with explain_faults(str(location)):
        summary = summarise_records(ledger.records(), description.grid.tile_shape, bands=names)
        made = np.argwhere(ledger.state == STATUS_CODES["ok"])
        sample = sample_pixels(rasters, [Tile(row, col) for row, col in made.tolist()])
    spec = _read_spec(description)
    return Contents(
        status=status,
        description=description,
        spec=spec,
        provider=_find_provider(spec),
        card=_find_card(spec, summary),
        summary=summary,
        sample=sample,
        bands=tuple(_read_band(rasters, band, summary, sample) for band in description.values),
        count_picture=draw_quicklook(rasters, description.count.name, ramp="n_valid", edge=_SMALL_EDGE),
    )


def _read_band(rasters: Rasters, band: Band, summary: RecordSummary, sample: PixelSample) -> BandContents:
    sd, found = rasters.bands.sd_of(band.name), summary.bands[band.name]
    is_first = band == rasters.bands.values[0]
    edge = _EDGE if is_first else _SMALL_EDGE
    return BandContents(
        band=band,
        summary=found,
        values=sample.histograms[band.name],
        sds=sample.histograms[sd.name] if sd else None,
        picture=draw_quicklook(rasters, band.name, ramp="value", edge=edge, means=found.tile_means),
        sd_picture=draw_quicklook(rasters, sd.name, ramp="sd", edge=_SMALL_EDGE) if sd else None,
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


def _find_card(spec: MapSpec | None, summary: RecordSummary) -> Card | None:
    """Return the card of the model that made the tiles, if it is here."""
    try:
        card = read_card(spec.model) if spec else None
    except WeightsError:
        return None
    digests = {digest for _, digest in summary.models}
    return card if card and (not digests or card.digest in digests) else None
