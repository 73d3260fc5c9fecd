"""MTG: multi-temporal guidance. Dates of the guide are pooled pixel by pixel, then fused with the coarse map.

Ours. What it takes from published work: a learned weight for each date, pixel and head, as in the winning entry of
BioMassters (attention over months) and in Garnot and Landrieu, "Lightweight temporal attention encoder" (2020); the
coarse map entering at its own resolution, as in MSG; a variance beside the mean (Nix and Weigend, 1994). What is new is
that all of it meets: dates with gaps, the coarse map and its standard deviation, at any integer scale.

1. *Dates.* Each is embedded by the same two 1 x 1 layers, which see what is missing, and a bias of the date; a masked
   softmax over the dates weighs them. A date without any value has no weight.
2. *Space.* Down from the pixels of the guide to those of the source, one step per prime factor of the scale, the
   smallest first; there the coarse map and its standard deviation enter; and up again. Pooling follows source pixel
   edges, so that the position of a window does not matter. Wide context costs little at 1 / scale^2 of the pixels.
3. *Source.* The output is added to bicubic interpolation. Then a learned share, from 0 to 1 by source pixel, of what
   its block mean lacks to the source is given back: the surer the source, the more.
"""

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.models.convolution import Convolution
from mapper.models.interpolation import upsample
from mapper.models.model import Network
from mapper.models.msg import prime_factors
from mapper.models.receptive_field import ReceptiveField, Span

_BILINEAR_RADIUS = 1
_FIRST_SHARE = 2.0
"""Logit of the share of the residual that is given back when training starts, from nearly bicubic."""
_LEAST_SD = 0.01
"""Least standard deviation, in units of the source's in training."""


