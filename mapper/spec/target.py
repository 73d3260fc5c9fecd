"""The target of a map: its bands and their encoding, its model, and its consistency with the source."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from mapper.description import FilePath, Part

Bounds = tuple[float | None, float | None]
Edge = Annotated[float, Field(allow_inf_nan=True)]
"""Edge of a class of values; an infinite one leaves the class open."""
OperatorName = Literal["block-mean", "gaussian-psf", "none"]
Mode = Literal["none", "soft", "hard", "below"]
QualityBand = Literal["n_dates", "anchor_days", "consistency_residual", "bqa", "detail_gain", "risk"]
"""Band that says how far to trust a pixel, beside standard deviation and flags."""
_BAND_NAME = r"^[A-Za-z][A-Za-z0-9_]*$"


class ModelOptions(Part):
    """Options of ``back-projection`` and ``burst``; those of a trained model are in its card."""

    rounds: int = Field(default=15, ge=1, le=100)
    """Rounds of back-projection: each brings detail and noise, and widens the halo of a tile."""
    psf: float = Field(default=0.514, gt=0, le=0.71)
    """Standard deviation in source pixels of the Gaussian that the sensor sees by, before the mean of the middle two
    target pixels along each axis (odd scales: one)."""

    @model_validator(mode="before")
    @classmethod
    def _names_known(cls, content: Any) -> Any:
        """Check the names, and say which there are."""
        unknown = (
            sorted(str(key) for key in content if key not in cls.model_fields) if isinstance(content, dict) else ()
        )
        if unknown:
            raise ValueError(f"unknown {', '.join(unknown)}: expected some of {', '.join(cls.model_fields)}")
        return content


class ModelSpec(Part):
    """The network: a name from ``mapper models``, or any name with its own weights."""

    name: str
    """Name of an architecture without weights, of shipped weights, or of those in ``weights``."""
    weights: FilePath | None = None
    """File of weights (``.safetensors``) with its card beside it (``.json``)."""
    samples: int | None = Field(default=None, ge=1)
    """Samples that a generative model draws; None takes what its card says."""
    steps: int | None = Field(default=None, ge=1)
    """Steps of a sampler; None takes what its card says."""
    seed: int = Field(default=0, ge=0)
    """Seed of the noise of a generative model."""
    options: ModelOptions | None = None
    """Options of a model without weights that has some; None takes their defaults."""


class EncodingSpec(Part):
    """The numbers a band is stored as: integers times ``scale_factor`` plus ``add_offset``, or floats as they are."""

    dtype: Literal["uint8", "uint16", "int16", "int32", "uint32", "float32"] = "float32"
    """Type of the stored numbers."""
    scale_factor: float = Field(default=1.0, gt=0)
    """Step of the values of integers, in units of the band."""
    add_offset: float = 0.0
    """Value of a stored 0, in units of the band."""


class BandSpec(Part):
    """Properties of a target band; those that are not given are taken from the target, or from the preset."""

    long_name: str = ""
    """Name for people."""
    units: str = "1"
    """CF units."""
    bounds: Bounds = (None, None)
    """Least and greatest value that the band can have; null where there is none."""
    value_range: float | None = Field(default=None, gt=0)
    """Width of the usual range of values, for metrics and colours."""
    classes: tuple[Edge, ...] = ()
    """Edges of classes of values, for scores by class."""
    sd_classes: tuple[Edge, ...] = ()
    """Edges of classes of standard deviations, for scores of the uncertainty."""
    encoding: EncodingSpec = EncodingSpec()
    """Numbers that the band is stored as."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.bounds
        if low is not None and high is not None and low >= high:
            raise ValueError(f"bounds must be least and greatest value, got {list(self.bounds)}")
        return self


class TargetBand(BandSpec):
    """One band that is written, completely described."""

    name: str = Field(pattern=_BAND_NAME)
    sd: bool = True
    """True where its standard deviation is written beside it."""
    samples: int = 0
    """Samples that are written beside it."""

    @property
    def sample_names(self) -> tuple[str, ...]:
        """Return the names of the bands of those samples."""
        return tuple(name_sample(self.name, number) for number in range(self.samples))


def name_sample(band: str, number: int) -> str:
    """Return the name of a sample of a band."""
    return f"{band}_s{number:02d}"


class NamedBand(Part):
    """One band of a list: its name, and what differs from the target."""

    name: str = Field(pattern=_BAND_NAME)
    """Name of the array in the store."""
    long_name: str | None = None
    """Name for people."""
    units: str | None = None
    """CF units."""
    bounds: Bounds | None = None
    """Least and greatest value that the band can have; null where there is none."""
    value_range: float | None = Field(default=None, gt=0)
    """Width of the usual range of values, for metrics and colours."""
    classes: tuple[Edge, ...] | None = None
    """Edges of classes of values, for scores by class."""
    sd_classes: tuple[Edge, ...] | None = None
    """Edges of classes of standard deviations, for scores of the uncertainty."""
    encoding: EncodingSpec | None = None
    """Numbers that the band is stored as."""


