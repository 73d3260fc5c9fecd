"""Price files: what is wrong with one is said, by name."""

from pathlib import Path

import pytest
import yaml

from mapper.cost.prices import read_prices
from mapper.errors import InputError

EXAMPLE = Path(__file__).parents[1] / "deploy" / "prices.yaml"


def write(folder, **changes):
    content = yaml.safe_load(EXAMPLE.read_text()) | changes
    path = folder / "prices.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


def test_the_example_is_valid_and_says_that_it_is_none():
    prices = read_prices(EXAMPLE)
    assert "example" in prices.source
    assert prices.currency == "EUR"


def test_what_costs_nothing_may_be_left_out(tmp_path):
    path = write(tmp_path, memory_gib_hour=None, vcpus_per_worker=None, months_stored=None, read_gib=0)
    prices = read_prices(path)
    assert (prices.memory_gib_hour, prices.vcpus_per_worker, prices.months_stored) == (0, 1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vcpu_hour": None}, r"prices.yaml: vcpu_hour: missing"),
        ({"gpu_hour": -1}, r"gpu_hour: .*greater than or equal to 0 \(got -1\)"),
        ({"read_gib": "cheap"}, r"read_gib: .*\(got 'cheap'\)"),
        ({"requests_1000": float("nan")}, r"requests_1000: .*finite"),
        ({"currency": "euros"}, r"currency: .*\(got 'euros'\)"),
        ({"date": "last year"}, r"date: .*\(got 'last year'\)"),
        ({"source": "  "}, r"source: "),
        ({"egress": 1}, r"egress: unknown key; it holds currency, date, gpu_hour"),
        ({"vcpu_hour": -1, "gpu_hour": None}, r"vcpu_hour: .*; gpu_hour: missing|gpu_hour: missing; vcpu_hour"),
    ],
)
def test_every_fault_of_a_price_file_is_named(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read_prices(write(tmp_path, **changes))


def test_a_file_that_is_no_price_file_is_refused(tmp_path):
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "broken.yaml").write_text("a: [")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name, message in (
        ("list", "mapping of names to prices, got list"),
        ("broken", "is not YAML"),
        ("binary", "cannot be read"),
        ("absent", "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            read_prices(tmp_path / f"{name}.yaml")