class MTG(Network):
    """The network, on normalised values.

    Args:
        guide_channels: Channels of the guide: ``dates`` times the same bands, by date.
        scale: Source pixel / target pixel.
        dates: Dates of the guide.
        width: Features at full resolution; twice as many below.
        embed: Features of one date, a multiple of ``heads``.
        heads: Softmaxes over the dates, each for its share of the features.
        blocks: Residual blocks at the source's resolution; one at the others.
        dropout: Share of pooled features that are dropped in training, each on the whole patch.
        pixel_width: Features of a perceptron that judges each pixel on its own, all dates at once, beside the network
            in space; 0 leaves it out. What few places teach of texture is soon learnt by heart.
        path_dropout: Share of patches in training for which the network in space is left out, so that each pixel is
            judged as well as can be without it.
    """

    sees_gaps = True
    sees_source_sd = True
    sees_dates = True
    gives_sd = True

    def __init__(  # noqa: PLR0913 - options of an architecture
        self,
        guide_channels: int,
        scale: int,
        *,
        dates: int = 1,
        width: int = 16,
        embed: int = 16,
        heads: int = 4,
        blocks: int = 1,
        dropout: float = 0.0,
        pixel_width: int = 0,
        path_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if scale < 2 or dates < 1 or not guide_channels or guide_channels % dates or embed % heads:
            raise ValueError(
                f"scale {scale} must be at least 2, {guide_channels} guide channels a multiple of {dates} dates, and "
                f"embed {embed} one of {heads} heads"
            )
        self.scale, self.blocks = scale, blocks
        self.factors = prime_factors(scale)[::-1]
        self.dates = DatePool(guide_channels // dates, dates, embed=embed, heads=heads)
        self.drop = nn.Dropout2d(dropout)
        self.enter = nn.Conv2d(embed + 1, width, 3, padding=1)
        self.first = Residual(width)
        widths = [width, *(2 * width for _ in self.factors)]
        steps = list(zip(self.factors, widths, widths[1:], strict=False))
        self.down = nn.ModuleList(
            nn.Sequential(nn.AvgPool2d(factor), nn.Conv2d(above, here, 3, padding=1), nn.GELU())
            for factor, above, here in steps[:-1]
        )
        self.coarse = nn.AvgPool2d(self.factors[-1])
        self.deep = nn.Sequential(
            nn.Conv2d(widths[-2] + 2, widths[-1], 3, padding=1), *(Residual(widths[-1]) for _ in range(blocks))
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(below + here, here, 3, padding=1), Residual(here))
            for below, here in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.pixel = nn.Conv2d(embed, 2, 1)
        self.alone = _perceptron(guide_channels, pixel_width) if pixel_width else None
        self.path = nn.Dropout(path_dropout)
        self.last = nn.Conv2d(width, 2, 3, padding=1)
        self.share = nn.Conv2d(widths[-1], 1, 1)
        for layer, start in ((self.last, 0.0), (self.share, _FIRST_SHARE)):
            nn.init.normal_(layer.weight, std=1e-3)
            nn.init.constant_(layer.bias, start)  # type: ignore[arg-type]

    def forward(self, guide: Tensor, source: Tensor, *, known: Tensor, source_sd: Tensor) -> Tensor:
        """Return the sharpened source.

        Args:
            guide: (batch, guide channels, y, x), normalised, 0 where missing.
            source: (batch, 1, y / scale, x / scale), normalised.
            known: Like ``guide``, bool.
            source_sd: Like ``source``, in units of its training spread.

        Returns:
            (batch, 2, y, x): mean and standard deviation, in the normalisation of the source.
        """
        pooled = self.drop(self.dates(guide, known))
        base = upsample(source, self.scale, "bicubic")
        features = self.first(self.enter(torch.cat([pooled, base], 1)))
        levels = [features]
        for step in self.down:
            levels.append(step(levels[-1]))
        deep = features = self.deep(torch.cat([self.coarse(levels[-1]), source, source_sd], 1))
        for step, factor in zip(self.up, self.factors[::-1], strict=True):
            lifted = upsample(features, factor, "bilinear")
            features = step(torch.cat([lifted, levels.pop()], 1))
        by_pixel = self.pixel(pooled) if self.alone is None else self.pixel(pooled) + self.alone(guide)
        in_space = self.path(torch.ones_like(features[:, :1, :1, :1]))
        value, sd = (in_space * self.last(features) + by_pixel).float().split(1, 1)
        residual = torch.sigmoid(self.share(deep).float()) * (source - F.avg_pool2d(value, self.scale))
        return torch.cat([value + upsample(residual, self.scale, "bicubic"), F.softplus(sd) + _LEAST_SD], 1)

    def receptive_field(self, pixel: int) -> ReceptiveField:
        """Return what one target pixel depends on: what the residuals that are interpolated to it do."""
        cell = Span(pixel, pixel).bicubic(self.scale)
        return self._field_up(0, Span(cell.first * self.scale, (cell.last + 1) * self.scale - 1).conv(3))

    def _field_up(self, level: int, span: Span) -> ReceptiveField:
        """Return what decoded features of a level depend on; level 0 are the pixels of the target."""
        if level == len(self.factors):
            inner = span.conv(3 + 4 * self.blocks)
            below = self._field_down(level - 1, inner.pool(self.factors[-1], self.factors[-1], 0))
            return _join(below, ReceptiveField(guide=below.guide, source=inner))
        inner = span.conv(3).conv(5)
        lifted = inner.upsample(_BILINEAR_RADIUS, self.factors[level])
        return _join(self._field_down(level, inner), self._field_up(level + 1, lifted))

    def _field_down(self, level: int, span: Span) -> ReceptiveField:
        """Return what encoded features of a level depend on."""
        if level == 0:
            inner = span.conv(5).conv(3)
            return ReceptiveField(guide=inner, source=inner.bicubic(self.scale))
        factor = self.factors[level - 1]
        return self._field_down(level - 1, span.conv(3).pool(factor, factor, 0))


class DatePool(nn.Module):
    """Dates to one set of features, pixel by pixel.

    Args:
        bands: Channels of one date.
        dates: How many.
        embed: Features.
        heads: Softmaxes over the dates.
    """

    def __init__(self, bands: int, dates: int, *, embed: int, heads: int) -> None:
        super().__init__()
        self.count, self.heads = dates, heads
        self.see = nn.Conv2d(2 * bands, embed, 1)
        self.date = nn.Parameter(torch.zeros(dates, embed, 1, 1))
        self.embed = nn.Conv2d(embed, embed, 1)
        self.weigh = nn.Conv2d(embed, heads, 1, bias=False)  # a softmax would cancel it
        nn.init.normal_(self.date, std=0.2)

    def forward(self, guide: Tensor, known: Tensor) -> Tensor:
        """Pool (batch, dates x bands, y, x) to (batch, embed, y, x)."""
        batch, _, rows, cols = guide.shape
        seen = torch.cat(
            [part.reshape(batch * self.count, -1, rows, cols) for part in (guide, known.to(guide.dtype))], 1
        )
        hidden = self.see(seen).reshape(batch, self.count, -1, rows, cols) + self.date
        features = F.gelu(self.embed(F.gelu(hidden.flatten(0, 1))))
        weights = self._softmax(self.weigh(features).reshape(batch, self.count, self.heads, rows, cols), known)
        grouped = features.reshape(batch, self.count, self.heads, -1, rows, cols)
        pooled: Tensor = (grouped * weights.unsqueeze(3)).sum(1).flatten(1, 2)
        return pooled

    def _softmax(self, logits: Tensor, known: Tensor) -> Tensor:
        """Return weights (batch, date, head, y, x); all 0 where no date has a value."""
        batch, _, rows, cols = known.shape
        some = known.reshape(batch, self.count, -1, rows, cols).any(2, keepdim=True)
        weights = torch.softmax(logits.float().masked_fill(~some, -1e4), 1)
        return torch.where(some, weights, 0.0).to(logits.dtype)


class Residual(nn.Module):
    """Two 3 x 3 convolutions and what goes around them; begins nearly as the identity."""

    def __init__(self, width: int, *, start: float = 1e-3) -> None:
        super().__init__()
        self.first = Convolution(width, width)
        self.second = Convolution(width, width)
        nn.init.normal_(self.second.weight, std=start)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        change: Tensor = self.second(F.gelu(self.first(F.gelu(features))))
        return features + change


def _perceptron(channels: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Dropout(0.1)]
    for inputs in (channels, width):
        layers += [nn.Conv2d(inputs, width, 1), nn.GELU(), nn.Dropout(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(width, 2, 1))


def _join(first: ReceptiveField, second: ReceptiveField) -> ReceptiveField:
    sources = [field.source for field in (first, second) if field.source is not None]
    return ReceptiveField(guide=first.guide | second.guide, source=sources[0] | sources[-1])
