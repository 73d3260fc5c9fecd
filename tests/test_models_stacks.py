"""What holds for every network of stacks: no seams, no trace of what is missing, and the halo it declares."""

import inspect
import math

import pytest
import torch
from receptive import lively

from mapper.models.architectures import ARCHITECTURES, build_network
from mapper.models.contract import FILL_STEPS
from mapper.models.interpolation import upsample

STACKED = sorted(
    name
    for name, network in ARCHITECTURES.items()
    if getattr(network, "stacked", False) and not getattr(network, "any_bands", False)
)
SMALL = {"width": 4, "blocks": 1, "most_dates": 4, "dates": 2}

every = pytest.mark.parametrize("name", STACKED)
tile_exact = pytest.mark.parametrize("name", [name for name in STACKED if ARCHITECTURES[name].tile_exact])
order_free = pytest.mark.parametrize("name", [name for name in STACKED if name != "highres-net"])


def build(name, *, scale=2, bands=2, seed=0, **options):
    """A small network whose own part is not drowned by interpolation, its batches' statistics fixed."""
    torch.manual_seed(seed)
    small = {k: v for k, v in SMALL.items() if k in inspect.signature(ARCHITECTURES[name]).parameters}
    network = build_network(name, guide_channels=0, scale=scale, options=small | {"bands": bands} | options)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)
            torch.nn.init.normal_(layer.running_mean)
    return lively(network).double()


