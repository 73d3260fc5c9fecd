"""What planning needs of the items of a map, collected in one pass, so that each of them is parsed once and dropped."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mapper.arrays import BoolArray
from mapper.catalog.footprint import footprint
from mapper.catalog.items import ItemDict, Items, enters, item_digest
from mapper.cube.check import GuideCheck
from mapper.plan.context import Context


@dataclass(frozen=True, kw_only=True)
class ItemFacts:
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
        """Of all items, as :attr:`mapper.catalog.items.Items.digest`."""
        return hashlib.sha256(self.digests.tobytes()).hexdigest()


def collect_facts(context: Context, items: Items) -> ItemFacts:
    """Look at each item, and check that the guide can be read.

    Raises:
        SpecError: If no item has a band, or the calibration of an item cannot be decided.
    """
    check = GuideCheck(context.spec, context.provider) if context.reads_guide else None
    digests = np.zeros(len(items), "S64")
    outlines = np.empty(len(items), object)
    roles = np.zeros((len(items), 2), bool)
    for number, item in enumerate(items):
        if check:
            check.add(item)
        digests[number] = item_digest(item)
        outlines[number] = footprint(item)
        roles[number] = _enters_guide(context, item), _is_source(context, item)
    if check:
        check.finish()
    return ItemFacts(digests=digests, outlines=outlines, guide=roles[:, 0], source=roles[:, 1])


def _enters_guide(context: Context, item: ItemDict) -> bool:
    if not context.reads_guide:
        return False
    return any(enters(item, layer, months) for _, months, layer in context.spec.guide.composites)


def _is_source(context: Context, item: ItemDict) -> bool:
    return context.reads_source and item["collection"] == context.spec.source.collection
