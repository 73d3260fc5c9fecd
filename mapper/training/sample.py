"""A sample: one site with guide, source, its dates and truth, in physical units, for training and scoring."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mapper.arrays import BoolArray, Float32Array
from mapper.errors import InputError
from mapper.evaluation.relief import Ground
from mapper.models.contract import Contract, Offer
from mapper.spec.target import Bounds
from mapper.training.scene_config import PsfConfig
from mapper.training.transfer import Transfer


@dataclass(frozen=True, kw_only=True)
class Dates:
    """Dates of the source of a site, the anchor's own among them."""

    values: Float32Array
    """(date, band, y / scale, x / scale), NaN where missing."""
    clear: BoolArray
    """(date, y / scale, x / scale) True where a date may be used."""
    shift: Float32Array
    """(date, 2, y / scale, x / scale), source pixels down and right, from where the anchor shows something to where a
    date does."""
    days: Float32Array
    """(date,) days from the anchor."""
    true_shift: Float32Array | None = None
    """(date, 2) the shifts that simulated dates have, for methods that are shown them; None where nobody knows."""

    def __post_init__(self) -> None:
        dates, _, *shape = self.values.shape
        expected = (dates, *shape), (dates, 2, *shape), (dates,)
        if (self.clear.shape, self.shift.shape, self.days.shape) != expected:
            raise ValueError(f"dates {self.values.shape} have masks {self.clear.shape} and shifts {self.shift.shape}")

    @property
    def own(self) -> int:
        """Number of the date of the anchor."""
        return int(np.abs(self.days).argmin())

    def take(self, chosen: npt.NDArray[np.intp]) -> "Dates":
        """Return some of the dates."""
        return Dates(
            values=self.values[chosen],
            clear=self.clear[chosen],
            shift=self.shift[chosen],
            days=self.days[chosen],
            true_shift=None if self.true_shift is None else self.true_shift[chosen],
        )


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One site with its truth; physical units, NaN where missing. Source and truth have bands where several are learnt.

    Raises:
        ValueError: If the arrays do not nest.
    """

    guide: Float32Array
    """(channel, y, x); ``dates`` times the same bands, by date."""
    source: Float32Array
    """(y / scale, x / scale) or (band, y / scale, x / scale); of several dates the anchor."""
    source_sd: Float32Array
    """Like the source: its standard deviation; NaN where unknown."""
    truth: Float32Array
    """(y, x) or (band, y, x)."""
    bands: tuple[tuple[str, str], ...]
    """Name and units of each guide channel."""
    source_units: str
    """Units of source and truth."""
    target: str
    """Name of the band that is learnt; of several, separated by commas."""
    stack: Dates | None = None
    """Dates of the source; None for a site of one image."""
    bounds: Bounds = (None, None)
    """Lowest and highest possible value of that band; None where there is none."""
    dates: int = 1
    """Seasons or months of the guide; 1 also where dates differ in their bands."""
    name: str = ""
    degradation: str = ""
    """Origin of the source, for the card: kernel, and the noise it has."""
    digest: str = ""
    """Sha256 of what it was read from."""
    vertical_datum: str = ""
    """Vertical datum of source and truth, where they are heights; empty where nobody says."""
    place: str = ""
    """Name of the place, where several sites lie at one: none of them is learnt from where another is scored."""
    transfer: Mapping[str, Transfer] = field(default_factory=dict)
    """Transfer of each band of source and guide whose instrument declares it, by the name of the band or channel."""
    ground: Ground | None = None
    """Sizes of the pixels and land cover, where the truth is heights of the ground: for scores, shown to no model."""
    value_range: float | None = None
    """Range of the values that scores in decibels refer to, where the data declare one."""
    psf: PsfConfig | None = None
    """What the sensor of the source is said to see, where the data declare it; None takes that of published tables."""
    seen_through: PsfConfig | None = None
    """What the simulated source was seen through, for scores: what is said may be wrong. None where nobody knows."""

    def __post_init__(self) -> None:
        *bands, rows, cols = self.source.shape
        nests = self.truth.shape == (*bands, rows * self.scale, cols * self.scale)
        nests &= self.stack is None or self.stack.values.shape[1:] == (len(self.targets), rows, cols)
        same = self.guide.shape[1:] == self.truth.shape[-2:] and self.source_sd.shape == self.source.shape
        named = len(self.bands) == len(self.guide) and (bands or [1]) == [len(self.targets)]
        if not (nests and same and named):
            raise ValueError(
                f"sample {self.name} of {self.target}: guide {self.guide.shape} of {len(self.bands)} bands, "
                f"source {self.source.shape}, "
                f"its deviation {self.source_sd.shape} and truth {self.truth.shape} do not nest"
            )

    @property
    def scale(self) -> int:
        """Source pixel / target pixel."""
        return int(self.truth.shape[-2] // max(self.source.shape[-2], 1))

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the bands that are learnt."""
        return tuple(self.target.split(","))

    @property
    def source_transfers(self) -> tuple[Transfer | None, ...]:
        """Transfer of each band of the source; None where nobody declares it."""
        return tuple(self.transfer.get(name) for name in self.targets)

    @property
    def guide_transfers(self) -> tuple[Transfer | None, ...]:
        """Transfer of each guide channel; None where nobody declares it."""
        return tuple(self.transfer.get(name) for name, _ in self.bands)

    def check(self, contract: Contract) -> tuple[int, ...]:
        """Return for each guide channel of a model its index among the channels of the sample.

        Raises:
            ContractError: If the sample does not offer what the model demands.
        """
        targets = [(name, self.source_units) for name in self.targets]
        bands = targets if self.source.ndim > 2 else [("source", self.source_units)]
        dates = len(self.stack.days) if self.stack else 1
        guide, coarse = Offer(bands=self.bands), Offer(bands=bands, dates=dates, has_sd=True)
        chosen = contract.check({"guide": guide, "source": coarse}, targets=targets, scale=self.scale)
        return chosen.get("guide", ())

    def cut_corner(self, px: int) -> "Sample":
        """Return its upper left, of an edge of about so many target pixels, dates and all."""
        rows, cols = (min(edge, -(-px // self.scale)) for edge in self.source.shape[-2:])
        fine, coarse = np.s_[..., : rows * self.scale, : cols * self.scale], np.s_[..., :rows, :cols]
        stack = self.stack and replace(
            self.stack,
            values=self.stack.values[coarse],
            clear=self.stack.clear[coarse],
            shift=self.stack.shift[coarse],
        )
        return replace(
            self,
            guide=self.guide[fine],
            truth=self.truth[fine],
            source=self.source[coarse],
            source_sd=self.source_sd[coarse],
            stack=stack,
        )

    @property
    def known_truth(self) -> Float32Array:
        """Truth that is scored: NaN where the source is missing, since a map has no value there."""
        known = np.isfinite(self.source).repeat(self.scale, -2).repeat(self.scale, -1)
        return np.where(known, self.truth, np.float32(np.nan))

    def cut_truth(self, limit: float) -> "Sample":
        """Return this sample with truth above a limit set to the limit."""
        return replace(self, truth=np.minimum(self.truth, np.float32(limit)))


def cut_rim(truth: Float32Array, border_px: int) -> Float32Array:
    """Return a truth (..., y, x) without its rim: NaN there.

    Raises:
        InputError: If nothing is left.
    """
    rows, cols = truth.shape[-2:]
    if min(rows, cols) <= 2 * border_px:
        raise InputError(f"a truth of {rows} x {cols} px has nothing within a border_px of {border_px}")
    inside = (..., slice(border_px, rows - border_px), slice(border_px, cols - border_px))
    cut = np.full_like(truth, np.nan)
    cut[inside] = truth[inside]
    return cut
