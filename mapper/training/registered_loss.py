"""Losses for a fine reference of another sensor, which lies elsewhere by a few pixels and has other colours.

:class:`RegisteredError` is the loss of HighRes-net (Deudon et al., 2020): ShiftNet looks at output and reference and
gives one shift, the output is moved by it with Lanczos' kernel, and what is judged is the squared error, the difference
in brightness taken out. :class:`RadiometricConsistency` is that of Razzak, Mateo-Garcia, Lecuyer, Gomez-Chova, Gal and
Kalaitzis, "Multi-spectral multi-image super-resolution of Sentinel-2 with radiometric consistency losses and its effect
on building delineation" (2023): the output as the sensor would see it is held to the anchor, and only its structure,
registered and with colours matched, to the reference. ShiftNet and ColourMatch learn beside the network and are left
behind: what a map shows is neither moved nor recoloured.

Both take (batch, band, y, x) in training units, NaN where nothing is known, and return one number, the mean over what
is. Where a network gives a standard deviation, they say what it is to be learnt from: errors after registration, with
the offset, and under the second loss also the gain, of each image and band undone.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
from torch import Tensor, nn

from mapper.errors import InputError
from mapper.predict.operators import GaussianPsf
from mapper.training.pixel_losses import LEAST_SD, beta_nll

LANCZOS = 3
"""Half the width of Lanczos' kernel, in pixels."""
WINDOW_PX, SIGMA_PX = 11, 1.5
"""Edge of the window of structural similarity, and its Gaussian's standard deviation."""
_K1, _K2 = 0.01, 0.03
_SHARES = (0.9, 0.1)
"""Weights of consistency and of structure, as published."""
_SHIFT_PENALTY = 1e-6
_LEAST_ERROR = 1e-12


class ShiftNet(nn.Module):
    """HomographyNet with two outputs: how far one image lies from another; 34.19 million parameters for one band.

    After DeTone, Malisiewicz and Rabinovich, "Deep image homography estimation" (2016), as HighRes-net has it. It
    starts from no shift. Images of any size will do: before the last two layers features are averaged to ``cells`` x
    ``cells``, which leaves those of the published 128 x 128 pixels as they are.

    Args:
        bands: Bands of both images.
        width: Features of the first four layers; half those of the last four.
        hidden: Features of the last but one layer.
        cells: Edge of the images before it.
        reach_px: Greatest shift, which estimates approach smoothly.
    """

    def __init__(
        self, bands: int, *, width: int = 64, hidden: int = 1024, cells: int = 16, reach_px: float = 4.0
    ) -> None:
        super().__init__()
        self.reach_px = reach_px
        widths = (width, width, 2 * width, 2 * width)
        inputs, layers = 2 * bands, list[nn.Module]()
        for at, outputs in enumerate(widths):
            layers += [*_layer(inputs, outputs), *_layer(outputs, outputs)]
            layers += [nn.MaxPool2d(2)] if at < len(widths) - 1 else []
            inputs = outputs
        self.look = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(cells), nn.Dropout(0.5), nn.Flatten())
        self.decide = nn.Sequential(nn.Linear(inputs * cells**2, hidden), nn.ReLU(), nn.Linear(hidden, 2, bias=False))
        nn.init.zeros_(self.decide[-1].weight)  # type: ignore[arg-type]

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """Return shifts, (batch, 2) pixels down and right: what the reference shows at p the image shows at p + shift.

        Args:
            image: (batch, band, y, x), at least 8 x 8 pixels.
            reference: Like ``image``; where it is NaN, nothing is seen.
        """
        known = torch.isfinite(reference)
        pair = [_centre(image, known), _centre(reference, known)]
        decided = self.decide(self.look(torch.cat(pair, 1)))
        shift: Tensor = self.reach_px * torch.tanh(decided / self.reach_px)
        return shift


