"""Margins of a window: source pixels of which nobody needs what a model makes, or that show nothing.

A step that looks so far gives, around what is needed, as much less as it looks. A model that trims what later steps do
not reach computes the same pixels with a part of the work.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass

from torch import Tensor


@dataclass(frozen=True)
class Margin:
    """Source pixels along the edges of a window of which no result is needed."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    @classmethod
    def around(cls, known: Tensor, reach: int) -> "Margin":
        """Return what lies farther than a reach from all that is known, of which there is some, (..., y, x) bool."""
        sides = []
        for axis in (-1, -2):
            at = known.any(axis).flatten(0, -2).any(0).nonzero()
            sides += [int(at[0]), known.shape[-3 - axis] - 1 - int(at[-1])]
        return cls(*sides).beyond(reach)

    def beyond(self, reach: int) -> "Margin":
        """Return the part of it that lies farther from what is needed than a reach."""
        return Margin(*(max(each - reach, 0) for each in astuple(self)))

    def within(self, reach: int) -> "Margin":
        """Return the part of it that lies within a reach of what is needed."""
        return Margin(*(min(each, reach) for each in astuple(self)))

    def trim(self, image: Tensor, reach: int = 0, *, scale: int = 1) -> Tensor:
        """Return an image (..., y, x) without what lies farther from what is needed than a reach in source pixels.

        Args:
            image: Of the whole window.
            reach: How far later steps look.
            scale: Pixels of the image in a source pixel, along an axis.
        """
        top, bottom, left, right = (each * scale for each in astuple(self.beyond(reach)))
        return image[..., top : image.shape[-2] - bottom, left : image.shape[-1] - right]


def find_margin(inputs: Mapping[str, Tensor]) -> Margin:
    """Return the margin that a model is told of; by default none."""
    return Margin(*inputs["margin"].tolist()) if "margin" in inputs else Margin()
