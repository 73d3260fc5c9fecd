"""Contracts of networks with one coarse band, for tests."""

import torch

from mapper.models.contract import BandNorm, Contract, make_inputs, make_outputs


def make_contract(*, guide, source_units, target, target_units, source_mean=0.0, source_sd=1.0, gives_sd=False, **rest):
    source = BandNorm(name=target, units=source_units, mean=source_mean, sd=source_sd)
    inputs, outputs = make_inputs(tuple(guide), source), make_outputs(target, target_units, gives_sd=gives_sd)
    return Contract(inputs=inputs, outputs=outputs, **rest)


def sharpen(model, guide, source, source_sd=None):
    """Return (batch, output, y, x) of a model for images (batch, channel, y, x)."""
    inputs = {"guide": guide[:, None], "source": source[:, None]}
    outputs = model(inputs if source_sd is None else inputs | {"source.sd": source_sd[:, None]})
    return torch.cat(list(outputs.values()), 1)
