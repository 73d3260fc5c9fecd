"""What holds for architectures of one coarse image: no seams, or it says so; the halo declared; weights come back."""

import inspect
import io
import json
import math
import pickle
import random

import numpy as np
import pytest
import torch
from contracts import make_contract, sharpen

from mapper.catalog.query import MARGIN_PX
from mapper.errors import WeightsError
from mapper.models.architectures import ARCHITECTURES, build_network
from mapper.models.contract import FILL_STEPS, BandNorm
from mapper.models.model import GuidedModel
from mapper.models.weights import load_model, save_model
from mapper.predict.predictor import Predictor
from mapper.spec import ModelSpec

CHANNELS = 2
SCALES = (10, 8, 3)
SMALL = {"width": 4, "dates": CHANNELS, "embed": 4, "heads": 2, "mix": 1, "blocks": 1}

GUIDED = sorted(name for name, network in ARCHITECTURES.items() if not getattr(network, "stacked", False))

every = pytest.mark.parametrize("name", GUIDED)
tile_exact = pytest.mark.parametrize("name", [name for name in GUIDED if ARCHITECTURES[name].tile_exact])
by_patch = pytest.mark.parametrize("name", [name for name in GUIDED if not ARCHITECTURES[name].tile_exact])
every_scale = pytest.mark.parametrize("scale", SCALES)


def options_of(name):
    """Small where an architecture can be."""
    return {key: value for key, value in SMALL.items() if key in inspect.signature(ARCHITECTURES[name]).parameters}


def enliven(network):
    """Move every number from where it starts, so that the network's own part is not drowned by interpolation."""
    for parameter in network.parameters():
        small = parameter.std() < 5e-3 if parameter.numel() > 1 else not parameter.any()
        if small and parameter.ndim:
            torch.nn.init.normal_(parameter, std=0.3)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_var, 0.2, 0.5)


def make_model(name, scale):
    torch.manual_seed(0)
    network = build_network(name, guide_channels=CHANNELS, scale=scale, options=options_of(name)).eval()
    enliven(network)
    contract = make_contract(
        model=name,
        guide=tuple(BandNorm(name=f"b{k}", units="1", mean=0.5, sd=0.3) for k in range(CHANNELS)),
        source_units="Mg ha-1",
        source_mean=120.5,
        source_sd=80.0,
        target="agb",
        target_units="Mg ha-1",
        scale=scale,
        halo_px=network.halo_px,
        align_px=network.align_px,
        sees_source_sd=network.sees_source_sd,
        gives_sd=network.gives_sd,
        tile_exact=network.tile_exact,
    )
    return GuidedModel(network, contract).eval()


