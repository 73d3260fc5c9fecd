"""An ensemble is the mixture of its members."""

import pytest
import torch

from mapper.errors import WeightsError
from mapper.models.architectures import build_network
from mapper.models.ensemble import Ensemble, mix
from mapper.models.msg import MSG


def test_mean_and_deviation_are_those_of_the_mixture():
    torch.manual_seed(0)
    means, sds = torch.randn(3, 1, 1, 2, 2) * 5, torch.rand(3, 1, 1, 2, 2) + 0.5
    mixed = mix(torch.cat([means, sds], 2))
    draws = torch.normal(means.expand(-1, 40_000, -1, -1, -1), sds.expand(-1, 40_000, -1, -1, -1)).flatten(0, 1)
    torch.testing.assert_close(mixed[0, 0], draws.mean(0)[0], atol=0.1, rtol=0)
    torch.testing.assert_close(mixed[0, 1], draws.std(0)[0], atol=0.1, rtol=0)


def test_members_without_a_deviation_tell_by_what_they_do_not_agree_on():
    torch.manual_seed(0)
    network = build_network("msg", guide_channels=2, scale=3, options={"width": 2, "members": 3}).eval()
    guide, source = torch.rand(1, 2, 9, 12), torch.rand(1, 1, 3, 4)
    singles = torch.stack([member(guide, source) for member in network.members])
    output = network(guide, source)
    assert network.gives_sd
    torch.testing.assert_close(output[:, :1], singles.mean(0))
    torch.testing.assert_close(output[:, 1:], singles.std(0, unbiased=False))


def test_it_takes_what_its_members_take():
    options = {"width": 4, "embed": 4, "heads": 2, "dates": 2, "members": 2}
    network = build_network("mtg", guide_channels=4, scale=5, options=options)
    assert isinstance(network, Ensemble)
    assert network.sees_gaps
    assert network.sees_source_sd
    assert (network.halo_px, network.align_px) == (network.members[0].halo_px, 1)


def test_one_member_is_no_ensemble():
    with pytest.raises(ValueError, match="at least 2"):
        Ensemble([MSG(1, 2, width=2)])
    with pytest.raises(WeightsError, match="does not take"):
        build_network("msg", guide_channels=1, scale=2, options={"member": 3})
