"""Attribution of detail: known weights come back, parts add up, and what no gradient reaches is said."""

import inspect
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from receptive import lively

from mapper.models.architectures import ARCHITECTURES, build_network
from mapper.models.contract import BandNorm, Contract, Input, make_inputs, make_outputs
from mapper.models.gradients import follow_gradients
from mapper.models.interpolation import upsample
from mapper.models.stack_model import adapt
from mapper.models.weights import load_model
from mapper.predict.attribution import Detail, attribute, find_radius, measure_diffusion, replace_parts, sum_on_source
from mapper.predict.predictor import Predictor, Trace
from mapper.predict.removal import GUIDE, SOURCE, Names, Removal
from mapper.spec import ModelSpec

SCALE, EDGE = 2, 12
FINE = SCALE * EDGE
MIDDLE = slice(FINE // 2 - 2, FINE // 2 + 3)
SMALL = {"width": 4, "dates": 2, "embed": 4, "heads": 2, "mix": 1, "blocks": 1, "flow_width": 4, "flow_blocks": 1,
         "features": 4, "most_dates": 4}  # fmt: skip


def draw(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.1, 0.9, shape).astype(np.float32)


def guided(channels=2, *, dates=1):
    return {"source": draw(dates, 1, EDGE, EDGE), "guide": draw(1, channels, FINE, FINE, seed=1)}


def stacked(dates=3, bands=1, *, seed=0):
    """Dates that resemble each other; the first is the anchor but for a corner that another shows."""
    base = draw(1, bands, EDGE, EDGE, seed=seed)
    source = base + 0.05 * draw(dates, bands, EDGE, EDGE, seed=seed + 1)
    clear = np.ones((dates, EDGE, EDGE), bool)
    clear[1, :, -3:] = False
    anchor = source[:1].copy()
    shift = np.zeros((dates, 2, EDGE, EDGE), np.float32)
    shift[1:] = 0.3
    return {"source": source, "source.clear": clear, "source.days": np.arange(dates, dtype=np.float32),
            "source.anchor": anchor, "source.shift": shift}  # fmt: skip


@contextmanager
def follow(model, inputs):
    given = {"guide": torch.empty(1, 1, 0, FINE, FINE)}
    given |= {name: torch.from_numpy(array)[None] for name, array in inputs.items()}
    with follow_gradients():
        yield Trace(run=model, given=given)


def detail(kind="gradient", outputs=("y",)):
    return Detail(outputs=outputs, rows=MIDDLE, cols=MIDDLE, kind=kind)


def ask(model, inputs, *, kind="gradient", steps=8, names=None, outputs=("y",)):
    removal, asked = Removal(inputs=inputs, scale=SCALE), detail(kind, outputs)
    parts = removal.find_parts(names or Names(channels=["a", "b"], dates=["d0", "d1", "d2"], bands=["r"]))
    with follow(model, inputs) as trace:
        found = attribute(trace, removal, asked, sigma=1.5, steps=steps)
        replaced = replace_parts(trace, removal, parts, asked, sigma=1.5, shuffles=(0, 1))
    return SimpleNamespace(
        found=found,
        removal=removal,
        parts={part.name: part for part in parts},
        replaced={part.name: each for part, each in zip(parts, replaced, strict=True)},
    )


def linear(inputs):
    """3 x the interpolated source, less half of the first channel of the guide; the second is not looked at."""
    return {"y": 3 * upsample(inputs["source"][:, 0], SCALE, "bicubic") - 0.5 * inputs["guide"][:, 0, :1]}


def test_contributions_to_a_linear_network_are_its_weights_times_what_the_blur_takes():
    asked = ask(linear, guided(), kind="contrast", steps=3)
    removal, found = asked.removal, asked.found
    blurred = removal.blur(1.5)
    weights = np.zeros((1, 1, FINE, FINE))
    weights[..., MIDDLE, MIDDLE] = 0.5 / 25
    weights[..., FINE // 2, FINE // 2] -= 0.5
    expected = weights * (removal.images[GUIDE][:, :1] - blurred[GUIDE][:, :1])
    np.testing.assert_allclose(found.maps[GUIDE][:, :1], expected, atol=1e-6)
    assert not found.maps[GUIDE][:, 1].any()
    assert found.total == pytest.approx(found.sharp - found.blurred, abs=1e-6)


def test_a_channel_that_is_not_looked_at_has_no_part_in_anything():
    asked = ask(linear, guided())
    assert not any(values.any() for values in asked.found.of(asked.parts["b"]).values())
    assert asked.replaced["b"].changes_nothing
    assert not asked.replaced["a"].changes_nothing


def test_detail_of_the_guide_alone_is_the_guides():
    inputs = guided() | {"source": np.full((1, 1, EDGE, EDGE), 0.4, np.float32)}
    asked = ask(linear, inputs)
    source, guide = (np.abs(asked.found.maps[name]).sum() for name in (SOURCE, GUIDE))
    assert source < 1e-6 * guide
    assert asked.replaced["a"].blurred.detail == pytest.approx(asked.found.sharp - asked.found.blurred, rel=1e-5)


def test_what_gradients_do_not_reach_is_not_told_to_have_no_part():
    def blind(inputs):
        with torch.no_grad():
            base = upsample(inputs["source"][:, 0], SCALE, "bicubic")
        return {"y": base + inputs["guide"][:, 0, :1]}

    asked = ask(blind, guided())
    assert asked.found.unreached == {SOURCE}
    assert not asked.replaced["source"].changes_nothing
    assert abs(asked.found.gap) > 1e-4


def test_parts_that_do_not_overlap_add_up():
    def run(inputs):
        mean = inputs["source"].mean(1) + 2 * inputs["source.anchor"][:, 0]
        return {"y": upsample(mean, SCALE, "bicubic") ** 2}

    asked = ask(run, stacked())
    single = [part for part in asked.parts.values() if part.is_single]
    assert [part.name for part in single] == ["anchor", "d1", "d2"]  # the first date is the anchor everywhere
    total = sum(values.sum() for part in single for values in asked.found.of(part).values())
    assert total == pytest.approx(asked.found.total, rel=1e-9)


def test_dates_may_come_in_any_order():
    model = load_model(ModelSpec(name="burst"))
    inputs, order = stacked(), [2, 0, 1]
    other = {name: array if name == "source.anchor" else array[order] for name, array in inputs.items()}
    names = Names(dates=["d2", "d0", "d1"])
    one = ask(model, inputs, outputs=("band_0",), steps=2)
    two = ask(model, other, outputs=("band_0",), steps=2, names=names)
    for name, part in one.parts.items():
        mine, theirs = (sum(v.sum() for v in each.found.of(each.parts[name]).values()) for each in (one, two))
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-7), part
        assert one.replaced[name].shuffled.output == pytest.approx(two.replaced[name].shuffled.output, rel=1e-3)


def test_pixels_that_the_anchor_shows_stay_its_own_under_a_blur_and_a_shuffle():
    removal = Removal(inputs=stacked(bands=2), scale=SCALE)
    for images in (removal.blur(1.0), removal.shuffle((3,))):
        assert np.array_equal(images[SOURCE][0], images["source.anchor"][0])
        assert not np.array_equal(images[SOURCE], removal.images[SOURCE])


def test_a_shuffle_moves_the_same_values_and_a_blur_keeps_what_is_missing():
    inputs = guided()
    inputs["guide"][0, 0, 3:6, 4:9] = np.nan
    inputs["guide"][0, 1] = np.nan  # a season without any observation stops no other
    removal = Removal(inputs=inputs, scale=SCALE)
    shuffled, blurred = removal.shuffle((0,)), removal.blur(2.0)
    np.testing.assert_array_equal(np.sort(shuffled[GUIDE], axis=None), np.sort(inputs["guide"], axis=None))
    np.testing.assert_array_equal(np.isnan(blurred[GUIDE]), np.isnan(inputs["guide"]))
    assert not np.array_equal(shuffled[GUIDE][:, 0], inputs["guide"][:, 0], equal_nan=True)
    np.testing.assert_array_equal(removal.blur(0.0)[GUIDE], inputs["guide"])
    np.testing.assert_array_equal(removal.shuffle((0,))[GUIDE], shuffled[GUIDE])


def test_seasons_dates_bands_and_the_whole_guide_are_parts_too():
    names = Names(channels=["s_a", "w_a"], seasons=["s", "w"], dates=["d0", "d1", "d2"], bands=["r", "g"])
    removal = Removal(inputs=stacked(bands=2) | {"guide": draw(1, 2, FINE, FINE)}, scale=SCALE)
    joint = {part.kind: part.name for part in removal.find_parts(names) if not part.is_single}
    assert joint == {"dates": "other dates", "season": "w", "guides": "whole guide", "bands": "g"}


def make_model(name):
    """A tiny network of an architecture, its own part not drowned by interpolation."""
    torch.manual_seed(0)
    kind = ARCHITECTURES[name]
    known = inspect.signature(kind).parameters
    wants_guide = "guide" not in name and not getattr(kind, "stacked", False)
    options = {key: value for key, value in SMALL.items() if key in known}
    try:
        network = build_network(name, guide_channels=2 if wants_guide else 0, scale=SCALE, options=options)
    except Exception:  # noqa: BLE001 - one that sharpens with a guide, or one that takes none
        wants_guide = not wants_guide
        network = build_network(name, guide_channels=2 if wants_guide else 0, scale=SCALE, options=options)
    network = lively(network).eval()
    guide = tuple(BandNorm(name=each, units="1", mean=0.5, sd=0.3) for each in "ab") if wants_guide else ()
    source = BandNorm(name="r", units="1", mean=0.5, sd=0.3)
    inputs = make_inputs(guide, source)
    if network.stacked:
        bands = () if network.any_bands else (source,)
        inputs = (*inputs[:-1], Input(role="source", bands=bands, dates=0, px=0))
    outputs = () if network.any_bands else make_outputs("y", "1", gives_sd=network.gives_sd)
    contract = Contract(
        model=name,
        inputs=inputs,
        outputs=outputs,
        scale=SCALE,
        halo_px=network.halo_px,
        align_px=network.align_px,
        band_sd=network.any_bands and network.gives_sd,
        sees_source_sd=network.sees_source_sd,
    )
    return adapt(network, contract)


@pytest.mark.parametrize("name", sorted({*ARCHITECTURES} - {"latent-diffusion"}))  # which makes no maps
def test_every_architecture_is_explained(name):
    model = make_model(name)
    contract = model.contract
    inputs = stacked() if model.network.stacked else {"source": draw(1, 1, EDGE, EDGE)}
    inputs |= {"guide": draw(1, 2, FINE, FINE, seed=1)} if contract.guide else {}
    removal = Removal(inputs=inputs, scale=SCALE)
    asked = detail(outputs=contract.name_means(["y"]))
    with Predictor(model, device="cpu").follow(inputs, scale=SCALE) as trace:
        found = attribute(trace, removal, asked, sigma=1.0, steps=3)
        parts = removal.find_parts(Names(dates=["d0", "d1", "d2"], channels=["a", "b"]))
        replaced = replace_parts(trace, removal, parts, asked, sigma=1.0, shuffles=(0,))
    reached = {name for name, values in found.maps.items() if values.any()}
    for part, each in zip(parts, replaced, strict=True):
        assert each.changes_nothing or part.where.keys() & reached, f"no gradient reaches {part.name}"
    assert reached
    assert not found.lost


@pytest.mark.parametrize("name", ["bicubic", "back-projection", "burst", "median", "mean"])
def test_methods_without_weights_are_explained_by_gradients_too(name):
    asked = ask(load_model(ModelSpec(name=name)), stacked(), outputs=("band_0",), steps=8)
    found = asked.found
    assert found.sharp > found.blurred
    assert found.total == pytest.approx(found.sharp - found.blurred, rel=0.1)


def test_an_index_of_diffusion_tells_one_pixel_from_all():
    one = np.zeros((10, 10))
    one[4, 4] = -3.0
    assert measure_diffusion(one) == pytest.approx(1.0)  # one of a hundred
    assert measure_diffusion(np.ones((10, 10))) == pytest.approx(100.0)
    assert measure_diffusion(np.zeros((3, 3))) == 0
    assert find_radius(one, (4, 4), 0.9) == 0
    assert find_radius(one, (4, 1), 0.9) == 3


def test_contributions_on_source_pixels_keep_their_sum():
    maps = {SOURCE: -np.ones((2, 1, 3, 4)), GUIDE: np.ones((1, 2, 6, 8))}
    total = sum_on_source(maps, SCALE)
    assert total.shape == (3, 4)
    assert total.sum() == 2 * 12 + 2 * 48


def test_a_path_needs_a_blur_and_an_output():
    with pytest.raises(ValueError, match="a path needs a blur and a step"):
        ask(linear, guided(), steps=0)
    missing = guided() | {"source": np.full((1, 1, EDGE, EDGE), np.nan, np.float32)}
    with pytest.raises(ValueError, match="the output is missing"):
        ask(linear, missing)