class ColourMatch(nn.Module):
    """The colours of one sensor to those of another, pixel by pixel: two 1 x 1 convolutions and a ReLU between.

    Args:
        bands: Bands of both sensors.
        hidden: Features between.
    """

    def __init__(self, bands: int, *, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(bands, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, bands, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Return (batch, band, y, x) of the same shape."""
        matched: Tensor = self.layers(image)
        return matched


@dataclass(frozen=True, kw_only=True)
class Radiometry:
    """Bands, level and spread of samples, and the modulation of their sensor."""

    bands: int
    mean: float
    unit: float
    """Mean and standard deviation of the source, over all bands."""
    mtf: float | None
    """Modulation of the sensor at the Nyquist frequency of the source; None where a source pixel is the mean of its
    block."""


class RegisteredLoss(nn.Module):
    """A loss with layers of its own, which learn beside the network and are left behind.

    Args:
        bands: Bands of output and reference.
        mtf: Modulation of the sensor at the Nyquist frequency of the source; None takes the mean of the block.
        shift_net: What registers; None makes the published one.
    """

    least_px: ClassVar[int] = 16
    """Smallest edge of the images that it can judge."""

    def __init__(self, bands: int, *, mtf: float | None = None, shift_net: ShiftNet | None = None) -> None:
        super().__init__()
        self.mtf = mtf
        self.shift_net = shift_net or ShiftNet(bands)

    def forward(self, output: Tensor, truth: Tensor, anchor: Tensor, scale: int, sd: Tensor | None = None) -> Tensor:
        """Return the loss of a batch.

        Args:
            output: (batch, band, y * scale, x * scale), means alone.
            truth: The same, NaN where unknown.
            anchor: (batch, band, y, x), NaN where missing.
            scale: Source pixel / target pixel.
            sd: Standard deviations, like the output; None where the network gives none.
        """
        raise NotImplementedError

    def teach_sd(
        self, output: Tensor, sd: Tensor | None, truth: Tensor, shift: Tensor, *, gain: bool = False
    ) -> Tensor | float:
        """Return the mean likelihood of registered errors, from which the deviations alone learn; 0 without any.

        Args:
            output: Means, not yet moved.
            sd: Their standard deviations.
            truth: (batch, band, y, x), NaN where unknown.
            shift: (batch, 2), that of the output.
            gain: The truth has another gain in each image and band, beside an offset.
        """
        if sd is None:
            return 0.0
        reach, shift = self.shift_net.reach_px, shift.detach()
        moved, known = _move_known(output.detach(), shift, truth, reach)
        error = centre_error(moved, _match_gain(moved, truth, known) if gain else truth, known)
        each = beta_nll(error, move(sd, shift, reach_px=reach).clamp(min=LEAST_SD))
        total: Tensor = torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)
        return total


class RegisteredSum(nn.Module):
    """A loss with layers of its own, of images in target units, summed over the pixels whose truth is known.

    Args:
        loss: In training units, a mean.
        radiometry: Of the samples.
    """

    def __init__(self, loss: RegisteredLoss, radiometry: Radiometry) -> None:
        super().__init__()
        self.loss, self.radiometry = loss, radiometry

    def forward(self, output: Tensor, truth: Tensor, anchor: Tensor) -> Tensor:
        """Return the sum.

        Args:
            output: (batch, band, y, x): means and, where given, as many standard deviations behind them.
            truth: (batch, band, y, x), NaN where unknown.
            anchor: (batch, band, y / scale, x / scale), NaN where missing.

        Raises:
            InputError: If the patches are too small to be judged.
        """
        rows, cols = truth.shape[-2:]
        if min(rows, cols) < self.loss.least_px:
            raise InputError(
                f"{type(self.loss).__name__} gets {rows} x {cols} px of a patch inside its rim, expected at least "
                f"{self.loss.least_px}: enlarge patch_px or reduce margin_source_px"
            )
        mean, *sd = output.chunk(output.shape[1] // truth.shape[1], 1)
        normal = [(each - self.radiometry.mean) / self.radiometry.unit for each in (mean, truth, anchor)]
        total: Tensor = self.loss(*normal, cols // anchor.shape[-1], sd[0] / self.radiometry.unit if sd else None)
        return total * torch.isfinite(truth).sum()


class RegisteredError(RegisteredLoss):
    """Squared error of a registered output less the mean difference of each image and band, and a penalty of its shift.

    Args:
        bands: Bands of output and reference.
        mtf: Not looked at.
        shift_net: What registers; None makes the published one.
        clear_psnr: Return minus the clear PSNR in decibels of a range of 1 (the published loss), not the squared error.
    """

    def __init__(
        self, bands: int, *, mtf: float | None = None, shift_net: ShiftNet | None = None, clear_psnr: bool = False
    ) -> None:
        super().__init__(bands, mtf=mtf, shift_net=shift_net)
        self.clear_psnr = clear_psnr

    def forward(
        self,
        output: Tensor,
        truth: Tensor,
        anchor: Tensor,  # noqa: ARG002
        scale: int,  # noqa: ARG002
        sd: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of a batch, for which neither anchor nor scale count; see :class:`RegisteredLoss`."""
        shift = self.shift_net(output, truth)
        judged, known = _move_known(output, shift, truth, self.shift_net.reach_px)
        errors, seen = average_error(judged, truth, known), known.any(3).any(2)
        if self.clear_psnr:
            errors = 10 * torch.log10(errors.clamp(min=_LEAST_ERROR))
        loss = (errors * seen).sum() / seen.sum().clamp(min=1) + _SHIFT_PENALTY * shift.square().mean()
        total: Tensor = loss + self.teach_sd(output, sd, truth, shift)
        return total


class RadiometricConsistency(RegisteredLoss):
    """The output seen through the sensor held to the anchor, its structure to a reference of other colours.

    The loss is .9 of the mean squared error to the anchor and .1 of the structural dissimilarity to the reference.

    Args:
        bands: Bands of output and reference.
        mtf: Modulation of the sensor at the Nyquist frequency of the source; None takes the mean of the block.
        value_range: Range of the reference, in training units, that structural similarity is measured in.
        shift_net: What registers; None makes the published one.
        hidden: Features of ColourMatch.
    """

    least_px: ClassVar[int] = 2 * (LANCZOS + 4) + WINDOW_PX

    def __init__(
        self,
        bands: int,
        *,
        mtf: float | None = None,
        value_range: float = 4.0,
        shift_net: ShiftNet | None = None,
        hidden: int = 64,
    ) -> None:
        super().__init__(bands, mtf=mtf, shift_net=shift_net)
        self.value_range = value_range
        self.colour_match = ColourMatch(bands, hidden=hidden)

    def forward(self, output: Tensor, truth: Tensor, anchor: Tensor, scale: int, sd: Tensor | None = None) -> Tensor:
        """Return the loss of a batch; see :class:`RegisteredLoss`."""
        consistency = average(see_through(output, scale, mtf=self.mtf) - anchor, power=2)
        matched = self.colour_match(output)
        shift = self.shift_net(matched, truth)
        judged, known = _move_known(matched, shift, truth, self.shift_net.reach_px)
        structure = compare_structure(judged, torch.where(known, truth, torch.nan), value_range=self.value_range)
        loss = _SHARES[0] * consistency + _SHARES[1] * structure
        return loss + self.teach_sd(output, sd, truth, shift, gain=True)


def move(image: Tensor, shift: Tensor, *, reach_px: float) -> Tensor:
    """Return images read at p + shift by Lanczos' kernel of three pixels; edges repeat the last value.

    Args:
        image: (batch, band, y, x).
        shift: (batch, 2), pixels down and right.
        reach_px: Bound of the shifts, which decides how many pixels are looked at.
    """
    radius = math.ceil(reach_px) + LANCZOS
    weights = weigh_lanczos(shift, radius)
    batch, bands = image.shape[:2]
    moved = F.pad(image, (radius,) * 4, mode="replicate").flatten(0, 1)[None]
    for axis, size in ((0, (-1, 1)), (1, (1, -1))):
        kernels = weights[:, axis].repeat_interleave(bands, 0).reshape(batch * bands, 1, *size)
        moved = F.conv2d(moved, kernels, groups=batch * bands)
    return moved.reshape(image.shape)


def weigh_lanczos(shift: Tensor, radius: int) -> Tensor:
    """Return weights (..., pixel) of the pixels -radius .. radius for shifts (...) in pixels; they sum to 1."""
    distance = torch.arange(-radius, radius + 1, dtype=shift.dtype, device=shift.device) - shift[..., None]
    weights = torch.where(distance.abs() < LANCZOS, torch.sinc(distance) * torch.sinc(distance / LANCZOS), 0.0)
    return weights / weights.sum(-1, keepdim=True)


def see_through(image: Tensor, scale: int, *, mtf: float | None = None) -> Tensor:
    """Return the image as the sensor would see it, (batch, band, y / scale, x / scale).

    With a modulation it is weighted by the point spread function of :class:`~mapper.predict.operators.GaussianPsf`,
    that with which maps are held to their source; beyond the edge there is no weight. Without one it is averaged.
    """
    if mtf is None:
        return F.avg_pool2d(image, scale)
    weights = torch.tensor(GaussianPsf(scale, mtf=mtf).weights, dtype=image.dtype, device=image.device)
    pad = (len(weights) - scale) // 2
    planes = torch.cat([image, torch.ones_like(image[:, :1])], 1)
    planes = planes.flatten(0, 1)[:, None]
    planes = F.conv2d(planes, weights[None, None, :, None], stride=(scale, 1), padding=(pad, 0))
    planes = F.conv2d(planes, weights[None, None, None, :], stride=(1, scale), padding=(0, pad))
    seen = planes.reshape(len(image), -1, *planes.shape[2:])
    ratio: Tensor = seen[:, :-1] / seen[:, -1:]
    return ratio


def compare_structure(image: Tensor, reference: Tensor, *, value_range: float) -> Tensor:
    """Return the mean structural dissimilarity, (1 - SSIM) / 2, of the windows without a gap; 0 where there is none.

    SSIM is that of :func:`mapper.evaluation.image_metrics.ssim_map`, band by band.

    Args:
        image: (batch, band, y, x).
        reference: The same, NaN where unknown.
        value_range: Range of the values.
    """
    known = torch.isfinite(reference)
    whole = -F.max_pool2d(-known.to(image.dtype), WINDOW_PX, 1)
    first, second = (torch.where(known, each, 0.0) for each in (image, reference))
    mean_a, mean_b = _blur(first), _blur(second)
    variances = _blur(first * first) - mean_a**2 + _blur(second * second) - mean_b**2
    covariance = _blur(first * second) - mean_a * mean_b
    c1, c2 = (_K1 * value_range) ** 2, (_K2 * value_range) ** 2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_a**2 + mean_b**2 + c1) * (variances + c2))
    return (whole * (1 - similarity) / 2).sum() / whole.sum().clamp(min=1)


