"""MTG pools dates with gaps, gives back what block means lack, and begins near bicubic."""

import pytest
import torch

from mapper.models.interpolation import upsample
from mapper.models.mtg import MTG, DatePool
from mapper.models.weights import count_parameters


def make_inputs(channels, scale, *, cells=(4, 5), seed=0):
    torch.manual_seed(seed)
    rows, cols = cells[0] * scale, cells[1] * scale
    known = torch.rand(2, channels, rows, cols) > 0.3
    guide = torch.randn(2, channels, rows, cols) * known
    return guide, torch.randn(2, 1, *cells), known, torch.rand(2, 1, *cells)


def run(network, guide, source, known, source_sd):
    with torch.no_grad():
        return network.eval()(guide, source, known=known, source_sd=source_sd)


def test_the_shipped_configuration_is_small():
    assert count_parameters(MTG(45, 10, dates=5, width=16, embed=16)) == 89_669


@pytest.mark.parametrize("scale", [2, 3, 8, 10])
@pytest.mark.parametrize("dates", [1, 3])
def test_mean_and_a_positive_deviation_come_out(scale, dates):
    output = run(MTG(6, scale, dates=dates, width=4, embed=8), *make_inputs(6, scale))
    assert output.shape == (2, 2, 4 * scale, 5 * scale)
    assert (output[:, 1] > 0).all()


def test_a_missing_date_has_no_weight_whatever_stands_in_it():
    torch.manual_seed(1)
    pool = DatePool(3, 4, embed=8, heads=2).eval()
    guide, known = torch.randn(1, 12, 6, 6), torch.ones(1, 12, 6, 6, dtype=torch.bool)
    known[:, 3:6] = False
    other = guide.clone()
    other[:, 3:6] += 10
    torch.testing.assert_close(pool(guide, known), pool(other, known))
    known[:, 3] = True
    assert not torch.allclose(pool(guide, known), pool(other, known))


def test_without_any_date_nothing_is_pooled():
    pool = DatePool(3, 2, embed=8, heads=2)
    nothing = torch.zeros(1, 6, 4, 4, dtype=torch.bool)
    assert (pool(torch.randn(1, 6, 4, 4), nothing) == 0).all()


def test_what_block_means_lack_is_given_back():
    """With a share of 1 and a silent guide, the output is the bicubic interpolation of the source."""
    network = MTG(4, 5, dates=2, width=4, embed=8)
    for layer in (network.pixel, network.last):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    torch.nn.init.constant_(network.share.bias, 40.0)
    guide, source, known, sd = make_inputs(4, 5)
    mean = run(network, guide, source, known, sd)[:, :1]
    torch.testing.assert_close(mean, upsample(source, 5, "bicubic"))


def test_without_the_path_in_space_pixels_are_judged_alone():
    network = MTG(4, 5, dates=2, width=4, embed=8, pixel_width=8, path_dropout=1.0).train()
    torch.nn.init.constant_(network.share.weight, 0.0)
    torch.nn.init.constant_(network.share.bias, -40.0)  # nor is anything given back
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout) and module is not network.path:
            module.eval()
    guide, source, known, sd = make_inputs(4, 5)
    mean = network(guide, source, known=known, source_sd=sd)[:, :1]
    changed = guide.clone()
    changed[..., 3, 3] += 5
    moved = network(changed, source, known=known, source_sd=sd)[:, :1] != mean
    assert moved[..., 3, 3].all()
    assert moved.sum() == len(guide)


@pytest.mark.parametrize("options", [{"dates": 2}, {"embed": 10}, {"dates": 0}])
def test_options_that_do_not_fit_are_refused(options):
    with pytest.raises(ValueError, match="must be at least 2"):
        MTG(5, 10, **options)