class TargetSpec(BandSpec):
    """The map that is written: one band by ``name``, or several in ``bands``."""

    name: str = Field(default="", pattern=rf"{_BAND_NAME}|^$")
    """Name of the array in the store, of a map of one band."""
    bands: Literal["source"] | tuple[NamedBand, ...] | None = None
    """``source`` for one band for each of the source, or a list; None for one band."""
    sd: bool | None = None
    """Writing of standard deviations; None writes them for a single band, and where the source has one."""
    samples: int = Field(default=0, ge=0, le=100)
    """Samples of a generative model that are written beside each band, as ``<band>_s00`` and on."""

    quality: tuple[QualityBand, ...] = ()
    """Further bands about each pixel. Of a stack: ``n_dates``, the dates that lie on the anchor and show what it shows,
    and ``anchor_days``, the day that is shown, since 1970-01-01; ``consistency_residual``, the largest difference to
    the source over all bands, seen through the operator; ``bqa``, further flags and the class of confidence in ``qa``,
    which then has 32 bits; ``detail_gain``, energy of detail finer than the source over that of its bicubic
    interpolation; ``risk``, the estimated probability that a pixel shows detail that is not there."""

    heights: Literal["surface", "ground"] | None = None
    """Heights that are written: of the ``surface`` or of the bare ``ground``; None where the map is none of heights."""
    vertical_datum: str | None = Field(default=None, min_length=1)
    """Vertical datum of the heights that are written, for example ``EPSG:3855``; None takes that of the source."""

    @model_validator(mode="before")
    @classmethod
    def _read_short_forms(cls, content: Any) -> Any:
        """Read ``non_negative`` as a lower bound of 0, and names of bands as bands."""
        if not isinstance(content, Mapping):
            return content
        content = dict(content)
        if "non_negative" in content:
            if "bounds" in content:
                raise ValueError("give bounds or non_negative, not both")
            content["bounds"] = (0 if content.pop("non_negative") else None, None)
        if isinstance(content.get("bands"), list | tuple):
            content["bands"] = [{"name": band} if isinstance(band, str) else band for band in content["bands"]]
        return content

    @model_validator(mode="after")
    def _has_bands(self) -> Self:
        if not self.name and self.bands is None:
            raise ValueError("name the band that is written, or several in bands")
        names = [band.name for band in self.bands] if isinstance(self.bands, tuple) else []
        if len(set(names)) < len(names):
            raise ValueError(f"bands appear twice: {', '.join(names)}")
        if len(set(self.quality)) < len(self.quality):
            raise ValueError(f"bands of quality appear twice: {', '.join(self.quality)}")
        return self

    @property
    def non_negative(self) -> bool:
        """True where values begin at 0 and have no end."""
        return self.bounds == (0, None)

    def resolve(self, source_bands: tuple[str, ...], *, source_has_sd: bool) -> tuple[TargetBand, ...]:
        """Return the bands that are written, each completely described.

        Args:
            source_bands: Bands of the source, for ``bands: source``.
            source_has_sd: True where the source has a standard deviation.
        """
        shared = {name: getattr(self, name) for name in BandSpec.model_fields}
        if self.bands is None:
            return (TargetBand(name=self.name, sd=self.sd is not False, samples=self.samples, **shared),)
        named = self.bands if isinstance(self.bands, tuple) else tuple(NamedBand(name=band) for band in source_bands)
        with_sd = source_has_sd if self.sd is None else self.sd
        own = ({name: value for name, value in dict(band).items() if value is not None} for band in named)
        return tuple(TargetBand(**(shared | {"sd": with_sd, "samples": self.samples} | each)) for each in own)


class BandConsistency(Part):
    """The tie between a target band and its source."""

    operator: OperatorName = "block-mean"
    """Operator that takes the target to what the source saw."""
    mtf: float | None = Field(default=None, gt=0, lt=1)
    """Modulation of ``gaussian-psf`` at the Nyquist frequency of the source."""
    mode: Mode = "soft"
    """``hard`` equals the source; ``soft`` lies within the tolerance; ``below`` never lies above it by more, and equals
    it where the source is even and the model hardly lowered it."""
    tolerance: float | None = Field(default=None, ge=0)
    """Tolerance in units of the target; None takes the standard deviation of the source."""

    @model_validator(mode="after")
    def _has_mtf(self) -> Self:
        if (self.operator == "gaussian-psf") != (self.mtf is not None):
            raise ValueError("mtf belongs to operator: gaussian-psf, which needs it")
        if self.operator == "none" and self.mode != "none":
            raise ValueError(f"operator none leaves nothing to hold against: mode is {self.mode!r}, expected 'none'")
        return self


class ConsistencySpec(BandConsistency):
    """The tie between target and source: ``none``, ``soft`` or ``hard``, or a mapping with the operator."""

    bands: dict[str, BandConsistency] = Field(default_factory=dict)
    """Bands that differ, each completely described."""

    @model_validator(mode="before")
    @classmethod
    def _read_mode(cls, content: Any) -> Any:
        if isinstance(content, str):
            return {"mode": content}
        if isinstance(content, Mapping) and content.get("operator") == "none":
            return {"mode": "none", **content}
        return content

    @model_serializer(mode="wrap")
    def _write_mode(self, handler: SerializerFunctionWrapHandler) -> Any:
        """Write the plain case as one word, as it is read."""
        plain = self.operator == "block-mean" and self.tolerance is None and not self.bands
        return self.mode if plain else handler(self)

    def of(self, band: str) -> BandConsistency:
        """Return the tie of one target band."""
        return self.bands.get(band, self)