def make_window(rows, cols, scale, seed=0):
    """Guide, source and its standard deviation as arrays, with gaps."""
    rng = np.random.default_rng(seed)
    guide = rng.random((CHANNELS, rows, cols), np.float32)
    source = rng.uniform(0, 400, (rows // scale, cols // scale)).astype(np.float32)
    guide[1, rows // 2 : rows // 2 + 9, cols // 3 : cols // 2] = np.nan
    source[source.shape[0] // 2, source.shape[1] // 2 :] = np.nan
    return guide, source, source / 5 + 10


def run(model, guide, source, source_sd):
    with torch.inference_mode():
        return sharpen(model, *(torch.from_numpy(a.copy())[None] for a in (guide, source[None], source_sd[None])))[
            0
        ].numpy()


def aligned_halo(contract):
    step = contract.step(contract.scale)
    return -(-contract.halo(contract.scale) // step) * step


@tile_exact
@every_scale
def test_windows_cut_with_their_halo_give_the_same_pixels(name, scale):
    model = make_model(name, scale)
    halo, step = aligned_halo(model.contract), model.contract.step(scale)
    core = -(-30 // step) * step
    guide, source, source_sd = make_window(2 * halo + 2 * core + step, 2 * halo + core + step, scale)
    whole = run(model, guide, source, source_sd)
    assert whole[0].std() > 1
    for top in (0, step, core + step):
        rows, cols = slice(top, top + 2 * halo + core), slice(step, step + 2 * halo + core)
        coarse = tuple(slice(s.start // scale, s.stop // scale) for s in (rows, cols))
        part = run(model, guide[:, rows, cols], source[coarse], source_sd[coarse])
        inside = slice(halo, halo + core)
        expected = whole[:, rows, cols][:, inside, inside]
        np.testing.assert_allclose(part[:, inside, inside], expected, atol=2e-4, rtol=0)  # a few last bits of 500


@by_patch
def test_what_is_not_tile_exact_comes_out_otherwise_in_another_window(name):
    model = make_model(name, 8)
    guide, source, source_sd = make_window(96, 96, 8)
    source += np.linspace(300, 0, 12, dtype=np.float32)  # a slope, as a landscape has
    outputs = run(model, guide, source, source_sd)
    part = run(model, guide[:, :, :48], source[:, :6], source_sd[:, :6])
    assert np.abs(part - outputs[..., :48]).mean() > 1


@every
@every_scale
def test_patches_leave_no_trace(name, scale):
    model = make_model(name, scale)
    halo, step = aligned_halo(model.contract), model.contract.step(scale)
    window = make_window(2 * halo + 2 * step + 2 * step, 2 * halo + step, scale, seed=1)
    whole = Predictor(model, patch_px=10_000).sharpen(*window)
    parts = Predictor(model, patch_px=2 * halo + 2 * step).sharpen(*window)
    np.testing.assert_allclose(parts.mean, whole.mean, atol=1e-4, rtol=0)
    assert (whole.sd is not None) == model.network.gives_sd
    if whole.sd is not None:
        np.testing.assert_allclose(parts.sd, whole.sd, atol=1e-4, rtol=0)


@every
def test_shorter_numbers_give_nearly_the_same(name):
    window = make_window(48, 48, 8, seed=2)
    value, expected = (Predictor(make_model(name, 8), precision=p).sharpen(*window).mean for p in ("bf16", "fp32"))
    assert value.dtype == np.float32
    assert np.sqrt(np.mean((value - expected) ** 2)) < 0.1 * expected.std()


def make_tensors(network, cells, scale, seed):
    """Normalised input in double precision, with gradients, and what else the network takes."""
    torch.manual_seed(seed)
    guide = torch.randn(1, CHANNELS, cells * scale, cells * scale, dtype=torch.double, requires_grad=True)
    source = torch.randn(1, 1, cells, cells, dtype=torch.double, requires_grad=True)
    extras = {"known": torch.ones_like(guide, dtype=torch.bool)} if network.sees_gaps else {}
    if network.sees_source_sd:
        extras["source_sd"] = torch.rand_like(source).requires_grad_()
    if network.sees_source_gaps:
        extras["source_known"] = torch.ones_like(source, dtype=torch.bool)
    return guide, source, extras


def measure_radius(network, scale, seed, pixel):
    """Farthest target pixel that one pixel depends on, by gradient, the filling of gaps added."""
    halo, whole = network.halo_px // scale, math.lcm(scale, network.align_px) // scale
    cells = -(-(2 * halo + 3 + network.align_px) // whole) * whole
    guide, source, extras = make_tensors(network, cells, scale, seed)
    row, col = ((halo + 1) * scale + p for p in pixel)
    network(guide, source, **extras)[0, :, row, col].sum().backward()
    place = torch.tensor([row, col])
    radius = (guide.grad[0].abs().sum(0).nonzero() - place).abs().max().item()
    for values in [source, *(v for v in extras.values() if v.requires_grad)]:
        seen = [] if values.grad is None else values.grad[0, 0].nonzero()
        if len(seen):
            radius = max(radius, ((seen - place // scale).abs().max().item() + FILL_STEPS) * scale)
    return radius


@tile_exact
@every_scale
def test_no_pixel_sees_farther_than_the_halo(name, scale):
    network = build_network(name, guide_channels=CHANNELS, scale=scale, options=options_of(name)).eval()
    torch.manual_seed(1)
    enliven(network)
    choose, step = random.Random(scale), network.align_px + scale
    places = [(0, scale - 1), *((choose.randrange(step), choose.randrange(step)) for _ in range(2))]
    radius = max(measure_radius(network.double(), scale, seed, place) for seed, place in enumerate(places))
    assert radius <= network.halo_px
    assert network.halo_px % scale == 0


@tile_exact
def test_the_halo_fits_what_a_map_reads_around_itself(name):
    contract = make_model(name, 10).contract
    assert contract.halo(10) + 10 <= MARGIN_PX


@every
def test_gradients_reach_every_parameter(name):
    scale = 8
    model = make_model(name, scale)
    model.network.zero_grad()
    window = make_window(48, 48, scale)
    output = sharpen(model, *(torch.from_numpy(a)[None] for a in (window[0], window[1][None], window[2][None])))
    (output - 100).square().mean().backward()
    silent = [
        key
        for key, p in model.network.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]
    model.network.zero_grad()
    assert not silent


@every
def test_a_missing_guide_and_a_missing_source_give_finite_values(name):
    model = make_model(name, 8)
    window = tuple(np.full_like(a, np.nan) for a in make_window(32, 32, 8))
    assert np.isfinite(run(model, *window)).all()


@every
@pytest.mark.parametrize("scale", [2, 5, 12])
def test_any_scale(name, scale):
    network = build_network(name, guide_channels=CHANNELS, scale=scale, options=options_of(name)).eval()
    cells = 8
    guide, source, extras = make_tensors(network.double(), cells, scale, 0)
    assert network(guide, source, **extras).shape == (1, 1 + network.gives_sd, cells * scale, cells * scale)


@every
def test_weights_come_back_as_they_were(name, saved, tmp_path):
    model, _ = saved(name)
    loaded = load_model(ModelSpec(name="small", weights=tmp_path / "small.safetensors"))
    state, expected = loaded.network.state_dict(), model.network.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in state)
    assert loaded.contract == model.contract
    window = make_window(80, 80, 10)
    assert np.array_equal(run(loaded, *window), run(model, *window))


@every
def test_a_changed_byte_is_refused(name, saved):
    _, path = saved(name)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    refused(path, "were changed")


@every
def test_a_changed_card_is_refused(name, saved):
    _, path = saved(name)
    card = path.with_suffix(".json")
    content = card.read_text()
    card.write_text(content.replace("120.5", "121.5"))
    refused(path, "was changed")
    changed = json.loads(content)
    changed["properties"]["mlm:hyperparameters"]["width"] = 8
    card.write_text(json.dumps(changed))
    refused(path, "was changed")


@every
def test_pickles_are_refused(name, saved):
    model, path = saved(name)
    content = io.BytesIO()
    torch.save(model.network.state_dict(), content)
    for pickled in (content.getvalue(), pickle.dumps({"weights": [1.0]})):
        path.write_bytes(pickled)
        refused(path, "were changed")


def refused(path, message):
    with pytest.raises(WeightsError, match=message):
        load_model(ModelSpec(name="small", weights=path))


@pytest.fixture
def saved(tmp_path):
    def save(name):
        model, path = make_model(name, 10), tmp_path / "small.safetensors"
        save_model(model, path, options=options_of(name))
        return model, path

    return save
