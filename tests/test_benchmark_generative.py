"""Samples of a generative model are scored with their intervals and cost; whatever is absent is named."""

import numpy as np
import pytest
import torch
from receptive import lively

from mapper.benchmark.runner import run_suite
from mapper.benchmark.speed import count_scene_macs
from mapper.benchmark.suite import MethodConfig, read_suite
from mapper.errors import SpecError
from mapper.models.architectures import build_network
from mapper.models.contract import Contract, Input
from mapper.models.stack_model import adapt
from mapper.models.weights import save_model
from mapper.training.bursts import read_bursts
from mapper.training.trainer import predict_sample

SMALL = {"width": 8, "blocks": 1, "flow_width": 8, "flow_blocks": 1}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = lively(build_network("flow-s2", guide_channels=0, scale=4, options=SMALL))
    contract = Contract(
        model="flow-s2",
        inputs=(Input(role="source", dates=0, px=0),),
        outputs=(),
        scale=4,
        halo_px=network.halo_px,
        noise_bands=1,
        band_sd=True,
        steps=4,
        step_px=network.step_px,
    )
    return adapt(network, contract).eval()


def small_suite(work):
    suite = read_suite("generative", work=work)
    part = next(part for part in suite.data if part.kind == "bursts").model_copy(
        update={"seeds": (5200,), "size_px": 96}
    )
    return suite.model_copy(update={"data": (part,)})


@pytest.fixture(scope="module")
def report(model, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    save_model(model, work / "weights" / "flow-s2-x4.safetensors", options=SMALL)
    return run_suite(small_suite(work), work=work)


def test_weights_are_found_among_the_results_and_what_is_absent_is_named(report):
    names = {outcome.method.name for outcome in report.outcomes}
    assert {"truth", "bicubic", "flow-s2-1", "flow-s2-4", "flow-s2-8-mean"} <= names
    told = "\n".join(report.notes)
    for name, reason in (
        ("flow-s2-dates-1", "flow-s2-dates-x4"),
        ("srresnet", "--slow"),
        ("latent-diffusion", "--slow"),
    ):
        assert name not in names
        assert any(note.startswith(f"{name} is left out: ") and reason in note for note in report.notes), told


def test_a_row_tells_detail_intervals_and_cost(report):
    rows = {row["method"]: row for row in report.rows("simulations")}
    assert [column.key for column in report.columns][1:] == list(report.suite.metrics)
    assert rows["truth"]["improvement_of_detail"] > 0.96
    for name in ("flow-s2-1", "flow-s2-4", "flow-s2-4-mean", "flow-s2-8"):
        row = rows[name]
        assert 0 <= row["least_in_90"] <= row["in_90"] <= row["in_95"] <= 1
        assert row["in_68"] <= row["in_90"]
        assert row["s_per_mpx"] > 0
    work = [rows[name]["tflop_per_mpx"] for name in ("flow-s2-1", "flow-s2-4", "flow-s2-8")]
    assert work[0] < work[1] < work[2]
    assert rows["flow-s2-4-mean"]["tflop_per_mpx"] == pytest.approx(8 * work[1], rel=1e-6)
    assert "in_90" not in rows["bicubic"]
    assert rows["flow-s2-4"]["consistency_mae"] < 0.2 * rows["bicubic"]["consistency_mae"]
    assert "sees the truth" in report.to_text()


def test_truth_is_never_the_best_of_a_table(report):
    assert "**inf**" not in report.to_text()


def test_predicting_draws_as_many_samples_in_as_many_steps_as_asked(model, tmp_path):
    (sample,) = read_bursts(small_suite(tmp_path).data[0])
    mean = predict_sample(model, sample, device="cpu").mean
    one_step = predict_sample(model, sample, device="cpu", samples=1, steps=1)
    np.testing.assert_allclose(one_step.mean, mean, atol=1e-6)
    drawn = [predict_sample(model, sample, device="cpu", samples=1, steps=steps).mean for steps in (2, 4, None)]
    assert not np.allclose(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[1], drawn[2])
    assert model.contract.steps == 4
    counts = [count_scene_macs(model, sample, samples=1, steps=steps) for steps in (1, 2, 3)]
    assert counts[2] - counts[1] == pytest.approx(counts[1] - counts[0], rel=1e-6)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"model": "bicubic", "samples": 2}, "is to draw 2 samples of bicubic, which draws none"),
        ({"yardstick": "beauty"}, "unknown 'beauty', expected one of truth, unsharp-mask"),
        ({"yardstick": "truth"}, "see the truth and are of group truth"),
        ({"yardstick": "unsharp-mask", "group": "truth"}, "see the truth and are of group truth, others are not"),
    ],
)
def test_a_method_that_cannot_be_is_refused(tmp_path, method, message):
    described = MethodConfig.model_validate({"name": "odd", "group": "source"} | method)
    suite = small_suite(tmp_path).model_copy(update={"methods": (described,)})
    with pytest.raises(SpecError, match=message):
        run_suite(suite, work=tmp_path)


def test_steps_without_samples_are_refused():
    with pytest.raises(ValueError, match="say by samples how many it draws"):
        MethodConfig(name="odd", group="source", model="flow-s2-x4", steps=4)
