"""Speed of every architecture; measures and prints, asserts nothing. Not collected unless named:

pytest -s -m benchmark tests/benchmarks/speed.py
MAPPER_DEVICE=cuda pytest -s -m benchmark tests/benchmarks/speed.py
pytest -s -m benchmark tests/benchmarks/speed.py -k dates   # of several dates: CPU seconds, and times those of bicubic
"""

import os
import sys
import time

import numpy as np
import pytest

from mapper.benchmark.speed import Load, architecture_names, measure_speed, to_text
from mapper.grid import Window
from mapper.models.weights import load_model
from mapper.predict.predictor import Predictor
from mapper.spec import ModelSpec
from mapper.synthetic.bursts import BurstOptions, simulate_burst
from mapper.synthetic.imagery import make_image

DEVICE = os.environ.get("MAPPER_DEVICE", "auto")


@pytest.mark.benchmark
@pytest.mark.parametrize("name", architecture_names())
def test_speed(name):
    text = to_text(measure_speed([name], load=Load(device=DEVICE)), device=DEVICE)
    sys.stdout.write(f"\n{text}")


CORE_PX = 512
"""Edge of a tile, in target pixels; a window has the halo of the model around it."""


def make_window(edge, *, scale=2):
    """Return eight dates of one band, as reading gives them."""
    burst = simulate_burst(make_image(7, size_px=edge, bands=1), BurstOptions(dates=8, clouds=0.15), seed=7)
    shift = np.broadcast_to(burst.shift[:, :, None, None], (8, 2, edge // scale, edge // scale))
    return {
        "source": np.where(burst.clear[:, None], burst.values, np.float32(np.nan)),
        "source.clear": burst.clear,
        "source.shift": np.ascontiguousarray(shift, np.float32),
        "source.anchor": burst.values[[burst.anchor]],
    }


def count_cpu(call, *, calls=2):
    """Return the fewest CPU seconds, of user and system, that a call took; a first one is not counted."""
    call()
    found = []
    for _ in range(calls):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


@pytest.mark.benchmark
@pytest.mark.parametrize("name", ["burst-fusion-x2", "burst"])
def test_speed_of_several_dates(name):
    predictor, plain = (
        Predictor(load_model(ModelSpec(name=each)), device="cpu", patch_px=4096) for each in (name, "bicubic")
    )
    halo = predictor.contract.halo(2)
    edge = CORE_PX + 2 * halo
    inputs, core = make_window(edge), Window(top=halo, left=halo, bottom=halo + CORE_PX, right=halo + CORE_PX)
    copied, anchor = np.ones((edge, edge), np.float32), {"source": inputs["source.anchor"]}
    copy_s, bicubic_s = (
        count_cpu(call, calls=20) / edge**2 * 1e6 for call in (copied.copy, lambda: plain.predict(anchor, scale=2))
    )
    parts = {"window": (None, edge**2), f"tile of {CORE_PX} px": (core, CORE_PX**2)}
    for what, (part, pixels) in parts.items():
        used = count_cpu(lambda part=part: predictor.predict(inputs, scale=2, core=part), calls=1) / pixels * 1e6
        sys.stdout.write(
            f"\n{name}, {what}: {used:.2f} CPU s per Mpx and band, {used / bicubic_s:.0f} times bicubic, "
            f"{used / copy_s:.0f} times a copy\n"
        )
