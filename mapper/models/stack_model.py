"""The adapter between inputs by name and a network of several bands or dates.

The network sees normalised numbers without NaN: of each date what is clear, else 0; and the anchor, the image that the
map shows, filled a few pixels far where it is missing. One that serves any number of bands sees each band as an image
of its own, in the units of the map.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from mapper.models.contract import Contract, name_band
from mapper.models.interpolation import fill_missing, find_anchor
from mapper.models.margin import Margin, find_margin
from mapper.models.model import GuidedModel, Network, Tensors, TrainedModel, keep_within


class StackModel(TrainedModel):
    """A trained network of a stack and its contract; see :class:`~mapper.models.model.Model` for inputs by name.

    The network is called with ``source`` (batch, date, band, y, x), 0 where missing; ``clear`` (batch, date, 1, y, x),
    1 where a date is used, else 0; ``anchor`` (batch, band, y, x); ``shift`` (batch, date, 2, y, x), source pixels:
    what the anchor shows at p, the date shows at p + shift; and ``guide`` (batch, channel, y * scale, x * scale). It
    gives (batch, band, y * scale, x * scale), means, and with ``gives_sd`` as many standard deviations behind them.

    A stochastic network is given ``noise`` too, where there is any: (batch, step, band, y * scale, x * scale). Then it
    gives a sample in place of the mean and, where it gives a deviation, the mean as a third part. The deviation becomes
    how far the truth is expected from the sample: the network's own, calibrated, and the distance from sample to mean,
    in quadrature.
    """

    source_mean: Tensor
    source_sd: Tensor

    def __init__(self, network: Network, contract: Contract, *, digest: str = "") -> None:
        super().__init__(network, contract, digest=digest)
        self.keep_constants("source", contract.source.bands)

    def forward(self, inputs: Tensors) -> Tensors:
        """Sharpen a batch; see :class:`~mapper.models.model.Model`."""
        values, anchor = inputs["source"], find_anchor(inputs)
        clear = inputs.get("source.clear", torch.isfinite(values).all(2))
        shift = inputs.get("source.shift")
        if shift is None:
            shift = values.new_zeros((*values.shape[:2], 2, *values.shape[-2:]))
        noise = inputs.get("noise") if self.network.stochastic else None
        output = self.sharpen(
            inputs["guide"].flatten(1, 2), anchor, values, clear, shift, noise=noise, margin=find_margin(inputs)
        )
        bands, found = anchor.shape[1], {}
        if noise is not None and self.network.gives_sd:
            sample, spread, mean = output.chunk(3, 1)
            output = torch.cat([sample, torch.hypot(spread, sample - mean)], 1)
        for at in range(bands):
            name = self.contract.means[at].name if self.contract.means else name_band(at)
            found[name] = output[:, at : at + 1]
            if (sd := self.contract.sd_of(name)) is not None:
                found[sd] = output[:, bands + at : bands + at + 1]
        return found

    def sharpen(
        self,
        guide: Tensor,
        anchor: Tensor,
        values: Tensor,
        clear: Tensor,
        shift: Tensor,
        *,
        noise: Tensor | None = None,
        margin: Margin | None = None,
    ) -> Tensor:
        """Sharpen a batch of one kind; returns (batch, band, y, x), means and, if given, deviations behind them.

        Args:
            guide: (batch, channel, y, x) in the units of the contract, NaN where missing; maybe no channel.
            anchor: (batch, band, y / scale, x / scale), NaN where missing.
            values: (batch, date, band, y / scale, x / scale), NaN where missing.
            clear: (batch, date, y / scale, x / scale) True where a date is used.
            shift: (batch, date, 2, y / scale, x / scale), source pixels.
            noise: (batch, step, band, y, x), standard normal; None for the mean.
            margin: Which the result comes without, of a network that trims.
        """
        extras = {} if noise is None else {"noise": noise}
        normal = self._run(self._prepare(guide, anchor, values, clear, shift), extras, margin)
        return self._denormalise(normal.float(), anchor.shape[1])

    def learn(self, inputs: Sequence[Tensor], truth: Tensor, *, noise: Tensor, time: Tensor) -> Tensor:
        """Return mean, deviation and what a stochastic network expects of a truth under noise, (batch, 3 * band, y, x).

        Args:
            inputs: Guide, anchor, values, clear and shift, as :meth:`sharpen` takes them.
            truth: (batch, band, y, x) in the units of the contract, NaN where unknown.
            noise: (batch, 1, band, y, x), standard normal.
            time: (batch,) part of the way from noise to truth.
        """
        extras = {"noise": noise, "truth": self._normalise(truth), "time": time}
        return self._denormalise(self._run(self._prepare(*inputs), extras).float(), truth.shape[1])

    def _prepare(self, guide: Tensor, anchor: Tensor, values: Tensor, clear: Tensor, shift: Tensor) -> Tensors:
        """Return what the network is called with, normalised and without NaN."""
        used = (clear & torch.isfinite(values).all(2))[:, :, None]
        source = torch.where(used, self._normalise(values), 0.0)
        kind = next((each.dtype for each in self.network.parameters()), torch.float32)
        if self.network.in_double:
            kind = values.dtype
        return {
            "source": source.to(kind),
            "clear": used.to(kind),
            "anchor": torch.nan_to_num(self._normalise(fill_missing(anchor)), nan=0.0).to(kind),
            "shift": shift.to(kind),
            "guide": self.normalise_guide(guide).to(kind),
        }

    def _run(self, inputs: Tensors, extras: Tensors, margin: Margin | None = None) -> Tensor:
        """Return what the network makes of a batch: all bands together, or each alone, which takes less memory."""
        source, anchor = inputs["source"], inputs["anchor"]
        network = partial(self.network, margin=margin) if self.network.trims else self.network
        batch, bands = anchor.shape[:2]
        if not self.network.any_bands:
            together: Tensor = network(**inputs, **extras)
            return together
        if bands > 1 and anchor.device.type == "cpu" and not torch.is_grad_enabled():
            each = [network(**_pick_band(inputs, extras, at)) for at in range(bands)]
            return torch.stack(each, 2).flatten(1, 2)
        alone = {name: values.repeat_interleave(bands, 0) for name, values in inputs.items()}
        alone["source"] = source.transpose(1, 2).flatten(0, 1)[:, :, None]
        alone["anchor"] = anchor.flatten(0, 1)[:, None]
        for name, values in extras.items():
            if name == "noise":
                alone[name] = values.transpose(1, 2).flatten(0, 1)[:, :, None].to(anchor.dtype)
            else:
                alone[name] = values.repeat_interleave(bands, 0) if values.ndim == 1 else values.flatten(0, 1)[:, None]
        output: Tensor = network(**alone)
        return output.view(batch, bands, -1, *output.shape[-2:]).transpose(1, 2).flatten(1, 2)

    def _normalise(self, values: Tensor) -> Tensor:
        return (values - self.source_mean) / self.source_sd if len(self.source_sd) else values

    def _denormalise(self, normal: Tensor, bands: int) -> Tensor:
        parts = list(normal.chunk(normal.shape[1] // bands, 1))
        if len(self.source_sd):
            parts = [part * self.source_sd for part in parts]
            parts[::2] = [part + self.source_mean for part in parts[::2]]
        if self.contract.bounds != (None, None):
            unit = float(self.source_sd.mean()) if len(self.source_sd) else 1.0
            parts[::2] = [keep_within(part, self.contract.bounds, unit) for part in parts[::2]]
        if len(parts) > 1:
            parts[1] = parts[1] * self.contract.sd_scale
        return torch.cat(parts, 1)


def _pick_band(inputs: Tensors, extras: Tensors, at: int) -> dict[str, Tensor]:
    """Return the inputs of one band; what all share is as it is."""
    band = slice(at, at + 1)
    picked = dict(inputs) | {"source": inputs["source"][:, :, band], "anchor": inputs["anchor"][:, band]}
    for name, values in extras.items():
        if name == "noise":
            picked[name] = values[:, :, band].to(inputs["anchor"].dtype)
        else:
            picked[name] = values if values.ndim == 1 else values[:, band]
    return picked


def adapt(network: Network, contract: Contract, *, digest: str = "") -> TrainedModel:
    """Return a network with the adapter that it is made for."""
    return (StackModel if network.stacked else GuidedModel)(network, contract, digest=digest)
