"""Encoding of stored numbers: integers with CF scale and fill where the map asks for them, float32 otherwise.

Network output quantised to integers compresses to a half of float32 at several times the speed. Codec: blosc with
zstd level 1 and bitshuffle. Measured on uint16 at 0.1 Mg ha-1, shards of 1024 and chunks of 256 pixels, two cores:
against plain zstd (level 0) a super-resolved field takes 9.6 instead of 12.4 bit a pixel, a noisy one 10.6 instead of
12.5, the 10 m lidar label 5.1 instead of 6.2, flags 0.1 instead of 0.3, at the same speed (about 120 Mpx/s written and
250 read); levels 3 and 5 gain 1 % and lose a tenth and a quarter of the writing speed.

A crc32c is the last codec of every array, so every byte of a chunk is covered, and a flipped bit is an error in every
reader of Zarr. It costs 4 bytes a chunk and runs at some 15 GB/s. Arrays that were made without one keep their codecs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from mapper.spec import EncodingSpec

_FILLS = {"uint8": 255, "uint16": 65535, "uint32": 4294967295, "int16": -32768, "int32": -2147483648}
_PACKINGS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"1": (1e-4, -0.1), "dB": (2e-3, -80), "m": (0.2, -1000)}
)
"""Units of guide channels to scale factor and offset; see :meth:`Encoding.of_units`."""
_FLOAT64_NAN = "AAAAAAAA+H8="
"""NaN as xarray expects it in ``_FillValue`` of Zarr v3: little-endian float64, base64."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """stored = round((value - add_offset) / scale_factor); the fill marks missing values."""

    dtype: str
    scale_factor: float = 1.0
    add_offset: float = 0.0

    @classmethod
    def of_value(cls, spec: EncodingSpec) -> "Encoding":
        """Return the encoding of the target itself."""
        if spec.dtype == "float32":
            return cls(dtype="float32")
        return cls(dtype=spec.dtype, scale_factor=spec.scale_factor, add_offset=spec.add_offset)

    @classmethod
    def of_sd(cls, spec: EncodingSpec) -> "Encoding":
        """Return the encoding of its standard deviation: never negative, without offset, with at least 16 bits."""
        if spec.dtype == "float32":
            return cls(dtype="float32")
        return cls(dtype="uint32" if spec.dtype.endswith("32") else "uint16", scale_factor=spec.scale_factor)

    @classmethod
    def of_units(cls, units: str) -> "Encoding":
        """Return the encoding of a channel of a guide, by its units alone, so that all of a kind are alike.

        Reflectance from -0.1 to 6.4 in steps of 0.0001, as archives have it; decibels from -80 to 51 in steps of 0.002,
        a tenth of the noise of an average of hundreds of looks; elevation from -1000 to 12106 m in steps of 0.2 m,
        which is any height on land. Anything else as float32.
        """
        scale_factor, add_offset = _PACKINGS.get(units, (None, 0.0))
        if scale_factor is None:
            return cls(dtype="float32")
        return cls(dtype="uint16", scale_factor=scale_factor, add_offset=add_offset)

    @classmethod
    def of_attributes(cls, dtype: str, attributes: dict[str, Any]) -> "Encoding":
        """Return the encoding of a stored array, from its CF attributes."""
        return cls(
            dtype=dtype,
            scale_factor=float(attributes.get("scale_factor", 1.0)),
            add_offset=float(attributes.get("add_offset", 0.0)),
        )

    @property
    def fill(self) -> int | float:
        """Return the stored number of a missing value."""
        return _FILLS.get(self.dtype, float("nan"))

    @property
    def limits(self) -> tuple[float, float]:
        """Return the smallest and largest value that can be stored, in the units of the value."""
        if self.dtype not in _FILLS:
            return -float("inf"), float("inf")
        low, high = self._counts
        return low * self.scale_factor + self.add_offset, high * self.scale_factor + self.add_offset

    @property
    def attributes(self) -> dict[str, Any]:
        """Return the CF attributes: ``_FillValue`` and, for integers, ``scale_factor`` and ``add_offset``."""
        if self.dtype not in _FILLS:
            return {"_FillValue": _FLOAT64_NAN}
        packing = {"_FillValue": self.fill, "scale_factor": self.scale_factor}
        return packing | ({"add_offset": self.add_offset} if self.add_offset else {})

    @property
    def _counts(self) -> tuple[int, int]:
        """Return the smallest and largest stored integer, the fill left out."""
        info = np.iinfo(self.dtype)
        return int(info.min) + (self.fill == info.min), int(info.max) - (self.fill == info.max)

    def encode(self, values: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Quantise values; those beyond :attr:`limits` are stored as the nearest limit, NaN as the fill."""
        missing = np.isnan(values)
        if self.dtype not in _FILLS:
            return np.where(missing, np.float32(np.nan), values).astype(np.float32)  # one NaN, so one checksum
        counts = np.rint((values.astype(np.float64) - self.add_offset) / self.scale_factor)
        counts = np.clip(counts, *self._counts)
        counts[missing] = self.fill
        return counts.astype(self.dtype)

    def decode(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return stored numbers as values in their units, NaN where missing."""
        if self.dtype not in _FILLS:
            return stored.astype(np.float32)
        values = stored * self.scale_factor + self.add_offset
        return np.where(stored == self.fill, np.nan, values).astype(np.float32)

    def quantise(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return values as they come back from the store."""
        return self.decode(self.encode(values))

    def count_clipped(self, values: npt.NDArray[np.float32]) -> int:
        """Count the pixels that :meth:`encode` moves to a limit by more than rounding."""
        low, high = self.limits
        slack = self.scale_factor / 2
        return int(np.count_nonzero((values < low - slack) | (values > high + slack)))


def make_codecs(dtype: str) -> list[BytesBytesCodec]:
    """Return the codecs of the pixels of a map, the checksum last; the reasons are in the module's docstring."""
    blosc = BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle", typesize=np.dtype(dtype).itemsize)
    return [blosc, Crc32cCodec()]


def make_small_codecs() -> list[BytesBytesCodec]:
    """Return the codecs of small arrays, coordinates and those of the ledger: Zarr's own, and the checksum."""
    return [ZstdCodec(), Crc32cCodec()]