def make_stack(*, dates=4, bands=2, rows=10, cols=12, scale=2, seed=0):
    """Dates that resemble each other, with clouds; the first is the anchor, and clear."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(1, *shape, generator=generator, dtype=torch.double)  # noqa: E731
    anchor = draw(bands, rows, cols)
    clear = (draw(dates, 1, rows, cols) > -1).double()
    clear[:, 0] = 1
    source = anchor[:, None] + 0.5 * draw(dates, bands, rows, cols)
    source[:, 0] = anchor
    shift = 0.5 * draw(dates, 2, rows, cols)
    shift[:, 0] = 0
    guide = draw(0, rows * scale, cols * scale)
    return {"source": source * clear, "clear": clear, "anchor": anchor, "shift": shift, "guide": guide}


def run(network, stack):
    with torch.inference_mode():
        return network(stack["source"], **{key: value for key, value in stack.items() if key != "source"})


def take(stack, *, dates=slice(None), rows=slice(None), cols=slice(None), scale=2):
    """Some dates, or a window in source pixels."""
    fine = [slice(*(None if edge is None else edge * scale for edge in (s.start, s.stop))) for s in (rows, cols)]
    by_date = {key: stack[key][:, dates, ..., rows, cols] for key in ("source", "clear", "shift")}
    return by_date | {"anchor": stack["anchor"][..., rows, cols], "guide": stack["guide"][..., *fine]}


@every
@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("bands", [1, 3])
def test_means_and_deviations_of_all_bands_come_back_at_the_target_size(name, scale, bands):
    network = build(name, scale=scale, bands=bands)
    output = run(network, make_stack(bands=bands, rows=5, cols=7, scale=scale))
    assert output.shape == (1, bands * (1 + network.gives_sd), 5 * scale, 7 * scale)
    assert output.isfinite().all()
    if network.gives_sd:
        assert (output[:, bands:] > 0).all()


@order_free
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dates_may_come_in_any_order(name, dtype):
    network = build(name).to(dtype)
    stack = {key: value.to(dtype) for key, value in make_stack(dates=5).items()}
    expected = run(network, stack)
    for seed in range(3):
        order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
        difference = run(network, take(stack, dates=order)) - expected
        assert difference.abs().max() <= 1e-6 * expected.abs().max().clamp(min=1)


@every
def test_what_is_not_clear_leaves_no_trace(name):
    network, stack = build(name), make_stack()
    expected = run(network, stack)
    for value in (7.0, torch.nan):
        spoilt = stack | {"source": torch.where(stack["clear"] > 0, stack["source"], value)}
        assert torch.equal(run(network, spoilt), expected)


@every
def test_missing_dates_behind_the_others_change_nothing(name):
    network, stack = build(name), make_stack(dates=2)
    absent = {key: torch.full_like(stack[key], value) for key, value in (("source", 9.0), ("clear", 0), ("shift", 1))}
    longer = stack | {key: torch.cat([stack[key], value], 1) for key, value in absent.items()}
    torch.testing.assert_close(run(network, longer), run(network, stack), atol=1e-12, rtol=0)


@every
def test_without_any_clear_date_the_anchor_is_still_shown(name):
    network, stack = build(name), make_stack()
    cloudy = stack | {"clear": torch.zeros_like(stack["clear"])}
    output = run(network, cloudy)
    assert output.isfinite().all()
    other = run(network, cloudy | {"anchor": stack["anchor"] + 1})
    assert (output - other).abs().max() > 1e-3


@every
@pytest.mark.parametrize("dates", [1, 2, 3, 4])
def test_any_number_of_dates_will_do(name, dates):
    assert run(build(name), make_stack(dates=dates, rows=4, cols=4)).isfinite().all()


@tile_exact
@pytest.mark.parametrize("scale", [2, 3])
def test_a_window_with_its_halo_gives_the_same_pixels(name, scale):
    network = build(name, scale=scale)
    halo = network.halo_px // scale
    stack = make_stack(rows=2 * halo + 7, cols=2 * halo + 6, scale=scale)
    whole = run(network, stack)
    rows, cols = slice(3, 2 * halo + 7), slice(1, 2 * halo + 5)
    part = run(network, take(stack, rows=rows, cols=cols, scale=scale))
    rim = halo * scale
    expected = whole[..., 3 * scale :, scale : (2 * halo + 5) * scale]
    torch.testing.assert_close(part[..., rim:-rim, rim:-rim], expected[..., rim:-rim, rim:-rim], atol=1e-11, rtol=0)


@tile_exact
@pytest.mark.parametrize("scale", [2, 3])
def test_the_declared_halo_covers_what_a_pixel_sees_and_no_pixel_more(name, scale):
    network = smooth(build(name, scale=scale, bands=1))
    halo = network.halo_px // scale
    edge = 2 * halo + 3
    stack = make_stack(dates=4, bands=1, rows=edge, cols=edge, scale=scale)
    seen = [stack[key].requires_grad_() for key in ("source", "anchor", "shift")]
    output = network(stack["source"], **{key: value for key, value in stack.items() if key != "source"})
    farthest = 0
    for phase in range(scale):
        at = (halo + 1) * scale + phase
        grads = torch.autograd.grad(output[0, 0, at, at], seen, retain_graph=True, allow_unused=True)
        for grad in grads:
            if grad is not None:
                places = grad.flatten(0, -3).abs().sum(0).nonzero()
                farthest = max(farthest, (places - (halo + 1)).abs().max().item())
    assert farthest + FILL_STEPS == halo - hidden_reach(name)


def hidden_reach(name):
    """Source pixels by which a choice sees farther than any gradient."""
    return 4 if name == "stacked" else 0


def smooth(network):
    """Put a smooth function where ReLU would hide at random what is looked at."""
    for parent in list(network.modules()):
        for key, child in list(parent.named_children()):
            if isinstance(child, torch.nn.ReLU):
                setattr(parent, key, torch.nn.SiLU())
    return network


@every
def test_gradients_reach_every_parameter(name):
    network, stack = build(name).train(), make_stack()
    output = network(stack["source"], **{key: value for key, value in stack.items() if key != "source"})
    output.square().mean().backward()
    silent = [k for k, p in network.named_parameters() if p.grad is None or not p.grad.any() or p.grad.isnan().any()]
    assert not silent


@every
def test_a_translated_scene_gives_a_translated_image(name):
    network = build(name)
    halo = network.halo_px // 2
    stack = make_stack(rows=2 * halo + 4, cols=2 * halo + 4)
    moved = {key: torch.roll(value, (2, 4) if key == "guide" else (1, 2), (-2, -1)) for key, value in stack.items()}
    rim = halo * 2
    expected = torch.roll(run(network, stack), (2, 4), (-2, -1))[..., rim + 2 : -rim, rim + 4 : -rim]
    torch.testing.assert_close(run(network, moved)[..., rim + 2 : -rim, rim + 4 : -rim], expected, atol=1e-11, rtol=0)


@every
def test_short_numbers_give_nearly_the_same(name):
    network = build(name).float()
    stack = {key: value.float() for key, value in make_stack().items()}
    expected = run(network, stack)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        short = run(network, stack)
    assert (short.float() - expected).square().mean().sqrt() < 0.1 * expected.std()


@every
def test_nothing_to_sharpen_is_refused(name):
    with pytest.raises(Exception, match=r"scale"):
        build_network(name, guide_channels=0, scale=1, options={})


@pytest.mark.parametrize("name", ["highres-net", "piunet", "srresnet"])
def test_a_guide_that_would_not_be_looked_at_is_refused(name):
    with pytest.raises(Exception, match=r"takes no guide channels .* got 3 and 2"):
        build_network(name, guide_channels=3, scale=2, options={})


@every
def test_training_may_start_from_bicubic(name):
    torch.manual_seed(0)
    parameters = inspect.signature(ARCHITECTURES[name]).parameters
    options = {"skip": True} if "skip" in parameters else {}
    network = build_network(name, guide_channels=0, scale=2, options={"width": 8, "bands": 2} | options).double().eval()
    stack = make_stack()
    error = run(network, stack)[:, :2] - upsample(stack["anchor"], 2, "bicubic")
    assert error.abs().max() < 0.1
    assert math.isfinite(network.halo_px)
