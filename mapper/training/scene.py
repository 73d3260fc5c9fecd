"""A scene: several dates of one place with, perhaps, its finer truth, as a layout of published data has it."""

from dataclasses import dataclass

import numpy as np

from mapper.arrays import BoolArray, Float32Array, Float64Array
from mapper.errors import InputError


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """Dates and truth of one place, in the units of the layout; NaN where missing.

    Raises:
        InputError: If the arrays do not fit together, or no date has a pixel.
    """

    name: str
    dates: Float32Array
    """(date, band, y, x), as stored: nothing is resampled."""
    clear: BoolArray
    """(date, y, x): seen, and neither cloud nor shadow by the layout's masks; all that is known where it has none."""
    days: Float32Array
    """(date,) days from the truth, or from the earliest date where it has none or no date; NaN where nobody says."""
    anchor: int | None
    """Index of the date that the truth shows; None where nobody says."""
    truth: Float32Array | None
    """(band, y * scale, x * scale), NaN where concealed; None where there is none."""
    scale: int
    """Pixel of a date / pixel of the truth; 1 without a truth."""
    bands: tuple[str, ...]
    units: str
    value_range: float
    """Range of the values that scores in decibels refer to, in the units."""
    place: str
    """Name of the place: scenes of one place are never split between training and test."""
    shift: Float64Array | None = None
    """(date, 2) down and right in pixels of the dates, as their georeference has it: what the reference shows at p the
    date shows at p + shift. Reference is the truth, else the anchor, else the first date. None where nobody says."""
    buildings: BoolArray | None = None
    """(date, y, x) what is built, where the layout maps it; None where it does not."""

    def __post_init__(self) -> None:
        number, bands, rows, cols = self.dates.shape
        expected = {
            "clear": (np.shape(self.clear), (number, rows, cols)),
            "days": (np.shape(self.days), (number,)),
            "truth": (self.truth is not None and self.truth.shape, (bands, rows * self.scale, cols * self.scale)),
            "shift": (self.shift is not None and self.shift.shape, (number, 2)),
            "buildings": (self.buildings is not None and self.buildings.shape, (number, rows, cols)),
        }
        wrong = [
            f"{what} {got}, expected {shape}" for what, (got, shape) in expected.items() if got not in (False, shape)
        ]
        if len(self.bands) != bands:
            wrong.append(f"{len(self.bands)} names of bands, expected {bands}")
        if self.anchor is not None and not 0 <= self.anchor < number:
            wrong.append(f"anchor {self.anchor}, expected 0 to {number - 1}")
        if not (np.isfinite(self.value_range) and self.value_range > 0):
            wrong.append(f"range of values {self.value_range}, expected one above 0")
        if wrong:
            raise InputError(f"scene {self.name} of dates {self.dates.shape} has {'; '.join(wrong)}")
        if not np.isfinite(self.dates).any():
            raise InputError(f"scene {self.name} of dates {self.dates.shape} has no pixel with a value")
