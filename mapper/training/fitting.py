"""Fit a network to samples, on CPU or GPU.

Normalisation is measured on what is trained on and fixed. Loss is taken in units of the source's spread, on pixels
where the truth is known, away from the rim of a patch where the network sees the edge. The weights that are kept are
a running mean over the last steps.
"""

import copy
import logging
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from mapper.models.contract import Contract
from mapper.models.model import GuidedModel
from mapper.models.weights import build_network
from mapper.training.config import TrainConfig
from mapper.training.sampler import Batch, PatchSampler, Sample, measure, measure_bands

_WARM_UP = 0.05
_LAST_RATE = 0.01
_REPORT_EVERY = 100

_logger = logging.getLogger(__name__)


def fit(samples: Sequence[Sample], config: TrainConfig, *, target: str = "agb") -> GuidedModel:
    """Train a model on samples.

    Args:
        samples: Of one scale and one set of channels.
        config: How.
        target: Name of what the model gives.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = make_model(samples, config, target=target).to(device)
    kept = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    schedule = LambdaLR(optimizer, lambda step: _rate(step, config.steps))
    sampler = PatchSampler(
        samples,
        patch_px=config.patch_px,
        augment=config.augment,
        bands=model.contract.guide,
        source_sd=model.contract.source_sd,
        seed=config.seed,
    )
    for step in range(config.steps):
        loss = _loss(model, sampler.draw(config.batch), config)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        schedule.step()
        _follow(kept, model, min(config.ema, (1 + step) / (10 + step)))
        if step % _REPORT_EVERY == 0 or step == config.steps - 1:
            _logger.info("step %d of %d: loss %.4f", step, config.steps, loss.item())
    return kept.cpu().eval()


def make_model(samples: Sequence[Sample], config: TrainConfig, *, target: str = "agb") -> GuidedModel:
    """An untrained model, with the contract that the samples give it; same seed, same weights."""
    bands, scale = measure_bands(samples), samples[0].scale
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_network(
            config.model.architecture, guide_channels=len(bands), scale=scale, options=config.model.options
        )
    source_mean, source_sd = measure([sample.source for sample in samples])
    contract = Contract(
        model=config.model.architecture,
        guide=bands,
        source_units=samples[0].source_units,
        source_mean=source_mean,
        source_sd=source_sd or 1.0,
        target=target,
        target_units=samples[0].source_units,
        scale=scale,
        halo_px=network.halo_px,
    )
    return GuidedModel(network, contract)


def _loss(model: GuidedModel, batch: Batch, config: TrainConfig) -> Tensor:
    device = model.guide_mean.device
    guide, source, truth = (torch.from_numpy(a).to(device) for a in (batch.guide, batch.source, batch.truth))
    rim = config.margin_source_px * (truth.shape[-1] // source.shape[-1])
    inner = (..., slice(rim, truth.shape[-2] - rim), slice(rim, truth.shape[-1] - rim))
    value, truth = model(guide, source)[:, :1][inner], truth[inner]
    known = torch.isfinite(truth)
    error = torch.where(known, value - truth, 0.0) / model.contract.source_sd
    return _penalty(error, config.loss).sum() / known.sum().clamp(min=1)


def _penalty(error: Tensor, loss: str) -> Tensor:
    if loss == "mse":
        return error.square()
    zero = torch.zeros_like(error)
    return F.smooth_l1_loss(error, zero, reduction="none", beta=1.0 if loss == "huber" else 0.0)


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate: a short rise, then half a cosine."""
    rise = max(1, round(_WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    progress = (step - rise) / max(1, steps - rise)
    return _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def _follow(kept: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, current in zip(kept.parameters(), model.parameters(), strict=True):
        mean.lerp_(current, 1 - decay)
