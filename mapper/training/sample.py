"""A sample: one site with guide, source and truth, in physical units, for training and scoring."""

from dataclasses import dataclass, replace

import numpy as np

from mapper.arrays import Float32Array
from mapper.evaluation.relief import Ground
from mapper.models.contract import Contract, Offer
from mapper.spec.target import Bounds


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One site with its truth; physical units, NaN where missing.

    Raises:
        ValueError: If the arrays do not nest.
    """

    guide: Float32Array
    """(channel, y, x); ``dates`` times the same bands, by date."""
    source: Float32Array
    """(y / scale, x / scale)."""
    source_sd: Float32Array
    """(y / scale, x / scale) standard deviation of the source; NaN where unknown."""
    truth: Float32Array
    """(y, x)."""
    bands: tuple[tuple[str, str], ...]
    """Name and units of each guide channel."""
    source_units: str
    """Units of source and truth."""
    target: str
    """Name of the band that is learnt."""
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
    ground: Ground | None = None
    """Sizes of the pixels and land cover, where the truth is heights of the ground: for scores, shown to no model."""

    def __post_init__(self) -> None:
        nests = self.truth.shape == (self.source.shape[0] * self.scale, self.source.shape[1] * self.scale)
        same = self.guide.shape[1:] == self.truth.shape and self.source_sd.shape == self.source.shape
        if not (nests and same and len(self.bands) == len(self.guide)):
            raise ValueError(
                f"sample {self.name}: guide {self.guide.shape} of {len(self.bands)} bands, source {self.source.shape}, "
                f"its deviation {self.source_sd.shape} and truth {self.truth.shape} do not nest"
            )

    @property
    def scale(self) -> int:
        """Source pixel / target pixel."""
        return int(self.truth.shape[0] // max(self.source.shape[0], 1))

    def check(self, contract: Contract) -> tuple[int, ...]:
        """Return for each guide channel of a model its index among the channels of the sample.

        Raises:
            ContractError: If the sample does not offer what the model demands.
        """
        coarse = Offer(bands=(("source", self.source_units),), has_sd=True)
        chosen = contract.check(
            {"guide": Offer(bands=self.bands), "source": coarse},
            targets=((self.target, self.source_units),),
            scale=self.scale,
        )
        return chosen.get("guide", ())

    @property
    def known_truth(self) -> Float32Array:
        """Truth that is scored: (y, x), NaN where the source is missing, since a map has no value there."""
        known = np.isfinite(self.source).repeat(self.scale, 0).repeat(self.scale, 1)
        return np.where(known, self.truth, np.float32(np.nan))

    def cut_truth(self, limit: float) -> "Sample":
        """Return this sample with truth above a limit set to the limit."""
        return replace(self, truth=np.minimum(self.truth, np.float32(limit)))
