"""One go or two phases: priced by hand, and the cheaper one named."""

from datetime import date

import pytest

from mapper.cost.phases import VCPUS_OF_GPU, Work, compare_schemes
from mapper.cost.prices import Prices

FUSED = Work(read_h=80, predict_h=2, write_h=0, bytes_read=2**40, requests=1e6)
COMPOSITE = Work(read_h=60, predict_h=0, write_h=4, bytes_read=2**39, requests=5e5, stored_bytes=100 * 2**30)
SHARPEN = Work(read_h=1, predict_h=2, write_h=0)


def make_prices(**changes):
    content = {
        "currency": "EUR", "date": date(2026, 1, 1), "source": "made up", "vcpu_hour": 0.1, "gpu_hour": 3.0,
        "read_gib": 0.0, "requests_1000": 0.0, "stored_gib_month": 0.0,
    }  # fmt: skip
    return Prices.model_validate(content | changes)


def test_a_gpu_that_reads_archives_is_paid_for_while_it_waits():
    found = compare_schemes(FUSED, COMPOSITE, SHARPEN, device="cuda", prices=make_prices())
    assert found.fused.gpu_h == 80 / VCPUS_OF_GPU
    assert found.fused.idle_h == 80 / VCPUS_OF_GPU - 2
    assert (found.sharpen.gpu_h, found.sharpen.idle_h) == (2, 0)
    assert (found.composite.gpu_h, found.composite.cpu_h) == (0, 64)
    hour = 3.0 + VCPUS_OF_GPU * 0.1
    assert found.fused.cost == pytest.approx(10 * hour)
    assert found.composite.cost == pytest.approx(6.4)
    assert found.sharpen.cost == pytest.approx(2 * hour)
    assert (found.cheaper, found.pays_from) == ("two phases", 1)


def test_on_a_cpu_one_map_is_cheaper_in_one_go_and_many_are_not():
    small = Work(read_h=20, predict_h=10, write_h=0)
    found = compare_schemes(small, COMPOSITE, Work(read_h=1, predict_h=10, write_h=0), device="cpu")
    assert (found.fused.cpu_h, found.composite.cpu_h, found.sharpen.cpu_h) == (30, 64, 11)
    assert (found.cheaper, found.unit) == ("one go", "CPU-hours")
    maps = found.pays_from
    assert 64 + maps * 11 < maps * 30
    assert 64 + (maps - 1) * 11 >= (maps - 1) * 30
    assert f"from {maps} maps" in found.summary()


def test_what_is_composed_already_counts_as_paid():
    small = Work(read_h=20, predict_h=10, write_h=0)
    found = compare_schemes(small, COMPOSITE, SHARPEN, device="cpu", composed=1.0)
    assert (found.cheaper, found.pays_from) == ("two phases", 1)
    assert "100 % of the guide" in found.summary()


def test_a_guide_that_saves_nothing_never_pays():
    found = compare_schemes(SHARPEN, COMPOSITE, FUSED, device="cpu")
    assert (found.cheaper, found.pays_from) == ("one go", None)
    assert found.to_dict()["pays_from"] is None
    assert "never pays" in found.summary()


def test_storing_and_reading_have_their_price():
    prices = make_prices(vcpu_hour=0.0, gpu_hour=0.0, read_gib=0.01, requests_1000=0.002, stored_gib_month=0.02,
                         months_stored=3)  # fmt: skip
    found = compare_schemes(FUSED, COMPOSITE, SHARPEN, device="cpu", prices=prices)
    assert found.fused.cost == pytest.approx(1024 * 0.01 + 2.0)
    assert found.composite.cost == pytest.approx(512 * 0.01 + 1.0 + 100 * 0.02 * 3)
    assert found.sharpen.cost == 0
