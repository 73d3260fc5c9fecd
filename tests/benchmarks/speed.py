"""Speed of every architecture; measures and prints, asserts nothing. Not collected unless named:

pytest -s -m benchmark tests/benchmarks/speed.py
MAPPER_DEVICE=cuda pytest -s -m benchmark tests/benchmarks/speed.py
"""

import os
import sys

import pytest

from mapper.benchmark.speed import Load, architecture_names, measure_speed, to_text

DEVICE = os.environ.get("MAPPER_DEVICE", "auto")


@pytest.mark.benchmark
@pytest.mark.parametrize("name", architecture_names())
def test_speed(name):
    text = to_text(measure_speed([name], load=Load(device=DEVICE)), device=DEVICE)
    sys.stdout.write(f"\n{text}")
