"""Descriptions of stacks of dates to train on and to score."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from mapper.description import FilePath, Part
from mapper.synthetic.bursts import PROTOCOL_SD


def list_seeds(seeds: Any) -> Any:
    """Return the numbers of a range that is written ``first-last``; anything else as it is."""
    first, dash, last = seeds.partition("-") if isinstance(seeds, str) else ("", "", "")
    return tuple(range(int(first), int(last) + 1)) if dash and first.isdigit() and last.isdigit() else seeds


Seeds = Annotated[tuple[int, ...], BeforeValidator(list_seeds), Field(min_length=1)]
"""Numbers, or ``1000-1199`` for all from the first to the last."""
Span = tuple[float, float]
"""Least and greatest value."""


class BurstData(Part):
    """Dates simulated from images: see :class:`~mapper.synthetic.bursts.BurstOptions`."""

    kind: Literal["bursts"] = "bursts"
    seeds: Seeds
    images: FilePath | None = None
    """Folder of fine images; None draws images of no place."""
    size_px: int = Field(default=192, ge=32)
    bands: int = Field(default=1, ge=1)
    """Bands of images of no place."""
    scale: int = Field(default=2, gt=1)
    dates: int = Field(default=8, ge=1)
    shift_px: float = Field(default=1.0, ge=0)
    """Longest shift along an axis, in source pixels."""
    shift_error_px: float = Field(default=0.02, ge=0)
    """Standard deviation of what registration leaves, in source pixels."""
    psf_sd: Span = (PROTOCOL_SD, PROTOCOL_SD)
    """Standard deviation of the point spread function, in source pixels."""
    aperture_px: int | None = Field(default=None, ge=1)
    """Target pixels along an axis whose mean a source pixel is, after that; None: 2, of odd scales 1."""
    blur_px: Span = (0.0, 0.0)
    """Standard deviation of a Gaussian over the fine images, in target pixels: cameras are softer than drawings."""
    noise: Span = (0.01, 0.01)
    """Standard deviation of the noise, in units of the spread of a band."""
    gain: float = Field(default=0.0, ge=0)
    offset: float = Field(default=0.0, ge=0)
    """Largest deviation of a date's gain from 1, and largest offset in units of the spread."""
    clouds: float = Field(default=0.0, ge=0, le=1)
    haze: float = Field(default=0.0, ge=0, le=1)
    """Share of a date under clouds that the mask knows, and under haze that it does not."""
    drift: float = Field(default=0.0, ge=0)
    """Standard deviation of slow changes of brightness, in units of the spread."""
    changed: float = Field(default=0.0, ge=0, le=1)
    """Share of a date where objects appeared or went."""
    object_px: Span = (1.5, 8.0)
    """Edges of such objects, in source pixels."""


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


StackData = BurstData | Sentinel2BandsData
"""Data of several dates or bands."""
