"""DKN has the published size, and one dilated run gives what 16 strided runs on shifted images give."""

import pytest
import torch
from receptive import measured_halo
from torch import nn

from mapper.models.dkn import DKN
from mapper.models.weights import count_parameters


@pytest.mark.parametrize(("channels", "parameters"), [(3, 1_158_070), (1, 1_154_934)])
def test_canonical_configuration_has_the_published_size(channels, parameters):
    assert count_parameters(DKN(channels, 8)) == parameters


@pytest.mark.parametrize("scale", [2, 3, 8, 10])
def test_declared_halo_is_the_measured_radius_as_whole_source_pixels(scale):
    network = DKN(1, scale, width=2)
    assert network.halo_px == measured_halo(network, 1, scale)


def strided(layers):
    """The published network: strides of 2 where kernels have 2 pixels, and no dilation."""
    copies = []
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            stride = 2 if layer.kernel_size == (2, 2) else 1
            copy = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, stride=stride).double()
            copy.load_state_dict(layer.state_dict())
            copies.append(copy)
        else:
            copies.append(layer)
    return nn.Sequential(*copies)


def test_dilated_layers_equal_strided_layers_on_shifted_images():
    torch.manual_seed(0)
    layers = DKN(2, 8, width=2).guide_branch.layers.double().eval()
    image = torch.randn(1, 2, 70, 66, dtype=torch.double)
    once = layers(image)
    stitched = torch.zeros_like(once)
    for row in range(4):
        for col in range(4):
            part = strided(layers)(image[:, :, row:, col:])
            place = stitched[:, :, row::4, col::4]
            place.copy_(part[:, :, : place.shape[2], : place.shape[3]])
    torch.testing.assert_close(stitched, once)


def test_training_starts_at_bicubic():
    torch.manual_seed(0)
    source = torch.randn(1, 1, 8, 8)
    expected = torch.nn.functional.interpolate(source, scale_factor=10, mode="bicubic")
    value = DKN(3, 10, width=4).eval()(torch.randn(1, 3, 80, 80), source)
    torch.testing.assert_close(value, expected, atol=0.01, rtol=0)
