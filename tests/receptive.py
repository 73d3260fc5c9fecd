"""The receptive field of a network, measured by gradient."""

import math

import torch
from torch import nn

from mapper.models.contract import FILL_STEPS


def lively(network):
    """A network in use whose small first weights are not so small that they hide what it looks at."""
    for parameter in network.parameters():
        if parameter.ndim > 1 and parameter.std() < 5e-3:
            nn.init.normal_(parameter, std=0.3)
    return network.eval()


def measured_halo(network, channels, scale):
    """Radius in whole source pixels, in target pixels: the greatest over places on source and coarsest pixels."""
    torch.manual_seed(0)
    network = _never_silent(lively(network).double())
    step = math.lcm(scale, network.align_px)
    start = -(-(network.halo_px + scale) // step) * step
    edge = 2 * start + step
    guide = torch.randn(1, channels, edge, edge, dtype=torch.double, requires_grad=True)
    source = torch.randn(1, 1, edge // scale, edge // scale, dtype=torch.double, requires_grad=True)
    target = network(guide, source)
    guide_px, source_px = 0, 0
    for place in range(-(-step // 2)):  # rows from the first on, columns from the last back: together all places
        at = torch.tensor([start + place, start + step - 1 - place])
        seen = torch.autograd.grad(target[0, 0, *at], (guide, source), retain_graph=True, allow_unused=True)
        guide_px = max(guide_px, (seen[0][0].abs().sum(0).nonzero() - at).abs().max().item())
        if seen[1] is not None:
            source_px = max(source_px, (seen[1][0, 0].nonzero() - at // scale).abs().max().item() + FILL_STEPS)
    return max(-(-guide_px // scale), source_px) * scale


def _never_silent(network):
    """Put a smooth function where ReLU would hide at random what is looked at."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ReLU):
                setattr(parent, name, nn.SiLU())
    return network
