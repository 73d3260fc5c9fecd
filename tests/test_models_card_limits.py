"""A card that comes from elsewhere says what a model can mean, or is refused before its weights are read."""

import json
import random
import resource
import time

import pytest
import torch
from contracts import make_contract
from mutations import HOSTILE_VALUES, change_value, hostile_safetensors, mutate

from mapper.errors import WeightsError
from mapper.models.card import parse_card, read_card
from mapper.models.contract import BandNorm
from mapper.models.model import GuidedModel
from mapper.models.msg import MSG
from mapper.models.weights import load_model, save_model
from mapper.spec import ModelSpec

BUDGET_BYTES = 300 * 2**20
LONGEST_SECONDS = 5


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(1)
    network = MSG(1, 4, width=2)
    guide = (BandNorm(name="may_B08", units="1", mean=0.3, sd=0.1),)
    contract = make_contract(
        model="msg", guide=guide, source_units="m", target="height", target_units="m", scale=4, halo_px=network.halo_px
    )
    path = tmp_path_factory.mktemp("saved") / "height.safetensors"
    save_model(GuidedModel(network, contract).eval(), path, options={"width": 2}, training={"seed": 5})
    return path


@pytest.fixture
def copy(saved, tmp_path):
    for end in (".safetensors", ".json"):
        (tmp_path / f"height{end}").write_bytes(saved.with_suffix(end).read_bytes())
    return tmp_path / "height.safetensors"


def properties_of(card):
    return card["properties"]


def set_in(card, path, value):
    *parents, key = path.split(".")
    part = card["properties"]
    for parent in parents:
        part = part[int(parent) if parent.isdigit() else parent]
    part[key] = value
    return card


WRONG = {
    "mlm:name": ["../../weights", "", "a" * 300, "a\nb", 7],
    "mlm:hyperparameters": [
        [], {"width": 10**9}, {"width": float("inf")}, {"members": 0}, {"members": 10**6}, {"a": "x" * 999},
    ],
    "mlm:total_parameters": [-1, "many"],
    "mapper:training": [[], "text"],
    "mapper:contract.scale": [0, -4, 2.5, "4", 10**9, True],
    "mapper:contract.halo_px": [-1, 10**7, None, 3.5],
    "mapper:contract.halo_source_px": [10**6],
    "mapper:contract.align_px": [0, 10**5],
    "mapper:contract.samples": [0, 10**9],
    "mapper:contract.sd_scale": [-1.0, float("nan"), "1"],
    "mapper:contract.bounds": [[1, 0], [None], ["a", None], [float("nan"), None], None],
    "mapper:contract.inputs.0.bands.0.mean": [float("inf"), float("nan"), "0.3", None, True],
    "mapper:contract.inputs.0.bands.0.sd": [-0.1, float("inf")],
    "mapper:contract.inputs.0.bands.0.name": ["a/b", "", 5],
    "mapper:contract.inputs.0.dates": [-1, 10**6],
    "mapper:contract.outputs.0.kind": ["pickle", 3],
    "mapper:contract.outputs.0.units": [None, "x" * 500],
}  # fmt: skip


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, values in WRONG.items() for value in values])
def test_a_card_that_no_model_can_mean_is_one_line(saved, path, value):
    card = set_in(json.loads(saved.with_suffix(".json").read_text()), path, value)
    with pytest.raises(WeightsError, match="not a model card") as refused:
        parse_card(json.dumps(card))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 5000,
        "null",
        '"x"',
        "{}",
        "\x00",
        '{"properties": {"mapper:contract": 3}}',
    ],
)
def test_a_text_that_is_no_card_is_one_line(text):
    with pytest.raises(WeightsError, match="not a model card"):
        parse_card(text)


def test_a_card_as_long_as_a_disk_is_not_read(copy):
    with copy.with_suffix(".json").open("wb") as stream:
        stream.truncate(2**40)  # a hole
    with pytest.raises(WeightsError, match="longer than 16 MiB"):
        read_card(ModelSpec(name="height", weights=copy))


@pytest.mark.parametrize(("name", "content"), hostile_safetensors().items(), ids=hostile_safetensors())
def test_weights_that_are_none_are_refused(copy, name, content):
    del name
    copy.write_bytes(content)
    with pytest.raises(WeightsError):
        load_model(ModelSpec(name="height", weights=copy))


def reseal(path, **changes):
    """Make card and weights agree on options that the weights were not made for."""
    model = load_model(ModelSpec(name="height", weights=path))
    save_model(model, path, options=changes)


@pytest.mark.parametrize("options", [{"width": 4096}, {"width": 3}, {"width": 2, "members": 60}, {"depth": 4}, {}])
def test_shapes_are_compared_before_memory_is_taken(copy, options):
    reseal(copy, **options)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=r"do not fit|does not take"):
        load_model(ModelSpec(name="height", weights=copy))
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < BUDGET_BYTES


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_do_not_reach_a_map(copy, number):
    model = load_model(ModelSpec(name="height", weights=copy))
    with torch.no_grad():
        model.network.last.weight.view(-1)[3] = number
    save_model(model, copy, options={"width": 2})
    with pytest.raises(WeightsError, match=r"not finite, in last\.weight"):
        load_model(ModelSpec(name="height", weights=copy))


def test_files_with_random_damage_are_read_or_refused(saved, tmp_path):
    rng = random.Random(11)
    card = json.loads(saved.with_suffix(".json").read_text())
    path = tmp_path / "height.safetensors"
    for number in range(60):
        path.write_bytes(mutate(saved.read_bytes(), rng) if number % 3 == 0 else saved.read_bytes())
        text = saved.with_suffix(".json").read_bytes()
        if number % 3 == 1:
            text = mutate(text, rng)
        elif number % 3 == 2:
            text = json.dumps(change_value(card, rng, HOSTILE_VALUES)).encode()
        path.with_suffix(".json").write_bytes(text)
        began = time.process_time()
        try:
            load_model(ModelSpec(name="height", weights=path))
        except WeightsError as error:
            assert "\n" not in str(error)  # noqa: PT017
        assert time.process_time() - began < LONGEST_SECONDS


def test_a_name_does_not_lead_out_of_the_shipped_models():
    with pytest.raises(WeightsError, match="unknown model"):
        read_card(ModelSpec(name="../shipped/fdsr-demo"))
