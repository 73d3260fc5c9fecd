"""Maps of samples: mean, deviation and single samples are the same pixels for any tiling, patch, batch and executor."""

import numpy as np
import pytest
import torch
from kinds_of_maps import CRS, write_catalog, write_map, write_scene
from receptive import lively
from region import run_json

from mapper import open_map, read_spec
from mapper.errors import ContractError
from mapper.models.architectures import build_network
from mapper.models.contract import Contract, Input
from mapper.models.stack_model import adapt
from mapper.models.weights import save_model
from mapper.plan.context import make_context
from mapper.predict.operators import GaussianPsf
from mapper.store.map_store import MapStore

TOLERANCE = 0.002
NAMES = ("B02", "B02_sd", "B02_s00", "B02_s01")
AREA = [15.003, 50.5416, 15.0066, 50.5440]
"""About 26 source pixels along an edge."""
WAYS = {96: ("--batch", "3", "--patch", "256"), 64: ("--cluster", "serial")}


def save_flow(folder):
    """An untrained network whose samples differ by about a tenth of the contrast."""
    options = {"width": 4, "blocks": 1, "flow_width": 4, "flow_blocks": 1, "rounds": (1, 2)}
    torch.manual_seed(0)
    network = lively(build_network("flow-s2", guide_channels=0, scale=4, options=options))
    for layer in (network.leave, network.flow_leave):
        torch.nn.init.normal_(layer.weight, std=0.02)
    contract = Contract(
        model="flow-s2",
        inputs=(Input(role="source", dates=0, px=0),),
        outputs=(),
        scale=4,
        halo_px=network.halo_px,
        step_px=network.step_px,
        noise_bands=1,
        samples=4,
        steps=4,
        band_sd=True,
    )
    save_model(adapt(network, contract), folder / "tiny.safetensors", options=options)


def describe(folder, name, *, tile=64, model=None, **target):
    return write_map(
        folder,
        name,
        preset="sentinel2-generative",
        area={"bbox": AREA},
        grid={"kind": "native", "crs": CRS, "resolution": 2.5, "tile": tile, "chunk": 32},
        source={"bands": ["B02"]},
        model={"name": "tiny", "weights": "tiny.safetensors", "seed": 7, **(model or {})},
        target=target,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    write_catalog(folder, [write_scene(folder, "2024-06-03", 5.0)[0]])
    save_flow(folder)
    return folder


@pytest.fixture(scope="module")
def maps(folder):
    paths = [describe(folder, f"tiles-{tile}", tile=tile, samples=2) for tile in WAYS]
    for path, options in zip(paths, WAYS.values(), strict=True):
        assert run_json("run", path, *options)["failed"] == 0
    return paths


def test_any_tiling_patch_batch_and_executor_gives_the_same_bits(maps):
    one, other = map(open_map, maps)
    for name in NAMES:
        both = (
            one[name].isel(x=one.x.isin(other.x), y=one.y.isin(other.y)),
            other[name].isel(x=other.x.isin(one.x), y=other.y.isin(one.y)),
        )
        assert np.isfinite(both[0].values).sum() > 8_000
        np.testing.assert_array_equal(*(each.values for each in both), err_msg=name)


def test_samples_differ_around_their_mean_and_agree_with_the_source(maps):
    found = open_map(maps[0])
    value, sd, first, second = (found[f"B02{end}"].values for end in ("", "_sd", "_s00", "_s01"))
    known = np.isfinite(value)
    assert np.abs(first - second)[known].mean() > 1e-3
    assert np.abs((first + second) / 2 - value)[known].mean() < np.abs(first - value)[known].mean()
    assert (sd[known] > 0).all()
    operator = GaussianPsf(4, mtf=0.2)
    rows, cols = (edge // 4 * 4 for edge in value.shape)
    seen = [operator.apply(each[:rows, :cols]) for each in (value, first, second)]
    inner = np.isfinite(seen[0])
    for one in seen[1:]:  # each lies within the tolerance of the source, so they are no farther from each other
        assert np.abs(one - seen[0])[inner].max() < 2 * TOLERANCE + 3e-4


def test_a_store_says_which_arrays_are_samples_of_what(maps):
    bands = MapStore.open(read_spec(maps[0]).store).description.bands
    assert [(band.name, band.of) for band in bands if band.role == "sample"] == [
        ("B02_s00", "B02"),
        ("B02_s01", "B02"),
    ]
    assert [band.name for band in bands if band.role == "value"] == ["B02"]


def test_samples_steps_seed_and_what_is_written_are_in_the_digest(folder):
    digest_of = lambda **parts: read_spec(describe(folder, "digest", **parts)).digest  # noqa: E731
    plain = digest_of()
    changed = [
        digest_of(model={"seed": 8}),
        digest_of(model={"samples": 6}),
        digest_of(model={"steps": 8}),
        digest_of(samples=1),
    ]
    assert len({plain, *changed}) == 5


def test_the_halo_grows_with_the_steps(folder):
    halo = {
        steps: make_context(read_spec(describe(folder, "halo", model={"steps": steps}))).halo_px for steps in (1, 2, 5)
    }
    assert halo[2] - halo[1] == 16
    assert halo[5] - halo[2] == 48


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"samples": 5}, r"5 samples are to be written .* the map draws 4"),
        ({"samples": 1, "model": {"steps": 1}}, "one step of it is its mean"),
    ],
)
def test_more_samples_than_are_drawn_are_refused(folder, parts, why):
    with pytest.raises(ContractError, match=why):
        make_context(read_spec(describe(folder, "refused", **parts)))


def test_samples_of_a_model_that_draws_none_are_refused(folder):
    path = write_map(
        folder,
        "bicubic",
        preset="sentinel2-generative",
        grid={"kind": "native", "crs": CRS, "resolution": 2.5},
        model={"name": "bicubic"},
        target={"samples": 1},
    )
    with pytest.raises(ContractError, match=r"1 samples are to be written .* of model bicubic, and the map draws 0"):
        make_context(read_spec(path))
