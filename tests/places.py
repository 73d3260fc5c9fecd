"""Small places to train on, and networks that give what the tiny ones do not."""

from unittest import mock

import numpy as np
import torch
from torch import nn

from mapper.models.architectures import ARCHITECTURES
from mapper.models.interpolation import upsample
from mapper.models.model import Network
from mapper.training.config import TrainConfig
from mapper.training.sample import Sample

SCALE = 5


def make_place(seed, *, edge=18, source_sd=5.0, dates=1):
    """A truth of sharp stands; one guide channel of each date shows it, the other shows nothing."""
    random = np.random.default_rng(seed)
    size = edge * SCALE
    stands = random.random((size // 6 + 1,) * 2).repeat(6, 0).repeat(6, 1)[:size, :size].astype(np.float32)
    truth = 200 * stands
    source = truth.reshape(edge, SCALE, edge, SCALE).mean((1, 3))
    guide = [channel for _ in range(dates) for channel in (0.3 - 0.2 * stands, random.random((size, size), np.float32))]
    names = [(f"date{date}_{band}", "1") for date in range(dates) for band in ("B04", "noise")]
    return Sample(
        guide=np.stack(guide),
        source=source,
        source_sd=np.full_like(source, source_sd),
        truth=truth,
        bands=tuple(names),
        source_units="Mg ha-1",
        target="agb",
        bounds=(0, None),
        dates=dates,
        name=f"place {seed}",
        degradation="block mean",
        digest=f"digest {seed}",
    )


def make_config(out="out", **changes):
    """A training of seconds."""
    settings = {
        "name": "tiny",
        "out": out,
        "data": [{"kind": "maps", "maps": ["map.yaml"], "truth": {"collection": "truth", "variable": "agb"}}],
        "model": {"options": {"width": 4, "source_input": "full"}},
        "patch_px": 30,
        "batch": 4,
        "steps": 60,
        "lr": 0.01,
        "ema": 0.9,
    }
    return TrainConfig.model_validate(settings | changes)


class Plain(Network):
    """Bicubic, the guide, the source's deviation, and a deviation of its own; halves its input on the way."""

    sees_source_sd = True
    sees_dates = True
    gives_sd = True

    def __init__(self, guide_channels, scale, *, dates=1, width=4):
        super().__init__()
        self.scale, self.dates = scale, dates
        self.body = nn.Sequential(
            nn.Conv2d(guide_channels + 2, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.1)
        )
        self.last = nn.Conv2d(width, 2, 1)

    @property
    def halo_px(self):
        return 4 * self.scale

    @property
    def align_px(self):
        return 2

    def forward(self, guide, source, source_sd):
        base = upsample(source, self.scale, "bicubic")
        mean, sd = self.last(self.body(torch.cat([guide, base, upsample(source_sd, self.scale, "nearest")], 1))).split(
            1, 1
        )
        return torch.cat([base + mean, nn.functional.softplus(sd) + 0.01], 1)


def know_plain():
    """Let the architecture "plain" be known until the context ends, as if a package offered it."""
    return mock.patch.dict(ARCHITECTURES._entries, plain=Plain)
