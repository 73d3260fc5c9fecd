"""The model that a training begins with: the network that is described, or weights, and the contract of the samples."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from mapper.errors import ContractError, WeightsError
from mapper.models.architectures import ARCHITECTURES, build_network
from mapper.models.card import read_card
from mapper.models.contract import BandNorm, Contract, Input, make_inputs, make_outputs
from mapper.models.model import Network, TrainedModel
from mapper.models.stack_model import adapt
from mapper.models.weights import load_model
from mapper.spec import ModelSpec
from mapper.spec.target import Bounds
from mapper.training.config import TrainConfig
from mapper.training.sample import Sample
from mapper.training.sampler import check_alike, measure, measure_bands

SAMPLES, STEPS = 8, 4
"""Samples that a map draws of a stochastic model, and steps in which it draws one, where it does not say."""


def make_model(samples: Sequence[Sample], config: TrainConfig) -> TrainedModel:
    """Return the model to begin with: untrained, same seed, same weights; or that of the weights ``config.start``.

    Raises:
        InputError: If the samples do not belong together.
        WeightsError: If the architecture is unknown or does not take its options, or is not that of the start.
        ContractError: If the samples do not fit the start.
    """
    check_alike(samples)
    if config.start is not None:
        return _load_start(samples, config, config.start)
    bands, scale = measure_bands(samples), samples[0].scale
    bands = bands if config.model.guide else ()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_network(
            config.model.architecture,
            guide_channels=len(bands),
            scale=scale,
            options=choose_options(config, samples[0]),
        )
    contract = Contract(
        model=config.model.architecture,
        **_describe_bands(network, bands, samples, config.target or samples[0].target),
        **_describe_extent(network),
        **_describe_noise(network),
        align_px=network.align_px,
        source_m=_measure_pixels(samples),
        sees_source_sd=network.sees_source_sd,
        tile_exact=network.tile_exact,
        bounds=_choose_bounds(config, samples[0]),
    )
    return adapt(network, contract)


def _describe_bands(
    network: Network, guide: tuple[BandNorm, ...], samples: Sequence[Sample], target: str
) -> dict[str, Any]:
    """Return inputs and outputs of a network, as its contract names them."""
    units, names = samples[0].source_units, target.split(",")
    if not network.stacked:
        mean, sd = network.source_norm or measure([sample.source for sample in samples])
        source = BandNorm(name=target, units=units, mean=mean, sd=sd or 1.0)
        outputs = make_outputs(target, units, gives_sd=network.gives_sd)
        return {"inputs": make_inputs(guide, source), "outputs": outputs}
    entry = Input(role="source", dates=0 if samples[0].stack else 1, px=0, cells_px=network.cells_px)
    guides = (Input(role="guide", bands=guide),) if guide else ()
    if network.any_bands:
        return {"inputs": (*guides, entry), "outputs": (), "band_sd": network.gives_sd}
    norms = [measure([sample.source.reshape(len(names), -1)[at] for sample in samples]) for at in range(len(names))]
    bands = (BandNorm(name=name, units=units, mean=m, sd=sd or 1.0) for name, (m, sd) in zip(names, norms, strict=True))
    each = (make_outputs(name, units, gives_sd=network.gives_sd) for name in names)
    return {"inputs": (*guides, replace(entry, bands=tuple(bands))), "outputs": tuple(chain.from_iterable(each))}


def _describe_extent(network: Network) -> dict[str, Any]:
    """Return scale and halo of a network, as its contract names them."""
    if network.any_scale:
        return {"scale": None, "halo_px": 0, "halo_source_px": network.halo_px // network.scale}
    return {"scale": network.scale, "halo_px": network.halo_px}


def _describe_noise(network: Network) -> dict[str, Any]:
    """Return what a contract says of the samples of a network that draws some."""
    if not network.stochastic:
        return {}
    return {"noise_bands": 1, "samples": SAMPLES, "steps": STEPS, "step_px": network.step_px}


def _measure_pixels(samples: Sequence[Sample]) -> tuple[float, float] | None:
    """Return the smallest and the largest edge of source pixels, metres; None where it is unknown of a sample."""
    edges = [float(sample.ground.dy_m.mean()) * sample.scale for sample in samples if sample.ground is not None]
    return (round(min(edges), 3), round(max(edges), 3)) if len(edges) == len(samples) else None


def choose_options(config: TrainConfig, sample: Sample) -> dict[str, Any]:
    """Return the options of the architecture, with those that the sample decides; the card has to name them."""
    options = dict(config.model.options)
    if getattr(ARCHITECTURES.get(config.model.architecture), "sees_dates", False) and config.model.guide:
        options.setdefault("dates", sample.dates)
    network = ARCHITECTURES.get(config.model.architecture)
    if getattr(network, "stacked", False) and not getattr(network, "any_bands", False):
        options.setdefault("bands", len(sample.targets))
    return options


def _choose_bounds(config: TrainConfig, sample: Sample) -> Bounds:
    if config.model.non_negative is None:
        return sample.bounds
    return (0.0 if config.model.non_negative else None, None)


def _load_start(samples: Sequence[Sample], config: TrainConfig, start: Path) -> TrainedModel:
    """Load a trained model with its own constants of normalisation, its standard deviation not calibrated any more."""
    spec = ModelSpec(name=start.stem, weights=start)
    card, model = read_card(spec), load_model(spec)
    asked = config.model.architecture, choose_options(config, samples[0])
    if not isinstance(model, TrainedModel) or (card.contract.model, dict(card.options)) != asked:
        raise WeightsError(f"{start} holds {card.contract.model} {dict(card.options)}, expected {asked[0]} {asked[1]}")
    for sample in samples:
        order = sample.check(card.contract)
        if config.model.guide and order != tuple(range(len(sample.bands))):
            raise ContractError(f"{start} knows the guide channels of {sample.name} in another order or number")
    return adapt(model.network, replace(card.contract, sd_scale=1.0)).train()
