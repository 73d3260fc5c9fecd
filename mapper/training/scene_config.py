"""Descriptions of stacks of dates to train on and to score."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from mapper.description import FilePath, Part
from mapper.synthetic.bursts import BurstOptions, Span


def list_seeds(seeds: Any) -> Any:
    """Return the numbers of a range that is written ``first-last``; anything else as it is."""
    first, dash, last = seeds.partition("-") if isinstance(seeds, str) else ("", "", "")
    return tuple(range(int(first), int(last) + 1)) if dash and first.isdigit() and last.isdigit() else seeds


Seeds = Annotated[tuple[int, ...], BeforeValidator(list_seeds), Field(min_length=1)]
"""Numbers, or ``1000-1199`` for all from the first to the last."""


class PsfConfig(Part):
    """Point spread function of a sensor along each axis: a Gaussian, then the mean of some pixels of the target."""

    sd: float = Field(gt=0)
    """Standard deviation of the Gaussian, in source pixels."""
    aperture_px: int = Field(ge=1)
    """Target pixels whose mean is taken, around the centre of the source pixel."""

    def modulation(self, scale: int) -> float:
        """Return what is left of a wave at the Nyquist frequency of the source, half a cycle in a source pixel."""
        half = math.pi / (2 * scale)
        mean = math.sin(self.aperture_px * half) / (self.aperture_px * math.sin(half))
        return math.exp(-((math.pi * self.sd) ** 2) / 2) * mean


class BurstSettings(BurstOptions):
    """Ways in which dates are simulated and registered."""

    shift_error_px: float = Field(default=0.02, ge=0)
    """Standard deviation of what registration leaves, in source pixels."""
    register_dates: bool = False
    """True estimates shifts from the dates themselves, as a map does, instead of ``shift_error_px``."""

    @property
    def psf(self) -> PsfConfig:
        """Point spread function that the sensor of these dates is said to have: the middle of what it may have."""
        return PsfConfig(sd=sum(self.psf_sd) / 2, aperture_px=self.aperture_px or 2 - self.scale % 2)


class BurstData(BurstSettings):
    """Dates simulated from images."""

    kind: Literal["bursts"] = "bursts"
    seeds: Seeds
    images: FilePath | None = None
    """Folder of fine images; None draws images of no place."""
    size_px: int = Field(default=192, ge=32)
    bands: int = Field(default=1, ge=1)
    """Bands of images of no place."""
    blur_px: Span = (0.0, 0.0)
    """Standard deviation of a Gaussian over the fine images, in target pixels: cameras are softer than drawings."""
    grain: Span = (0.0, 0.0)
    """Standard deviation of white noise of the fine images themselves, in units of their spread, as any camera has."""
    level: float = 0.0
    contrast: float = Field(default=1.0, gt=0)
    """Mean of each band, and standard deviation of an image, in units of reflectance or whatever is meant."""
    value_range: float | None = Field(default=None, gt=0)
    """Range of the values that scores in decibels refer to, in their units; needed where they are scored."""
    border_px: int = Field(default=0, ge=0)
    """Rim of the truth that is neither learnt nor scored, in its pixels."""
    label: str = ""
    """Name of these sites, together, in tables."""


class SimulationConfig(BurstSettings):
    """Dates simulated from an image of a scene: its truth, or a date where it has none."""

    seed: int = Field(default=0, ge=0)
    image: int | None = None
    """Number of the date, from the end where it is negative; None takes the only one, or the anchor."""
    size_px: int | None = Field(default=None, ge=16)
    """Largest edge of the part of the image that is taken, its upper left; None takes all of it."""
    rows: tuple[int, int] | None = None
    """First row of the image that is taken, and the first below it that is not; None takes all."""


class SceneData(Part):
    """Published layouts of scenes of several dates: a module of :mod:`mapper.training` describes and reads each."""

    kind: Literal["probav", "worldstrat", "sen2venus", "spacenet7", "opensr-test", "image-stacks", "archives"]
    folder: FilePath | None = None
    """Holds the places; for ``optional`` data it may be left to be given."""
    subfolder: str = ""
    """Folder in it, where it holds the data of several kinds."""
    optional: bool = False
    """True leaves it out, and says so, where there is no such folder."""
    places: tuple[str, ...] | None = None
    """Names; None takes all that have a truth and an anchor, or an image to simulate from."""
    leave_out: tuple[str, ...] = ()
    scale: int = Field(default=4, gt=1)
    """Of ``worldstrat``: pixels of the truth along the edge of a pixel of a date."""
    value_range: float | None = Field(default=None, gt=0)
    """Range of the values that scores in decibels refer to, in their units; None takes that of the layout."""
    units: str | None = None
    """Units of the values of ``image-stacks``, as stored."""
    dates: int | None = Field(default=None, ge=1)
    """Most dates, the anchor and those most like it; None takes all."""
    simulate: SimulationConfig | None = None
    """Simulates dates of one fine image of each place, instead of taking its own."""
    coarser: int | None = Field(default=None, gt=1)
    """Makes dates so many times coarser, and the anchor as it is the truth: Wald's protocol."""
    psf: PsfConfig | None = None
    """What the sensor of the dates is said to see; None takes that of the simulation, or of published tables."""
    border_px: int = Field(default=0, ge=0)
    """Rim of the truth that is neither learnt nor scored, in its pixels."""
    label: str = ""
    """Part of the name of each of these sites, where a place is taken in several ways."""

    @property
    def path(self) -> Path | None:
        """Folder of the places."""
        return None if self.folder is None else self.folder / self.subfolder

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.folder is None and not self.optional:
            raise ValueError(f"give the folder of the {self.kind} data")
        if self.kind in ("image-stacks", "archives") and self.value_range is None:
            raise ValueError(f"give the value_range of the {self.kind} data: its files do not say it")
        if self.simulate and self.coarser:
            raise ValueError("give one of simulate and coarser: both make the dates")
        return self


class Sentinel2BandsData(Part):
    """Bands of 10 and 20 m of Sentinel-2: of crops, those of 20 m as the truth of their means of 40 m, or of scenes."""

    kind: Literal["s2-bands"] = "s2-bands"
    folder: FilePath | None = None
    """Holds an ``.npz`` for each crop, see :mod:`mapper.training.sentinel2_bands`."""
    crops: tuple[str, ...] | None = None
    """Names; None takes all."""
    leave_out: tuple[str, ...] = ()
    seeds: Seeds | None = None
    """Scenes of no place, in place of a folder."""
    size_px: int = Field(default=192, ge=32, multiple_of=8)
    """Edge of such a scene in pixels of 10 m."""
    block: Literal[1, 2] = 1
    """Pixels of the instrument along an edge of a pixel of such a scene: 1 as at work, 2 as of a crop."""
    noise: Span = (0.0, 0.001)
    """Standard deviation of the noise of such a scene, in reflectance."""
    border_px: int = Field(default=4, ge=0)
    """Rim of the truth that is neither learnt nor scored, in its pixels."""

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if (self.folder is None) == (self.seeds is None):
            raise ValueError("s2-bands are crops of a folder, or scenes of seeds: give one of the two")
        if self.seeds and (self.crops is not None or self.leave_out):
            raise ValueError("crops and leave_out are names of crops of a folder; scenes have seeds")
        return self


StackData = BurstData | Sentinel2BandsData | SceneData
"""Data of several dates or bands."""
