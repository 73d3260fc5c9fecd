"""What every task of a map shares, and what one task is. Imports no torch: planning needs none.

Both are frozen and picklable: they are all that a worker is told. A worker opens the model by itself and checks that it
is the planned one.
"""

from dataclasses import dataclass, field
from typing import Literal, Protocol

from mapper.access.retry import Backoff, Patience
from mapper.catalog.items import Items
from mapper.catalog.provider import Provider, provider_of
from mapper.catalog.query import MARGIN_PX
from mapper.errors import ContractError, SpecError
from mapper.grid import MapGrid, Tile, Window
from mapper.models.card import Card, read_card
from mapper.models.contract import ANY, Contract, Offer
from mapper.predict.operators import make_operator
from mapper.spec import MapSpec
from mapper.store.product import Product, map_product


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How tiles are computed; nothing here changes a pixel beyond the rounding of float32."""

    device: str = "auto"
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    patch_px: int = 512
    batch: int | None = None
    """Patches through the network at once; None takes what suits the device."""
    read_threads: int = 4
    """Files of one tile read at a time; worth more than the cores where files are remote."""
    backoff: Backoff = field(default_factory=Backoff)
    """Attempts at reading a tile."""
    patience: Patience = field(default_factory=Patience)
    """Attempts at one request."""


class Context(Protocol):
    """What every task of a run shares, whether it makes a map or its guide."""

    @property
    def spec(self) -> MapSpec:
        """The map."""

    @property
    def grid(self) -> MapGrid:
        """Of the store that is written."""

    @property
    def provider(self) -> Provider:
        """How items are read."""

    @property
    def options(self) -> RunOptions:
        """How tiles are computed."""

    @property
    def product(self) -> Product:
        """What the store holds."""

    @property
    def spec_digest(self) -> str:
        """Of the product."""

    @property
    def model_name(self) -> str:
        """Empty where none is used."""

    @property
    def model_digest(self) -> str:
        """Empty where none is used."""

    @property
    def guide_name(self) -> str:
        """Where the guide is read from instead of the archives; empty if it is not."""

    @property
    def reads_guide(self) -> bool:
        """Whether items of the guide are planned with."""

    @property
    def reads_source(self) -> bool:
        """Whether items of the source are planned with."""

    def window(self, tile: Tile) -> Window:
        """What is read for a tile."""


@dataclass(frozen=True, kw_only=True)
class StoredGuide:
    """A guide that was written before, at one version of its store."""

    location: str
    snapshot: str
    pad: int
    """Whole tiles that its grid has on each side of the map's."""

    def __str__(self) -> str:
        return f"{self.location} at {self.snapshot}"


@dataclass(frozen=True, kw_only=True)
class MapContext:
    """What every task of one map shares."""

    spec: MapSpec
    grid: MapGrid
    provider: Provider
    contract: Contract
    channels: tuple[int, ...]
    """For each channel of the model, its index among the channels of the map."""
    source_bands: tuple[int, ...]
    """For each band of the model's source, its index among the source bands of the map."""
    spec_digest: str
    model_digest: str
    options: RunOptions = field(default_factory=RunOptions)
    stored_guide: StoredGuide | None = None
    """Where the guide is read from; None reads it from the archives. The pixels are the same."""

    @property
    def product(self) -> Product:
        """What the store holds."""
        return map_product(self.spec)

    @property
    def model_name(self) -> str:
        """As the map names it."""
        return self.spec.model.name

    @property
    def guide_name(self) -> str:
        """Where the guide is read from instead of the archives; empty if it is not."""
        return str(self.stored_guide or "")

    @property
    def reads_source(self) -> bool:
        """Always."""
        return True

    @property
    def halo_px(self) -> int:
        """Context around a tile, in target pixels: the receptive field, and the reach of consistency."""
        ties = (self.spec.consistency.of(band.name) for band in self.spec.targets)
        reach = max(make_operator(tie, self.grid.scale).reach for tie in ties)
        return self.contract.halo(self.grid.scale) + reach * self.grid.scale

    @property
    def reads_guide(self) -> bool:
        """False for a model that looks at the source alone: its guide is not read at all."""
        return bool(self.contract.guide)

    def window(self, tile: Tile) -> Window:
        """What is read for a tile: its pixels and their context, as whole source pixels and steps of the model."""
        return self.grid.window(tile, halo_px=self.halo_px, step=self.contract.step(self.grid.scale))


@dataclass(frozen=True, kw_only=True)
class Task:
    """One tile, and the items it is made from."""

    tile: Tile
    id: str
    """Uuid5 of spec, model, items and tile: same inputs, same id."""
    items_digest: str
    """Sha256 over the digests of guide and source items."""
    guide: Items
    source: Items


def make_context(
    spec: MapSpec, *, provider: Provider | None = None, card: Card | None = None, options: RunOptions | None = None
) -> MapContext:
    """Check that map, provider and model fit each other, and put together what tasks share.

    Args:
        spec: The map.
        provider: Instead of the one that the map names.
        card: Instead of the one of the model that the map names.
        options: How tiles are computed.

    Raises:
        SpecError: If the provider lacks a collection or band.
        GridError: If the source does not nest in the grid.
        WeightsError: If the model is missing or was tampered with.
        ContractError: If the model does not fit the map.
    """
    provider = provider or provider_of(spec)
    card = card or read_card(spec.model)
    _check_bands(spec, provider)
    grid = spec.map_grid
    chosen = _check_contract(spec, provider, card.contract, grid.scale)
    context = MapContext(
        spec=spec,
        grid=grid,
        provider=provider,
        contract=card.contract,
        channels=chosen["guide"],
        source_bands=chosen["source"],
        spec_digest=spec.digest,
        model_digest=card.digest,
        options=options or RunOptions(),
    )
    if context.halo_px > MARGIN_PX:
        raise ContractError(
            f"model {card.contract.model} needs {context.halo_px} px of context at scale {grid.scale}, but items are "
            f"searched only {MARGIN_PX} px around the area"
        )
    return context


def _check_bands(spec: MapSpec, provider: Provider) -> None:
    wanted = [(layer.collection, band) for layer in spec.guide.layers for band in layer.bands]
    wanted += [(spec.source.collection, band) for band in (*spec.source.band_names, spec.source.sd) if band]
    for collection, band in wanted:
        bands = provider.rule(collection).bands
        if band not in bands:
            raise SpecError(f"unknown band {band!r} of {collection}: {provider.name} has {', '.join(sorted(bands))}")


def _check_contract(spec: MapSpec, provider: Provider, contract: Contract, scale: int) -> dict[str, tuple[int, ...]]:
    """Return the index of each band of the model among the map's, by role."""
    units, source = provider.rule(spec.source.collection).units, spec.source
    for band in spec.targets:
        mode = spec.consistency.of(band.name).mode
        if units != band.units and (contract.target_units == ANY or mode != "none"):
            raise ContractError(
                f"the source is in {units!r}, the target in {band.units!r}: {contract.model} with "
                f"consistency {mode} needs the same units"
            )
    channels = [(channel.name, provider.rule(channel.collection).units) for channel in spec.guide.channels]
    coarse = Offer(
        bands=[(band, units) for band in source.band_names], dates=source.dates, has_sd=source.sd is not None
    )
    chosen = contract.check(
        {"guide": Offer(bands=channels), "source": coarse},
        targets=[(band.name, band.units) for band in spec.targets],
        scale=scale,
    )
    return {"guide": ()} | chosen
