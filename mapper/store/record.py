"""Record of one tile: what made it, and what its pixels sum up to.

A record is complete without the run that wrote it: every item with its unsigned hrefs, every calibration that was
decided, the model, the code. Times are UTC, durations monotonic seconds.
"""

from dataclasses import dataclass
from datetime import date, datetime

from mapper.catalog.uses import ItemUse
from mapper.events import TileResult
from mapper.grid import Tile


@dataclass(frozen=True, kw_only=True)
class BandStatistics:
    """Valid pixels of one target band in one tile, in its units."""

    band: str
    valid_px: int = 0
    min: float | None = None
    """Least value; None where no pixel is valid."""
    mean: float | None = None
    max: float | None = None


@dataclass(frozen=True, kw_only=True)
class DateShift:
    """Shift of one date against the anchor, the mean over the cells of a window by their trust."""

    date: date
    """In UTC."""
    down: float
    """Source pixels."""
    right: float
    trust: float
    """From 0, nothing is known, to 1: of the cells that the date shows, each counted by its clear pixels."""


@dataclass(frozen=True, kw_only=True)
class Record(TileResult):
    """The provenance of one tile, and what it took."""

    tile: Tile
    task_id: str
    run_id: str = ""
    items: tuple[ItemUse, ...] = ()
    model: str = ""
    model_digest: str = ""
    spec_digest: str = ""
    grid_digest: str = ""
    items_digest: str = ""
    code_version: str = ""
    environment: str = ""
    """Python and the libraries that decide numbers, as ``name==version`` separated by spaces."""
    started_at: datetime | None = None
    value_min: float | None = None
    value_mean: float | None = None
    value_max: float | None = None
    consistency_residual: float | None = None
    """Largest |block mean - source| left in the tile, in target units; of a map that lies below its source what is left
    above it."""
    content_sha256: str = ""
    """Sha256 over the encoded arrays of the tile."""
    guide_store: str = ""
    """Store that the guide was read from instead of the archives, as ``location at snapshot``; empty if it was not."""
    dates: tuple[date, ...] = ()
    """Days in UTC that a map of several dates is made from here; empty for any other."""
    anchor: str = ""
    """Moment that a map of several dates shows, and the part of the tile that shows each day."""
    shifts: tuple[DateShift, ...] = ()
    """Shifts of those days, where the model registers them."""
    statistics: tuple[BandStatistics, ...] = ()
    """Statistics of each of several target bands; empty where there is one, whose are the fields above."""

    def statistics_of(self, band: str) -> BandStatistics:
        """Return the statistics of a target band."""
        if not self.statistics:
            values = {"min": self.value_min, "mean": self.value_mean, "max": self.value_max}
            return BandStatistics(band=band, valid_px=self.valid_px, **values)
        return next((each for each in self.statistics if each.band == band), BandStatistics(band=band))
