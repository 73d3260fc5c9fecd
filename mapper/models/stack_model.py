"""The adapter between inputs by name and a network of several bands or dates.

The network sees normalised numbers without NaN: of each date what is clear, else 0; and the anchor, the image that the
map shows, filled a few pixels far where it is missing. One that serves any number of bands sees each band as an image
of its own, in the units of the map.
"""

import torch
from torch import Tensor

from mapper.models.contract import Contract, name_band
from mapper.models.interpolation import fill_missing, find_anchor
from mapper.models.model import GuidedModel, Network, Tensors, TrainedModel, keep_within


class StackModel(TrainedModel):
    """A trained network of a stack and its contract; see :class:`~mapper.models.model.Model` for inputs by name.

    The network is called with ``source`` (batch, date, band, y, x), 0 where missing; ``clear`` (batch, date, 1, y, x),
    1 where a date is used, else 0; ``anchor`` (batch, band, y, x); ``shift`` (batch, date, 2, y, x), source pixels:
    what the anchor shows at p, the date shows at p + shift; and ``guide`` (batch, channel, y * scale, x * scale). It
    gives (batch, band, y * scale, x * scale), means, and with ``gives_sd`` as many standard deviations behind them.
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
        output = self.sharpen(inputs["guide"].flatten(1, 2), anchor, values, clear, shift)
        bands, found = anchor.shape[1], {}
        for at in range(bands):
            name = self.contract.means[at].name if self.contract.means else name_band(at)
            found[name] = output[:, at : at + 1]
            if (sd := self.contract.sd_of(name)) is not None:
                found[sd] = output[:, bands + at : bands + at + 1]
        return found

    def sharpen(self, guide: Tensor, anchor: Tensor, values: Tensor, clear: Tensor, shift: Tensor) -> Tensor:
        """Sharpen a batch of one kind; returns (batch, band, y, x), means and, if given, deviations behind them.

        Args:
            guide: (batch, channel, y, x) in the units of the contract, NaN where missing; maybe no channel.
            anchor: (batch, band, y / scale, x / scale), NaN where missing.
            values: (batch, date, band, y / scale, x / scale), NaN where missing.
            clear: (batch, date, y / scale, x / scale) True where a date is used.
            shift: (batch, date, 2, y / scale, x / scale), source pixels.
        """
        used = (clear & torch.isfinite(values).all(2))[:, :, None]
        source = torch.where(used, self._normalise(values), 0.0)
        kind = next((each.dtype for each in self.network.parameters()), torch.float32)
        parts = [
            source.to(kind),
            used.to(kind),
            torch.nan_to_num(self._normalise(fill_missing(anchor)), nan=0.0).to(kind),
            shift.to(kind),
            self.normalise_guide(guide).to(kind),
        ]
        normal = self._run_alone(*parts) if self.network.any_bands else self._run(*parts)
        return self._denormalise(normal.float(), anchor.shape[1])

    def _run(self, source: Tensor, clear: Tensor, anchor: Tensor, shift: Tensor, guide: Tensor) -> Tensor:
        output: Tensor = self.network(source, clear=clear, anchor=anchor, shift=shift, guide=guide)
        return output

    def _run_alone(self, source: Tensor, clear: Tensor, anchor: Tensor, shift: Tensor, guide: Tensor) -> Tensor:
        """Return what the network makes of each band alone: one by one on a CPU, which takes less memory."""
        batch, bands = anchor.shape[:2]
        if bands > 1 and anchor.device.type == "cpu" and not torch.is_grad_enabled():
            each = [source[:, :, at : at + 1] for at in range(bands)]
            found = [self._run(one, clear, anchor[:, at : at + 1], shift, guide) for at, one in enumerate(each)]
            return torch.stack(found, 2).flatten(1, 2)
        alone = source.transpose(1, 2).flatten(0, 1)[:, :, None]
        shared = (each.repeat_interleave(bands, 0) for each in (clear, shift, guide))
        clear, shift, guide = shared
        output = self._run(alone, clear, anchor.flatten(0, 1)[:, None], shift, guide)
        return output.view(batch, bands, -1, *output.shape[-2:]).transpose(1, 2).flatten(1, 2)

    def _normalise(self, values: Tensor) -> Tensor:
        return (values - self.source_mean) / self.source_sd if len(self.source_sd) else values

    def _denormalise(self, normal: Tensor, bands: int) -> Tensor:
        if len(self.source_sd):
            mean, rest = normal[:, :bands] * self.source_sd + self.source_mean, normal[:, bands:]
            normal = torch.cat([mean, rest * self.source_sd], 1) if rest.shape[1] else mean
        mean, rest = normal[:, :bands], normal[:, bands:]
        if self.contract.bounds != (None, None):
            unit = float(self.source_sd.mean()) if len(self.source_sd) else 1.0
            mean = keep_within(mean, self.contract.bounds, unit)
        return torch.cat([mean, rest * self.contract.sd_scale], 1)


def adapt(network: Network, contract: Contract, *, digest: str = "") -> TrainedModel:
    """Return a network with the adapter that it is made for."""
    return (StackModel if network.stacked else GuidedModel)(network, contract, digest=digest)
