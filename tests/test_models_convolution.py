"""The convolution by products of matrices is that of torch."""

import pytest
import torch

from mapper.models.convolution import Convolution


@pytest.mark.parametrize("shape", [(2, 3, 40, 21), (1, 3, 1, 1), (1, 3, 16, 5)])
def test_it_is_the_convolution_of_torch(shape):
    layer = Convolution(3, 5).double()
    image = torch.randn(shape, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    expected = layer(image).detach()
    with torch.no_grad():
        found = layer(image)
        torch.testing.assert_close(found, expected, atol=1e-13, rtol=0)
        torch.testing.assert_close(layer(image.to(memory_format=torch.channels_last)), found)
        layer.bias = None
        torch.testing.assert_close(layer(image) - layer(0 * image), layer(image))


def test_gradients_and_single_precision_are_those_of_torch():
    layer = Convolution(2, 2)
    plain = torch.nn.Conv2d(2, 2, 3, padding=1)
    plain.load_state_dict(layer.state_dict())
    image = torch.randn(1, 2, 6, 6)
    assert torch.equal(layer(image), plain(image))
    layer.double()(image.double()).sum().backward()
    assert layer.weight.grad.abs().sum() > 0
