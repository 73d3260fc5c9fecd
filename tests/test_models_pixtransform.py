"""PixTransform: the published size, fitted to one scene at a time, and kept out of maps."""

import numpy as np
import pytest
import torch
from contracts import sharpen

from mapper.errors import WeightsError
from mapper.models import pixtransform
from mapper.models.card import PER_SCENE, read_card
from mapper.models.pixtransform import PixelTransform, make_pixtransform
from mapper.models.weights import count_parameters
from mapper.predict.predictor import Predictor
from mapper.spec import ModelSpec

SCALE = 4


@pytest.fixture(scope="module", autouse=True)
def narrow():
    """A narrower network: what is tested does not hang on its size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pixtransform, "_WIDE", 64)
        yield


@pytest.fixture(scope="module")
def scene():
    """Truth that is a function of the guide, source its block mean; 24 x 40 pixels."""
    random = np.random.default_rng(0)
    guide = random.random((2, 24, 40)).astype(np.float32)
    guide[0] = guide[0].round()
    truth = (100 + 60 * guide[0]).astype(np.float32)
    source = truth.reshape(6, SCALE, 10, SCALE).mean((1, 3))
    return guide, source, truth


def make(**options):
    return make_pixtransform(bands=[("a", "1"), ("b", "dB")], units="Mg ha-1", scale=SCALE, **options)


def predict(model, guide, source):
    return Predictor(model, device="cpu", patch_px=1000).sharpen(guide, source).mean


def test_it_has_the_published_number_of_parameters(monkeypatch):
    monkeypatch.setattr(pixtransform, "_WIDE", 2048)
    assert count_parameters(PixelTransform(3)) == 200_993
    bands = [(name, "1") for name in "rgb"]
    assert make_pixtransform(bands=bands, units="m").parameters == 200_993


def test_it_learns_what_the_guide_tells_from_block_means_alone(scene):
    guide, source, truth = scene
    value = predict(make(iterations=400), guide, source)
    nearest = source.repeat(SCALE, 0).repeat(SCALE, 1)
    assert np.sqrt(np.mean((value - truth) ** 2)) < 0.5 * np.sqrt(np.mean((nearest - truth) ** 2))
    means = value.reshape(6, SCALE, 10, SCALE).mean((1, 3))
    assert np.abs(means - source).mean() < 0.5 * source.std()


def test_same_seed_same_output_and_the_random_state_of_others_is_left_alone(scene):
    guide, source, _ = scene
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first = predict(make(iterations=5), guide, source)
    assert torch.equal(torch.rand(1), expected)
    np.testing.assert_array_equal(predict(make(iterations=5), guide, source), first)
    assert not np.array_equal(predict(make(iterations=5, seed=1), guide, source), first)


def test_scenes_of_a_batch_do_not_see_each_other(scene):
    guide, source = (torch.from_numpy(array) for array in scene[:2])
    model = make(iterations=5)
    alone = sharpen(model, guide[None], source[None, None])
    both = sharpen(model, torch.stack([guide, guide * 2]), torch.stack([source, source + 5])[:, None])
    torch.testing.assert_close(both[:1], alone)


def test_gaps_are_borne(scene):
    guide, source, _ = scene
    guide, source = guide.copy(), source.copy()
    guide[0, :5, :7], guide[1], source[0, :3] = np.nan, np.nan, np.nan
    assert np.isfinite(predict(make(iterations=5), guide, source)).all()
    with pytest.raises(ValueError, match="without any source value"):
        predict(make(iterations=5), guide, np.full_like(source, np.nan))


def test_a_constant_source_is_given_back(scene):
    guide, source, _ = scene
    value = predict(make(iterations=50), guide, np.full_like(source, 70.0))
    assert abs(float(value.mean()) - 70) < 1


def test_what_decides_the_output_is_in_the_digest():
    digests = {make().digest, make(seed=1).digest, make(iterations=7).digest}
    assert len(digests) == 3
    assert make().digest == make().digest


def test_it_needs_a_guide_and_an_iteration():
    with pytest.raises(ValueError, match="guide channel"):
        make_pixtransform(bands=[], units="m")
    with pytest.raises(ValueError, match="iterations"):
        make(iterations=0)


def test_no_map_is_made_with_it():
    for name in PER_SCENE:
        with pytest.raises(WeightsError, match="tiles would not meet"):
            read_card(ModelSpec(name=name))