def average(values: Tensor, *, power: int = 1) -> Tensor:
    """Return the mean of a power of the values that are finite; 0 where none is."""
    known = torch.isfinite(values)
    return torch.where(known, values, 0.0).pow(power).sum() / known.sum().clamp(min=1)


def average_error(image: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Return the mean squared error of each image and band, (batch, band), their mean difference taken out."""
    return centre_error(image, truth, known).square().sum((2, 3)) / known.sum((2, 3)).clamp(min=1)


def centre_error(image: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Return truth less image, and less the mean of that over each image and band; 0 where unknown."""
    error = torch.where(known, torch.where(known, truth, 0.0) - image, 0.0)
    bias = error.sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp(min=1)
    return torch.where(known, error - bias, 0.0)


def _match_gain(image: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Return the truth of each image and band with the gain that leaves the least squared error; 0 where unknown."""
    centred = centre_error(torch.zeros_like(image), truth, known)
    power = centred.square().sum((2, 3), keepdim=True)
    return centred * (centred * image).sum((2, 3), keepdim=True) / power.clamp(min=_LEAST_ERROR)


def _move_known(image: Tensor, shift: Tensor, truth: Tensor, reach_px: float) -> tuple[Tensor, Tensor]:
    """Return the moved image, and where it can be judged: a truth is known, and no edge was repeated to get there."""
    inner, rim = torch.zeros_like(truth, dtype=torch.bool), math.ceil(reach_px) + LANCZOS
    rim = min(rim, (min(truth.shape[-2:]) - 1) // 2)
    inner[..., rim : truth.shape[-2] - rim, rim : truth.shape[-1] - rim] = True
    return move(image, shift, reach_px=reach_px), inner & torch.isfinite(truth)


def _centre(image: Tensor, known: Tensor) -> Tensor:
    """Return an image less its mean where both are known; 0 elsewhere."""
    seen = torch.where(known, image, 0.0)
    mean = seen.sum((1, 2, 3), keepdim=True) / known.sum((1, 2, 3), keepdim=True).clamp(min=1)
    return torch.where(known, seen - mean, 0.0)


def _blur(values: Tensor) -> Tensor:
    """Return the Gaussian mean of each window that lies within (batch, band, y, x)."""
    distance = torch.arange(WINDOW_PX, dtype=values.dtype, device=values.device) - WINDOW_PX // 2
    taps = torch.exp(-(distance**2) / (2 * SIGMA_PX**2))
    taps = taps / taps.sum()
    planes = values.flatten(0, 1)[:, None]
    planes = F.conv2d(F.conv2d(planes, taps[None, None, :, None]), taps[None, None, None, :])
    return planes.reshape(*values.shape[:2], *planes.shape[2:])


def _layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()
