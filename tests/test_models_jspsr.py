"""JSPSR has the published size, propagates by the published formula, and no map is made with it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  the name everyone knows
import xarray as xr
from places import make_config, make_place
from region import run_mapper
from run_maps import make_spec

from mapper.catalog.items import freeze_items
from mapper.errors import ContractError, WeightsError
from mapper.models.architectures import build_network
from mapper.models.card import parse_card, read_card
from mapper.models.contract import BandNorm, Contract, make_inputs, make_outputs
from mapper.models.interpolation import upsample
from mapper.models.jspsr import JSPSR, Propagation, read_displaced
from mapper.models.model import GuidedModel
from mapper.models.weights import count_parameters, load_model, save_model
from mapper.plan.context import make_context
from mapper.plan.plan import make_plan
from mapper.predict.predictor import Predictor
from mapper.run.sharpen import open_inputs, sharpen
from mapper.spec import ModelSpec
from mapper.training.trainer import predict_sample, train


@pytest.mark.parametrize(
    ("channels", "options", "parameters"),
    [
        (3, {}, 29_162_435),
        (18, {"image_channels": 3}, 43_869_763),
        (15, {}, 29_172_035),
        (3, {"width": 16}, 7_297_907),
        (3, {"blocks": 3}, 41_703_875),
    ],
)
def test_it_has_the_published_number_of_parameters(channels, options, parameters):
    with torch.device("meta"):
        assert count_parameters(JSPSR(channels, 10, **options)) == parameters


def make_head(seed, width=3):
    """A head in use whose weights, displacements, kernel and bias are all different from where they start."""
    torch.manual_seed(seed)
    head = Propagation(width).double().eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return head


def read_by_hand(image, row, col):
    """Bilinear value at a place between pixels, pixels outside being 0."""
    total = 0.0
    for r in (int(np.floor(row)), int(np.floor(row)) + 1):
        for c in (int(np.floor(col)), int(np.floor(col)) + 1):
            if 0 <= r < image.shape[0] and 0 <= c < image.shape[1]:
                total += image[r, c] * (1 - abs(row - r)) * (1 - abs(col - c))
    return total


def propagate_by_hand(image, logits, offsets, kernel, bias):
    """out(p) = Z(p) + b + sum over k of K_k w_k(p) Z(p + r_k + d_k(p)), pixel by pixel."""
    result = np.empty_like(image)
    for row, col in np.ndindex(*image.shape):
        weights = 1 / (1 + np.exp(-logits[:, row, col]))
        weights -= weights.mean()
        moves = list(offsets[:, row, col].reshape(8, 2))
        moves.insert(4, (0.0, 0.0))
        result[row, col] = image[row, col] + bias
        for k in range(9):
            place = row + k // 3 - 1 + moves[k][0], col + k % 3 - 1 + moves[k][1]
            result[row, col] += kernel[k // 3, k % 3] * weights[k] * read_by_hand(image, *place)
    return result


def test_the_head_follows_the_published_formula():
    head = make_head(0)
    seen = {}
    for name in ("weights", "offsets"):
        getattr(head, name).register_forward_hook(lambda _layer, _in, out, name=name: seen.update({name: out}))
    base = torch.rand(2, 1, 7, 9, dtype=torch.double) + 0.5
    with torch.no_grad():
        value = head(base, torch.randn(2, 3, 7, 9, dtype=torch.double))
    assert seen["offsets"].abs().max() > 9  # far outside, too
    for at in range(2):
        expected = propagate_by_hand(
            base[at, 0].numpy(), seen["weights"][at].numpy(), seen["offsets"][at].numpy(),
            head.kernel.detach().numpy(), head.bias.item(),
        )  # fmt: skip
        np.testing.assert_allclose(value[at, 0].numpy(), expected, atol=1e-9, rtol=0)


def test_whole_displacements_move_the_neighbours_and_outside_is_nought():
    values = torch.randn(1, 1, 6, 8, dtype=torch.double)
    offsets = torch.zeros(1, 9, 2, 6, 8, dtype=torch.double)
    offsets[:, :, 0], offsets[:, :, 1] = 2, -3
    padded = F.pad(values, (4, 4, 4, 4))
    read = read_displaced(values, offsets)
    for k in range(9):
        top, left = 4 + k // 3 - 1 + 2, 4 + k % 3 - 1 - 3
        torch.testing.assert_close(read[0, k], padded[0, 0, top : top + 6, left : left + 8], atol=1e-12, rtol=0)


def test_a_flat_surface_is_only_shifted_while_the_kernel_is_constant():
    head = make_head(1)
    with torch.no_grad():
        head.kernel.fill_(1.0)
        head.offsets.weight.zero_()
        head.offsets.bias.zero_()
        base = torch.full((1, 1, 8, 8), 0.7, dtype=torch.double)
        moved = head(base, torch.randn(1, 3, 8, 8, dtype=torch.double)) - base - head.bias
    assert moved[..., 1:-1, 1:-1].abs().max() < 1e-12
    assert moved.abs().max() > 1e-3  # beyond the edge the operator reads 0


def small(channels=3, scale=4, **options):
    torch.manual_seed(0)
    return JSPSR(channels, scale, width=4, blocks=1, **options).eval()


@torch.no_grad()
def test_heights_are_counted_from_the_lowest_of_the_patch_in_metres():
    network = small()
    guide, source = torch.randn(1, 3, 32, 32), torch.randn(1, 1, 8, 8)
    value = network(guide, source)
    torch.testing.assert_close(network(guide, source + 40) - 40, value, atol=1e-4, rtol=0)
    seen = []
    network.propagation.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    network(guide, source)
    mean, unit = network.source_norm
    assert (mean, unit) == (0, pytest.approx(553, abs=0.5))
    metres = unit * upsample(source, 4, "bicubic").double()
    expected = torch.log(metres - metres.min() + 80) / np.log(1009)  # published for 8 m
    torch.testing.assert_close(seen[0].double(), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_where_nothing_is_propagated_the_scale_of_logarithms_is_left_as_it_was_entered():
    network = small(relief=[-80, 933])
    torch.nn.init.zeros_(network.propagation.kernel)
    source = torch.rand(1, 1, 8, 8)
    value = network(torch.randn(1, 3, 32, 32), source)
    torch.testing.assert_close(value, upsample(source, 4, "bicubic"), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("rim", [3, 8])
def test_a_rim_is_what_a_patch_is_continued_by(rim):
    network = small(scale=3)
    guide, source = torch.randn(1, 3, 24, 18), torch.randn(1, 1, 8, 6)
    network.rim_px = rim
    value = network(guide, source)
    rows, cols = (-(edge + 2 * rim) % 8 + rim for edge in (24, 18))
    network.scale, network.rim_px = 1, 0
    pad = (rim, cols, rim, rows)
    whole = network(*(F.pad(i, pad, mode="replicate") for i in (guide, upsample(source, 3, "bicubic"))))
    torch.testing.assert_close(value, whole[..., rim : rim + 24, rim : rim + 18], atol=1e-5, rtol=0)


@torch.no_grad()
def test_shapes_that_are_no_multiple_of_8_are_continued_by_their_edge():
    network = small(scale=3, image_channels=1)
    guide, source = torch.randn(2, 3, 21, 33), torch.randn(2, 1, 7, 11)
    value = network(guide, source)
    assert value.shape == (2, 1, 21, 33)
    pad = (0, 7, 0, 3)
    network.scale = 1
    whole = network(*(F.pad(i, pad, mode="replicate") for i in (guide, upsample(source, 3, "bicubic"))))
    torch.testing.assert_close(value, whole[..., :21, :33], atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_auxiliary_layer_has_an_encoder_of_its_own():
    network = small(5, image_channels=3)
    assert [stem[0].in_channels for stem in network.stems] == [1, 3, 2]
    guide, source = torch.randn(1, 5, 16, 16), torch.randn(1, 1, 4, 4)
    before = network.stems[1](guide[:, :3])
    value = network(guide, source)
    guide[:, 3:] += 1
    assert torch.equal(network.stems[1](guide[:, :3]), before)
    assert not torch.equal(network(guide, source), value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_channels": 0}, "image_channels is 0, expected 1 to 3"),
        ({"image_channels": 4}, "image_channels is 4, expected 1 to 3"),
        ({"relief": [0, 929]}, "metres below 0 and above it"),
        ({"rim_px": -1}, "rim_px is -1, expected 0 or more"),
    ],
)
def test_options_that_no_network_has_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        JSPSR(3, 10, **options)


def test_a_training_that_cannot_be_says_so_in_one_line():
    with pytest.raises(WeightsError, match=r"architecture jspsr does not take .*'width': 4.*: needs guide channels"):
        build_network("jspsr", guide_channels=0, scale=10, options={"width": 4})


def test_it_is_trained_and_scored_on_whole_sites(tmp_path):
    config = make_config(
        tmp_path, steps=6, loss="l1-mse-gradient", model={"architecture": "jspsr", "options": {"width": 4, "blocks": 1}}
    )
    samples = [make_place(seed) for seed in (0, 1)]
    card = train(config, samples=samples[:1], validation=samples[1:])
    assert not card.contract.tile_exact
    assert np.isfinite(card.training["scores"]["model"]["rmse"])
    model = load_model(ModelSpec(name="tiny", weights=tmp_path / "tiny.safetensors"))
    window = samples[1].guide, samples[1].source
    small, large = (Predictor(model, patch_px=patch_px).sharpen(*window).mean for patch_px in (20, 500))
    assert np.array_equal(small, large)
    assert np.array_equal(small, predict_sample(model, samples[1]).mean)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    network = build_network("jspsr", guide_channels=2, scale=10, options={"width": 4, "blocks": 1})
    contract = Contract(
        model="jspsr",
        inputs=make_inputs(
            tuple(BandNorm(name=name, units="1", sd=0.1) for name in ("summer_B04", "summer_B08")),
            BandNorm(name="agb", units="Mg ha-1", sd=60.0),
        ),
        outputs=make_outputs("agb", "Mg ha-1", gives_sd=False),
        scale=10,
        halo_px=network.halo_px,
        tile_exact=network.tile_exact,
    )
    path = tmp_path_factory.mktemp("weights") / "published.safetensors"
    save_model(GuidedModel(network, contract), path, options={"width": 4, "blocks": 1})
    return path


def test_no_map_is_made_with_it(weights, tmp_path):
    spec = make_spec(tmp_path, model={"name": "published", "weights": str(weights)})
    reason = r"^model published \(jspsr\) looks at a whole patch at once, .* no map is made with it[^\n]*$"
    items, bicubic = freeze_items([]), make_spec(tmp_path)
    for make in (
        lambda: make_context(spec),
        lambda: make_plan(spec, items),
        lambda: open_inputs(spec, items=items),
        lambda: sharpen(None, xr.Dataset(), spec.model, spec=bicubic),
    ):
        with pytest.raises(ContractError, match=reason):
            make()
    path = tmp_path / "map.yaml"
    path.write_text(spec.to_yaml())
    for command in ("plan", "run"):
        code, said = run_mapper(command, str(path))
        assert code != 0
        assert "no map is made with it" in " ".join(said.split())
        assert "Traceback" not in said
    assert not (tmp_path / "map.icechunk").exists()


def test_its_card_says_so_and_comes_back(weights):
    card = read_card(ModelSpec(name="published", weights=weights))
    assert card.form["tile_exact"] is False
    assert parse_card(card.to_json()) == card
    assert load_model(ModelSpec(name="published", weights=weights)).contract.tile_exact is False
    content = card.to_json().replace('"tile_exact": false', '"tile_exact": 0')
    with pytest.raises(WeightsError, match="tile_exact is 0, expected true or false"):
        parse_card(content)


def test_a_card_that_hides_it_does_not_belong_to_its_weights(weights, tmp_path):
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"published{suffix}").write_bytes(weights.with_suffix(suffix).read_bytes())
    card = read_card(ModelSpec(name="published", weights=weights))
    hidden = replace(card, contract=replace(card.contract, tile_exact=True))
    (tmp_path / "published.json").write_text(hidden.to_json())
    with pytest.raises(WeightsError, match="was changed"):
        read_card(ModelSpec(name="published", weights=tmp_path / "published.safetensors"))


def test_models_lists_what_makes_no_maps():
    code, said = run_mapper("models")
    assert code == 0
    assert "no: sees a whole patch" in next(line for line in said.splitlines() if "JSPSR" in line)
