"""Speeds: operations are counted right, what is measured adds up, and nothing is left changed. No time is asserted."""

import math

import pytest
import torch
from contracts import make_contract
from region import run_json, run_mapper

from mapper.benchmark import speed
from mapper.benchmark.speed import (
    Load,
    architecture_names,
    arithmetic,
    count_macs,
    count_sample_macs,
    measure_peak,
    measure_speed,
    to_text,
)
from mapper.errors import SpecError
from mapper.models.contract import BandNorm
from mapper.models.model import GuidedModel, Network

LOAD = Load(device="cpu", patch_px=32, window_px=40, seconds=0.0, guide_channels=3)


class Plain(Network):
    """One 3 x 3 convolution of the guide to 4 channels, and a 1 x 1 one to the target."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 1, 1))

    def forward(self, guide, source):  # noqa: ARG002
        return self.layers(guide)


def test_multiply_accumulates_are_counted():
    guide = tuple(BandNorm(name=name, units="1") for name in "abc")
    contract = make_contract(
        model="plain", guide=guide, source_units="1", target="t", target_units="1", scale=8, halo_px=8, align_px=3
    )
    assert count_macs(GuidedModel(Plain(), contract), 8, 3) == 3 * 4 * 9 + 4


def test_a_sample_of_four_bands_takes_a_thirtieth_of_the_operations_of_latent_diffusion():
    latent = 142e12 / 1e6 / 2  # LDSR-S2: 37.2 TFLOP for a patch of 512 x 512 pixels of four bands
    macs = {steps: count_sample_macs("flow-s2", 4, bands=4, steps=steps) for steps in (1, 2, 4)}
    assert macs[4] * 30 < latent
    assert macs[4] - macs[2] == pytest.approx(2 * (macs[2] - macs[1]), rel=1e-6)


def test_an_architecture_is_measured_at_every_scale_and_precision():
    told = []
    speeds = measure_speed(["msg", "bicubic"], scales=(2, 3), precisions=("fp32",), load=LOAD, notify=told.append)
    assert [(s.architecture, s.scale) for s in speeds] == [("msg", 2), ("msg", 3), ("bicubic", 2), ("bicubic", 3)]
    for entry in speeds:
        assert entry.device_mpx > 0
        assert entry.host_mpx > 0
        assert entry.ratio > 0
    assert speeds[0].macs > 10 * speeds[2].macs
    assert speeds[0].ratio == pytest.approx(speeds[0].floor_mpx / speeds[0].device_mpx)
    assert len(told) == 5
    text = to_text(speeds, device="cpu")
    assert "1 thread" in text
    assert text.count("| msg ") == 2


def test_every_architecture_can_be_named():
    assert {"nearest", "bicubic", "msg"} <= set(architecture_names())
    with pytest.raises(SpecError, match="no architecture stars: there are nearest"):
        measure_speed(["stars"], load=LOAD)


def test_the_command_line_prints_the_table(monkeypatch):
    monkeypatch.setattr(speed, "_time", lambda call, *_: [1e-3] if call() is not None else [])
    rows = run_json("models", "--speed", "--only", "nearest", "--device", "cpu")
    assert [(row["scale"], row["precision"]) for row in rows] == [(8, "fp32"), (10, "fp32"), (8, "bf16"), (10, "bf16")]
    code, said = run_mapper("models", "--speed", "--only", "stars")
    assert code == 2
    assert "no architecture stars" in said


def test_threads_are_as_before():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with arithmetic(torch.device("cpu"), "fp32"):
        assert torch.get_num_threads() == 1
        assert torch.is_inference_mode_enabled()
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_the_peak_is_what_the_machine_reaches():
    peak = measure_peak(torch.device("cpu"), "fp32", seconds=0.0)
    assert math.isfinite(peak)
    assert peak > 1e8
