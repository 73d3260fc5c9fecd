"""How far a network looks: intervals of pixels, followed backwards through its layers.

The halo of a tile is the true radius of the receptive field. Here it is computed exactly, not added up from rules of
thumb, and the tests measure it again by gradient.
"""

from dataclasses import dataclass

from mapper.models.contract import FILL_STEPS


@dataclass(frozen=True)
class Span:
    """First and last pixel, both included, along one axis of one layer's input."""

    first: int
    last: int

    def conv(self, kernel: int) -> "Span":
        """What a convolution with 'same' padding and stride 1 needs."""
        return Span(self.first - kernel // 2, self.last + kernel // 2)

    def pool(self, kernel: int, stride: int, padding: int) -> "Span":
        """What a strided pooling needs."""
        return Span(self.first * stride - padding, self.last * stride - padding + kernel - 1)

    def deconv(self, kernel: int, stride: int, padding: int) -> "Span":
        """What a transposed convolution needs."""
        return Span(-((kernel - 1 - padding - self.first) // stride), (self.last + padding) // stride)

    def upsample(self, radius: int, scale: int) -> "Span":
        """What interpolation with ``radius`` source pixels on either side needs."""
        return Span(self.first // scale - radius, self.last // scale + radius)

    def __or__(self, other: "Span") -> "Span":
        return Span(min(self.first, other.first), max(self.last, other.last))


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What one target pixel depends on."""

    guide: Span
    """In target pixels."""
    source: Span
    """In source pixels."""


def halo_of(reaches: list[Reach]) -> int:
    """The halo, in target pixels, as whole source pixels.

    Args:
        reaches: Of target pixels 0 .. scale - 1, in order: all positions inside a source pixel.
    """
    scale = len(reaches)
    guide_px = max(max(pixel - r.guide.first, r.guide.last - pixel) for pixel, r in enumerate(reaches))
    source_px = max(max(-r.source.first, r.source.last) for r in reaches) + FILL_STEPS
    return max(-(-guide_px // scale), source_px) * scale
