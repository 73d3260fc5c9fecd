"""The context that all tasks of a product share, and one task. Imports no torch: planning needs none.

Both are frozen and picklable: they are all that a worker gets. A worker opens the model by itself and checks that it
is the planned one.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mapper.access.retry import REQUEST_RETRY, TILE_RETRY, RetryPolicy
from mapper.catalog.heights import check_heights, find_datum
from mapper.catalog.items import Items
from mapper.catalog.provider import Provider, provider_of
from mapper.catalog.uses import Role
from mapper.cube.datum_shift import check_shifts
from mapper.errors import ContractError, SpecError
from mapper.grid import MapGrid, Tile, Window, measure_pixels
from mapper.models.card import Card, read_card
from mapper.models.contract import ANY, Contract, Offer, digest_form
from mapper.models.risk import Risk
from mapper.plan.window_rules import HaloRule, WindowRule
from mapper.predict.operators import make_operator
from mapper.predict.quality import APPRAISED, CHANGE_REACH, DETAIL_REACH
from mapper.spec import MapSpec
from mapper.store.identity import Identity
from mapper.store.product import Product, map_product


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of computing tiles; nothing here changes a pixel beyond the rounding of float32."""

    device: str = "auto"
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    patch_px: int = 512
    batch: int | None = None
    """Patches through the network at once; None takes what suits the device."""
    read_threads: int = 4
    """Files of one tile read at a time; worth more than the cores where files are remote."""
    tile_retry: RetryPolicy = TILE_RETRY
    """Policy for reading and writing a tile, and for commits."""
    request_retry: RetryPolicy = REQUEST_RETRY
    """Policy for one request."""


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
class PlannedModel:
    """The model that a map is planned with; weights are opened by workers only."""

    name: str
    contract: Contract
    channels: tuple[int, ...]
    """(channel of the model's guide,): index among the channels of the map."""
    source_bands: tuple[int, ...]
    """(band of the model's source,): index among the source bands of the map."""
    digest: str
    """Digest of weights and contract."""
    risk: Risk | None = None
    """Estimate of the risk of hallucination, of a model that has one, for a map that needs it."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """All that the tasks of one product share: a map, or the guide of a map."""

    spec: MapSpec
    """The map."""
    provider: Provider
    product: Product
    """Product that the store holds."""
    identity: Identity
    """Digests of the product, its grid and its model; each task has items of its own."""
    roles: tuple[Role, ...]
    """Roles whose items are planned with."""
    halo_px: int
    """Context around every tile of the map, in target pixels."""
    window_rule: WindowRule
    """Rule by which the window that is read follows from a tile of the product."""
    map_grid: MapGrid
    """Grid of the map."""
    pad: int = 0
    """Whole tiles that the grid of the product has around that of the map, on each side."""
    model: PlannedModel | None = None
    """Model; None where nothing is predicted."""
    stored_guide: StoredGuide | None = None
    """Store that the guide is read from; None reads it from the archives. The pixels are the same."""
    options: RunOptions = field(default_factory=RunOptions)

    @property
    def grid(self) -> MapGrid:
        """Grid of the product."""
        return self.product.grid

    @property
    def contract(self) -> Contract:
        """Contract of the model.

        Raises:
            ValueError: If nothing is predicted.
        """
        return self.require_model().contract

    def require_model(self) -> PlannedModel:
        """Return the model.

        Raises:
            ValueError: If nothing is predicted.
        """
        if self.model is None:
            raise ValueError(f"a {self.product.kind} is made without a model")
        return self.model

    def reads(self, role: Role) -> bool:
        """Check whether items of a role are planned with; those of a guide that no model asks for are not."""
        return role in self.roles

    def window(self, tile: Tile) -> Window:
        """Return the window that is read for a tile of the product."""
        edges = self.window_rule.edges(self.grid, np.array([(tile.row, tile.col)]))
        top, left, bottom, right = edges[0].tolist()
        return Window(top=top, left=left, bottom=bottom, right=right)

    def needed(self, tile: Tile) -> Window:
        """Return the part of the window of a tile that its pixels are predicted from.

        Cells in which dates are registered reach beyond it.
        """
        if self.model is None or not self.contract.source.cells_px:
            return self.window(tile)
        return self.grid.window(tile).grown(self.halo_px, self.contract.step(self.grid.scale))

    def finished(self, tile: Tile) -> Window:
        """Return the part of what a tile is predicted from that is predicted: the tile, and what its ties look at."""
        tie_px = self.halo_px - self.contract.halo(self.grid.scale)
        return self.grid.window(tile).grown(tie_px, self.grid.scale)

    def on_map(self, window: Window) -> Window:
        """Return a window of the product in pixels of the map; it may reach beyond it."""
        return window.shifted(-self.pad * self.grid.tile_px)


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
) -> Context:
    """Check that map, provider and model fit each other, and return what tasks share.

    Args:
        spec: The map.
        provider: Instead of the one that the map names.
        card: Instead of the one of the model that the map names.
        options: How tiles are computed.

    Raises:
        SpecError: If the provider lacks a collection or band, or heights of two vertical datums would be mixed.
        GridError: If the source does not nest in the grid.
        WeightsError: If the model is missing or was tampered with.
        ContractError: If the model does not fit the map, or no map can be made with it.
    """
    provider = provider or provider_of(spec)
    card = card or read_card(spec.model)
    _check_tile_exact(spec.model.name, card.contract)
    _check_bands(spec, provider)
    check_heights(spec, provider)
    risk = _choose_risk(spec, card)
    datum = find_datum(spec, provider)
    product = map_product(spec, vertical_datum=datum, knows_domain=risk is not None)
    contract = card.contract.take_steps(spec.model.steps)
    _check_samples(spec, contract)
    grid = product.grid
    chosen = _check_contract(spec, provider, contract, grid.scale)
    halo_px = contract.halo(grid.scale) + _find_reach(spec, grid.scale) * grid.scale
    cells_px = contract.source.cells_px * grid.scale
    if cells_px and spec.source.dates > 1:
        halo_px = max(halo_px, CHANGE_REACH * grid.scale)
    check_shifts(spec, reach_px=halo_px)
    return Context(
        spec=spec,
        provider=provider,
        product=product,
        identity=Identity(spec=product.digest, grid=grid.digest, model=_identify_model(card, risk)),
        roles=("guide", "source") if contract.guide else ("source",),
        halo_px=halo_px,
        # cells in which dates are registered must be whole, and those around, between whose centres shifts are drawn
        window_rule=HaloRule(
            halo_px=halo_px + cells_px, step_px=math.lcm(contract.step(grid.scale) or grid.scale, cells_px or 1)
        ),
        map_grid=grid,
        model=PlannedModel(
            name=spec.model.name,
            contract=contract,
            channels=chosen["guide"],
            source_bands=chosen["source"],
            digest=card.digest,
            risk=risk,
        ),
        options=options or RunOptions(),
    )


def _find_reach(spec: MapSpec, scale: int) -> int:
    """Return the source pixels beyond the receptive field that a pixel hangs on.

    Consistency acts on whole source pixels, so one that is cut by the edge of a tile must be complete, and right,
    beyond that edge; detail is measured on what came of it.
    """
    ties = (spec.consistency.of(band.name) for band in spec.targets)
    reach = max(make_operator(tie, scale).reach_in(tie.mode) for tie in ties)
    return reach if APPRAISED.isdisjoint(spec.target.quality) else reach + DETAIL_REACH


def _choose_risk(spec: MapSpec, card: Card) -> Risk | None:
    """Return the estimate of risk that a map needs, for ``risk`` and for the flag of what a model was not judged on.

    Raises:
        ContractError: If it asks for ``risk`` of a model that has no estimate of it.
    """
    if "risk" in spec.target.quality and card.risk is None:
        raise ContractError(
            f"model {spec.model.name} has no estimate of risk, which target.quality asks for: fit one where a truth is "
            "known (mapper risk CONFIG.yaml --weights FILE), or leave risk out"
        )
    return card.risk if {"risk", "bqa"} & {*spec.target.quality} else None


def _identify_model(card: Card, risk: Risk | None) -> str:
    """Return the digest of a model, and of its estimate of risk where pixels hang on it."""
    return card.digest if risk is None else digest_form([card.digest, risk.digest])


def _check_samples(spec: MapSpec, contract: Contract) -> None:
    """Check that as many samples are drawn as are written.

    Raises:
        ContractError: If the model draws fewer, or none.
    """
    written = max(band.samples for band in spec.targets)
    one_step = contract.steps == 1 and contract.gives_sd
    drawn = (spec.model.samples or contract.samples) if contract.noise_bands and not one_step else 0
    if written > drawn:
        why = "one step of it is its mean" if contract.noise_bands and one_step else f"the map draws {drawn}"
        raise ContractError(
            f"{written} samples are to be written (target.samples) of model {spec.model.name}, and {why}: write fewer, "
            "or draw more (model.samples, model.steps)"
        )


def _check_tile_exact(name: str, contract: Contract) -> None:
    if not contract.tile_exact:
        raise ContractError(
            f"model {name} ({contract.model}) looks at a whole patch at once, by statistics or attention, so that "
            "tiles would not meet: no map is made with it; take a tile-exact model, a suite can score this one on "
            "whole sites (mapper evaluate)"
        )


def _check_bands(spec: MapSpec, provider: Provider) -> None:
    wanted = [(layer.collection, band) for layer in spec.guide.layers for band in layer.bands]
    wanted += [(spec.source.collection, band) for band in (*spec.source.band_names, spec.source.sd) if band]
    for collection, band in wanted:
        bands = provider.rule(collection).bands
        if band not in bands:
            raise SpecError(f"unknown band {band!r} of {collection}: {provider.name} has {', '.join(sorted(bands))}")
    sharpened = provider.rule(spec.source.collection).bands
    for band in spec.source.band_names:
        if sharpened[band].classes:
            raise SpecError(
                f"source {spec.source.collection}: {band} is an indicator of classes, which are never averaged; "
                "sharpen a band of numbers, and take classes into the guide"
            )


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
    channels = [(each.name, provider.rule(each.collection).units_of(each.band)) for each in spec.guide.channels]
    coarse = Offer(
        bands=[(band, units) for band in source.band_names], dates=source.dates, has_sd=source.sd is not None
    )
    contract.check_pixel(_measure_source(spec))
    chosen = contract.check(
        {"guide": Offer(bands=channels), "source": coarse},
        targets=[(band.name, band.units) for band in spec.targets],
        scale=scale,
    )
    return {"guide": ()} | chosen


def _measure_source(spec: MapSpec) -> float:
    """Return the edge of a source pixel in metres; on a grid of degrees that along a meridian."""
    grid = spec.map_grid.geobox
    height_m, _ = measure_pixels(str(grid.crs), grid.transform, 1)
    return float(height_m[0]) * spec.map_grid.scale
