"""EDSR takes the source alone or a guide beside it, starts from bicubic, and looks no farther than it says."""

import pytest
import torch
from receptive import lively, measured_halo

from mapper.catalog.query import MARGIN_PX
from mapper.models.edsr import EDSR
from mapper.models.interpolation import upsample


@pytest.mark.parametrize(("scale", "blocks"), [(2, 2), (3, 1), (10, 3)])
def test_declared_halo_is_the_measured_radius_as_whole_source_pixels(scale, blocks):
    network = EDSR(1, scale, width=3, blocks=blocks)
    assert network.halo_px == measured_halo(network, 1, scale)


def test_the_published_depth_fits_into_what_a_map_reads():
    with torch.device("meta"):
        assert EDSR(3, 10).halo_px + 10 <= MARGIN_PX


def test_training_starts_near_bicubic_with_a_guide_and_without():
    torch.manual_seed(0)
    source = torch.randn(1, 1, 6, 6)
    for channels in (0, 3):
        target = EDSR(channels, 5, width=8, blocks=2)(torch.randn(1, channels, 30, 30), source)
        torch.testing.assert_close(target, upsample(source, 5, "bicubic"), atol=0.1, rtol=0)


def test_the_guide_and_the_source_are_looked_at():
    torch.manual_seed(0)
    network = lively(EDSR(2, 5, width=8, blocks=2))
    guide, source = torch.randn(1, 2, 20, 20), torch.randn(1, 1, 4, 4)
    details = [
        network(g, s) - upsample(s, 5, "bicubic") for g, s in [(guide, source), (-guide, source), (guide, -source)]
    ]
    assert (details[1] - details[0]).abs().max() > 0.01
    assert (details[2] - details[0]).abs().max() > 0.01


def test_nothing_to_sharpen_is_refused():
    with pytest.raises(ValueError, match="scale of at least 2"):
        EDSR(1, 1)
