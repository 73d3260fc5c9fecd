"""The receptive field of a network: intervals of pixels, followed backwards through its layers.

The halo of a tile is the true radius of the receptive field. Here it is computed exactly, not added up from rules of
thumb, and the tests measure it again by gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mapper.models.contract import FILL_STEPS


@dataclass(frozen=True)
class Span:
    """First and last pixel, both included, along one axis of one layer's input."""

    first: int
    last: int

    def conv(self, kernel: int) -> "Span":
        """Return the input of a convolution with 'same' padding and stride 1."""
        return Span(self.first - kernel // 2, self.last + kernel // 2)

    def pool(self, kernel: int, stride: int, padding: int) -> "Span":
        """Return the input of a strided pooling."""
        return Span(self.first * stride - padding, self.last * stride - padding + kernel - 1)

    def deconv(self, kernel: int, stride: int, padding: int) -> "Span":
        """Return the input of a transposed convolution."""
        return Span(-((kernel - 1 - padding - self.first) // stride), (self.last + padding) // stride)

    def upsample(self, radius: int, scale: int) -> "Span":
        """Return the input of interpolation with ``radius`` source pixels on either side."""
        return Span(self.first // scale - radius, self.last // scale + radius)

    def bicubic(self, scale: int) -> "Span":
        """Return the input of bicubic interpolation: two source pixels on either side of a target pixel's centre."""
        before, after = (
            2 * self.first + 1 - scale,
            2 * self.last + 1 - scale,
        )  # from source centres, in halves of pixels
        return Span(before // (2 * scale) - 1, -(-after // (2 * scale)) + 1)

    def __or__(self, other: "Span") -> "Span":
        return Span(min(self.first, other.first), max(self.last, other.last))


@dataclass(frozen=True, kw_only=True)
class ReceptiveField:
    """The pixels that one target pixel depends on."""

    guide: Span
    """In target pixels."""
    source: Span | None
    """In source pixels; None where the source is not looked at."""


def halo_of(fields: Sequence[ReceptiveField], scale: int | None = None) -> int:
    """Return the halo in target pixels, as whole source pixels.

    Args:
        fields: Those of target pixels 0, 1, ... in order: all positions inside a source pixel and, where the network
            pools, inside its coarsest pixel.
        scale: Source pixel / target pixel; by default as many as there are fields.
    """
    scale = scale or len(fields)
    guide_px = max(max(pixel - r.guide.first, r.guide.last - pixel) for pixel, r in enumerate(fields))
    source_px = max(
        max(pixel // scale - r.source.first, r.source.last - pixel // scale) + FILL_STEPS if r.source else 0
        for pixel, r in enumerate(fields)
    )
    return max(-(-guide_px // scale), source_px) * scale
