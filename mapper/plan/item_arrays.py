"""Arrays of what planning needs of the items of a map, read in one pass: each item is parsed once and dropped."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from shapely.geometry.base import BaseGeometry

from mapper.arrays import BoolArray
from mapper.catalog.footprint import footprint
from mapper.catalog.items import ItemDict, Items, enters, item_digest
from mapper.cube.check import GuideCheck
from mapper.cube.source import outline_reach
from mapper.plan.context import Context


@dataclass(frozen=True, kw_only=True)
class ItemArrays:
    """Arrays over items."""

    digests: npt.NDArray[np.bytes_]
    """(item,): 64 hexadecimal digits each."""
    outlines: npt.NDArray[np.object_]
    """(item,): footprints in longitude and latitude."""
    guide: BoolArray
    """(item,): enters some channel; the others can change without any tile becoming stale."""
    source: BoolArray
    """(item,): of the coarse map."""

    @property
    def digest(self) -> str:
        """Digest of all items, as :attr:`mapper.catalog.items.Items.digest`."""
        return hashlib.sha256(self.digests.tobytes()).hexdigest()


def read_item_arrays(context: Context, items: Items) -> ItemArrays:
    """Read what planning needs of each item, and check that the guide can be read.

    Raises:
        SpecError: If no item has a band, or the calibration of an item cannot be decided.
    """
    check = GuideCheck(context.spec, context.provider) if context.reads("guide") else None
    digests = np.zeros(len(items), "S64")
    outlines = np.empty(len(items), object)
    roles = np.zeros((len(items), 2), bool)
    for number, item in enumerate(items):
        if check:
            check.add(item)
        digests[number] = item_digest(item)
        outlines[number] = _outline(context, item)
        roles[number] = _enters_guide(context, item), _is_source(context, item)
    if check:
        check.finish()
    return ItemArrays(digests=digests, outlines=outlines, guide=roles[:, 0], source=roles[:, 1])


def _outline(context: Context, item: ItemDict) -> BaseGeometry:
    """Return where the tiles lie that need an item."""
    if not _is_source(context, item):
        return footprint(item)
    return outline_reach(item, spec=context.spec, rule=context.provider.rule(item["collection"]))


def _enters_guide(context: Context, item: ItemDict) -> bool:
    if not context.reads("guide"):
        return False
    return any(enters(item, layer, months) for _, months, layer in context.spec.guide.composites)


def _is_source(context: Context, item: ItemDict) -> bool:
    return context.reads("source") and item["collection"] == context.spec.source.collection
