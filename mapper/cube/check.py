"""Check of the guide of a map: its bands must be readable, by the metadata of its items.

A map of a continent has tens of thousands of items, and archives say the same of nearly all: what decides a calibration
is quoted from every item, and decided once for each distinct quotation.
"""

from collections.abc import Sequence

from mapper.catalog.items import ItemDict, flies
from mapper.catalog.provider import CollectionRule, Provider
from mapper.cube.calibrate import decide, quote_calibration
from mapper.cube.observations import HeldBands, require_grid, require_known
from mapper.spec import LayerSpec, MapSpec


class GuideCheck:
    """Check of all items of a map, one by one; a tile whose few items lack a band is a tile with gaps."""

    def __init__(self, spec: MapSpec, provider: Provider) -> None:
        """Begin with no items.

        Raises:
            SpecError: If a collection or band is unknown.
        """
        self._layers: Sequence[_LayerCheck] = [
            _LayerCheck(layer, provider.rule(layer.collection)) for layer in spec.guide.layers
        ]

    def add(self, item: ItemDict) -> None:
        """Check one item; those that the guide does not ask for are skipped.

        Raises:
            SpecError: If its calibration cannot be decided, or its pixels lie in the geometry of the radar.
        """
        for layer in self._layers:
            layer.add(item)

    def finish(self) -> None:
        """Check, after the last item, that each band was found.

        Raises:
            SpecError: If no item has a band.
        """
        for layer in self._layers:
            layer.finish()


class _LayerCheck:
    def __init__(self, layer: LayerSpec, rule: CollectionRule) -> None:
        require_known(rule, layer.bands)
        self._layer, self._rule = layer, rule
        self._held = HeldBands(rule=rule, bands=layer.bands)
        self._decided: set[tuple[str, str]] = set()

    def add(self, item: ItemDict) -> None:
        orbit = self._layer.orbit
        if item["collection"] != self._layer.collection or not (orbit is None or flies(item, orbit)):
            return
        for band in self._held.add(item):
            quoted = band, quote_calibration(item, self._rule, band)
            if quoted not in self._decided:
                decide(item, self._rule, band)
                self._decided.add(quoted)
            require_grid(item, self._rule.bands[band].asset)

    def finish(self) -> None:
        self._held.require(self._layer.collection)
