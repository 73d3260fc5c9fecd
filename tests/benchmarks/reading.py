"""CPU seconds of reading and composing one tile; measures and prints, asserts only that the outputs agree.

Not collected unless named; about 4 minutes on two quiet cores:

pytest -s -m benchmark tests/benchmarks/reading.py
MAPPER_DATES=24 MAPPER_SIZE=1024 pytest -s -m benchmark tests/benchmarks/reading.py

What is compared is one composite: the median of each season of a year of Sentinel-2 (six bands, masked by SCL, days
mosaicked, each date calibrated) on one tile that lies across two UTM zones. Every route runs in a process of its own
with two threads; imports are not counted. The files are local and in the cache of the system: nobody waits for a disk
or a network. The floor opens and decodes the same windows, and does nothing else.
"""

import os
import resource
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import contestants
import numpy as np
import pytest
from overpasses import BANDS, tile_of, write_overpasses

DATES = int(os.environ.get("MAPPER_DATES", "16"))
SIZE = int(os.environ.get("MAPPER_SIZE", "2048"))
ROUTES = ("floor", "mapper_block", "mapper_guide", "odc_graph", "stackstac_graph", "odc_graph_bottleneck")
TOLERANCE = 1e-3
"""Of the median difference of reflectance: both graphs are warped by GDAL with its usual approximation and rounded."""


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_reading():
    tile = tile_of(SIZE)
    costs, values = {}, {}
    with TemporaryDirectory() as folder:
        items = write_overpasses(Path(folder), tile, dates=DATES)
        for name in ROUTES:
            path = Path(folder) / f"{name}.npy"
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                costs[name] = pool.submit(measure, name, items, tile, path).result()
            values[name] = np.load(path) if path.exists() else None
            sys.stdout.write(f"\n{name}: {costs[name][0]:.1f} CPU s")
    sys.stdout.write(f"\n\n{to_text(costs, values, len(items))}")
    for name in ("mapper_guide", "odc_graph", "stackstac_graph"):
        missing, median, _ = compare(values["mapper_block"], values[name])
        assert missing < TOLERANCE
        assert median < TOLERANCE


def measure(name, items, tile, path):
    """CPU seconds, wall seconds and peak memory in MB of one route; its result goes to a file."""
    warnings.simplefilter("ignore")
    wall, cpu = time.perf_counter(), time.process_time()
    values = getattr(contestants, name)(items, tile)
    cost = time.process_time() - cpu, time.perf_counter() - wall
    if values is not None:
        np.save(path, values)
    return *cost, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def compare(ours, theirs):
    """Share of pixels that only one has; median and 99th percentile of the difference of the others."""
    difference = np.abs(ours - theirs)
    one_only = (np.isnan(ours) != np.isnan(theirs)).mean()
    found = difference[~np.isnan(difference)]
    return float(one_only), *(float(q) for q in np.percentile(found, (50, 99)))


def to_text(costs, values, count):
    """One line for each route."""
    header = f"{'route':<22}{'CPU s':>8}{'wall s':>8}{'MB':>7}{'/ odc':>8}{'/ stackstac':>13}"
    lines = [
        f"{count} items of {DATES} dates, {len(BANDS)} bands, {SIZE} x {SIZE} px, seasonal medians, two threads",
        f"{header}{'one only':>11}{'median DN':>11}{'p99 DN':>9}",
    ]
    for name, (cpu, wall, memory) in costs.items():
        line = f"{name:<22}{cpu:8.1f}{wall:8.1f}{memory:7.0f}"
        line += f"{cpu / costs['odc_graph'][0]:8.2f}{cpu / costs['stackstac_graph'][0]:13.2f}"
        if values[name] is not None:
            one_only, median, p99 = compare(values["mapper_block"], values[name])
            line += f"{one_only:11.1e}{median * 1e4:11.2f}{p99 * 1e4:9.2f}"
        lines.append(line)
    return "\n".join(lines) + "\n"
