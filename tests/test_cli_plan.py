"""`mapper plan`: what it prints before, during and after a map is made."""

from pathlib import Path

import pytest
from region import run_json, run_mapper

PRICES = Path(__file__).parents[1] / "deploy" / "prices.yaml"


@pytest.fixture
def little(region):
    """A map without a guide."""
    region.change(model={"name": "bicubic"})
    return region


def test_a_plan_tells_cost_before_a_pilot_by_it_and_against_it(little):
    code, before = run_mapper("plan", little.map, "--prices", PRICES)
    assert code == 0, before
    assert "not calibrated" in before
    assert "seconds on a GPU are assumed, not measured" in run_mapper("plan", little.map, "--device", "cuda")[1]
    assert "cost in EUR" in before
    assert "example numbers" in before
    assert not little.store.exists()
    assert run_mapper("run", little.map, "--only", "::1")[0] == 0
    code, after = run_mapper("plan", little.map)
    assert code == 0, after
    assert "made in one run" in after
    assert "cost in" not in after


def test_a_plan_as_json_holds_the_forecast(little):
    found = run_json("plan", little.map, "--json", "--device", "cuda")
    assert found["forecast"]["device"] == "cuda"
    assert found["forecast"]["prices"] is None
    assert [line["name"] for line in found["forecast"]["quantities"]][:2] == ["requests", "bytes read"]
    assert found["tiles"] == len(found["due"]) == found["forecast"]["tiles"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--prices", "absent.yaml"), "price file absent.yaml cannot be read"),
        (("--device", "tpu"), "--device is cpu or cuda"),
    ],
)
def test_wrong_options_are_refused(little, options, words):
    code, text = run_mapper("plan", little.map, *options)
    assert code == 2
    assert words in " ".join(text.split())
