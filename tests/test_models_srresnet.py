"""SRResNet has the published size and looks at the anchor alone; its statistics are constants once it has learnt."""

import pytest
import torch
from receptive import lively
from test_models_stacks import build, make_stack, run

from mapper.models.architectures import build_network
from mapper.models.srresnet import SRResNet


def test_it_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = SRResNet(0, 2, bands=3)
    count = lambda part: sum(parameter.numel() for parameter in part.parameters())  # noqa: E731
    parts = [count(network.head), count(network.blocks), count(network.enlarge), count(network.last)]
    assert parts == [15_617, 1_185_808 + 37_056, 147_713, 15_555]
    assert count(network) == 1_401_749


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_enlarges_by_its_scale(scale):
    network = build("srresnet", scale=scale)
    stack = make_stack(rows=4, cols=5, scale=scale)
    assert run(network, stack).shape == (1, 2, 4 * scale, 5 * scale)
    assert len([layer for layer in network.modules() if isinstance(layer, torch.nn.PixelShuffle)]) == 1 + (scale == 4)


def test_only_the_anchor_is_looked_at():
    network, stack = build("srresnet"), make_stack()
    expected = run(network, stack)
    others = {key: torch.randn_like(stack[key]) for key in ("source", "clear", "shift")}
    assert torch.equal(run(network, stack | others), expected)
    assert (run(network, stack | {"anchor": -stack["anchor"]}) - expected).abs().max() > 0.01


def test_a_batch_has_no_part_in_what_a_map_shows():
    network, one, other = build("srresnet"), make_stack(seed=0), make_stack(seed=1)
    both = {key: torch.cat([one[key], 9 * other[key]]) for key in one}
    torch.testing.assert_close(run(network, both)[:1], run(network, one), atol=1e-12, rtol=0)
    assert (run(network.train(), both)[:1] - run(network, one)).abs().max() > 0.01


def test_of_bands_it_serves_any_unit_and_its_halo_is_what_a_pixel_hangs_on():
    network = build_network("srresnet-bands", guide_channels=0, scale=4, options={"width": 4, "blocks": 1})
    network = lively(network).double().eval()
    edge = network.halo_px // 4 + 3
    stack = make_stack(dates=1, bands=1, rows=edge, cols=edge, scale=4)
    expected = run(network, stack)
    shifted = run(network, stack | {"anchor": 100 + 50 * stack["anchor"]})
    torch.testing.assert_close(shifted, 100 + 50 * expected, atol=2, rtol=0)  # the level is a part of the contrast
    spoilt = stack["anchor"].clone()
    spoilt[..., :2, :] += 5
    change = (run(network, stack | {"anchor": spoilt}) - expected).abs().amax((0, 1, 3))
    assert (change[: 2 * 4] > 0).all()
    assert not change[2 * 4 + network.halo_px :].any()


def test_another_scale_is_refused():
    with pytest.raises(ValueError, match=r"a scale of 2 or 3 or 4, got 0 and 5"):
        SRResNet(0, 5)
