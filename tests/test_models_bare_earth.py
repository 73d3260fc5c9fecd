import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mapper.models.bare_earth import BareEarth
from mapper.models.contract import BandNorm, Contract, Input, make_outputs
from mapper.models.interpolation import upsample
from mapper.models.model import GuidedModel
from mapper.models.weights import load_model, save_model
from mapper.predict.predictor import Predictor
from mapper.spec import ModelSpec
from mapper.synthetic.terrain import CLASSES, make_terrain, observe


def make_network(channels=0, scale=5, seed=0):
    torch.manual_seed(seed)
    network = BareEarth(channels, scale, width=8, blocks=2, detail=4).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1 and parameter.std() < 5e-3:
            torch.nn.init.normal_(parameter, std=0.05)
    return network


def run(network, source, guide=None, scale=5, known=None):
    rows, cols = source.shape[-2:]
    guide = torch.zeros(1, 0, rows * scale, cols * scale, dtype=source.dtype) if guide is None else guide
    known = torch.ones_like(source, dtype=torch.bool) if known is None else known
    with torch.inference_mode():
        there = torch.ones_like(guide, dtype=torch.bool)
        return network(guide, torch.where(known, source, 0), known=there, source_known=known)


@settings(max_examples=10)
@given(st.floats(-500, 500), st.integers(0, 3))
def test_a_higher_datum_moves_all_heights_by_as_much(datum, seed):
    torch.manual_seed(seed)
    source = torch.randn(1, 1, 30, 30, dtype=torch.double)
    network = make_network(seed=seed).double()
    one, other = run(network, source), run(network, source + datum)
    torch.testing.assert_close(other[:, :1], one[:, :1] + datum, atol=1e-6, rtol=0)
    torch.testing.assert_close(other[:, 1:], one[:, 1:], atol=1e-6, rtol=0)


def test_an_untrained_network_leaves_a_plain_as_it_is():
    torch.manual_seed(0)
    plain = torch.full((1, 1, 20, 20), -2.5)
    value = run(BareEarth(0, 5, width=8, blocks=1), plain)[:, :1]
    torch.testing.assert_close(value, upsample(plain, 5, "bicubic"), atol=2e-2, rtol=0)


def test_without_a_guide_one_network_serves_every_scale():
    network, source = make_network(), torch.randn(1, 1, 24, 24)
    assert network.any_scale
    assert not make_network(channels=2).any_scale
    coarse = [run(network, source, scale=scale) for scale in (3, 9)]
    # the middle of every source pixel is the same at odd scales
    torch.testing.assert_close(coarse[0][..., 1::3, 1::3], coarse[1][..., 4::9, 4::9], atol=1e-5, rtol=0)


def test_heights_beyond_a_void_tell_nothing_of_what_fills_it():
    network = make_network()
    torch.manual_seed(2)
    source = torch.randn(1, 1, 40, 40) + 40
    known = torch.ones_like(source, dtype=torch.bool)
    known[..., 10:20, 10:20] = False
    seen = run(network, source, known=known)
    changed = source.clone()
    changed[~known] = 4000.0
    torch.testing.assert_close(run(network, changed, known=known), seen)
    beside = seen[:, :1].reshape(1, 1, 40, 5, 40, 5).mean((3, 5))[known]
    assert (beside - source[known]).abs().max() < 15  # no cliff towards the void, which lies 40 units lower as zeros


def test_a_card_without_a_scale_is_written_and_read(tmp_path):
    network = make_network()
    source = Input(role="source", bands=(BandNorm(name="dtm", units="m", sd=10.0),), px=0)
    contract = Contract(
        model="bare-earth",
        inputs=(source,),
        outputs=make_outputs("dtm", "m", gives_sd=True),
        scale=None,
        halo_px=0,
        halo_source_px=network.halo_px // network.scale,
    )
    path = tmp_path / "ground.safetensors"
    save_model(GuidedModel(network, contract), path, options={"width": 8, "blocks": 2, "detail": 4})
    model = load_model(ModelSpec(name="ground", weights=path))
    heights = np.random.default_rng(0).normal(800, 5, (1, 1, 1, 12, 12)).astype(np.float32)
    for scale in (2, 7):
        inputs = {"source": torch.from_numpy(heights), "guide": torch.zeros(1, 1, 0, 12 * scale, 12 * scale)}
        with torch.inference_mode():
            outputs = model(inputs)
        assert outputs["dtm"].shape == (1, 1, 12 * scale, 12 * scale)
        assert outputs["dtm"].mean().item() == pytest.approx(800, abs=20)
        assert (outputs["dtm_sd"] > 0).all()


@pytest.mark.parametrize("name", ["bare-earth-x10", "bare-earth-x10-cover"])
def test_stored_centimetres_do_not_hang_on_how_a_window_was_cut(name):
    model = load_model(ModelSpec(name=name))
    contract = model.contract
    channels, scale = len(contract.guide), 10
    rng = np.random.default_rng(3)
    heights = (1800 + rng.normal(0, 6, (60, 70)).cumsum(0) / 4).astype(np.float32)
    guide = (rng.random((channels, 600, 700)) > 0.7).astype(np.float32)
    predictor, halo = Predictor(model, device="cpu"), contract.halo(scale) // scale

    def predict(rows, cols):
        fine = tuple(slice(part.start * scale, part.stop * scale) for part in (rows, cols))
        inputs = {"source": heights[None, None, rows, cols]}
        inputs |= {"guide": guide[None, :, *fine]} if channels else {}
        found = predictor.predict(inputs, scale=scale).outputs
        return {key: np.round(values / 0.01).astype(np.int64) for key, values in found.items()}

    whole = predict(slice(0, 60), slice(0, 70))
    for rows, cols in ((slice(3, 50), slice(2, 49)), (slice(11, 58), slice(20, 61))):
        part = predict(rows, cols)
        inner = slice(halo * scale, -halo * scale)
        seen = tuple(slice((p.start + halo) * scale, (p.stop - halo) * scale) for p in (rows, cols))
        for key, values in whole.items():
            np.testing.assert_array_equal(part[key][inner, inner], values[seen])


@pytest.mark.parametrize("name", ["bare-earth-x10", "bare-earth-x10-cover"])
def test_what_ships_takes_off_what_stands_on_a_terrain_that_it_never_saw(name):
    terrain = make_terrain(950, size_px=300)
    source = observe(terrain, seed=950, scale=10)
    model = load_model(ModelSpec(name=name))
    inputs = {"source": source[None, None]}
    if model.contract.guide:
        inputs["guide"] = np.stack([terrain.cover == code for code in CLASSES.values()])[None].astype(np.float32)
    found = Predictor(model, device="cpu").predict(inputs, scale=10).outputs
    error = found["dtm"] - terrain.ground
    plain = upsample(torch.from_numpy(source)[None, None], 10, "bicubic")[0, 0].numpy() - terrain.ground
    assert np.sqrt(np.square(error).mean()) < 0.6 * np.sqrt(np.square(plain).mean())
    assert 0.75 < (np.abs(error) < 1.645 * found["dtm_sd"]).mean() < 0.99
