"""The memory that a tile is estimated to need, against what a process that computes it really takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from region import Region, write_weights

from mapper.synthetic.scenes import write_scenes

CHILD = """
import json, sys
from pathlib import Path

import torch

from mapper.plan.context import RunOptions
from mapper.plan.memory import memory_bytes
from mapper.plan.job import prepare_job
from mapper.plan.task_table import TaskTable
from mapper.run.runner import prepare_process
from mapper.run.map_tile import compute_tile

torch.set_num_threads(1)
job = prepare_job(Path(sys.argv[1]), options=RunOptions(device="cpu", read_threads=4))
task = job.plan.tasks[0]
estimated = float(memory_bytes(job.context, TaskTable.of([task]))[0])
prepare_process(job.context)


def memory(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))


Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
before = memory("VmRSS")
compute_tile(job.context, task)
print(json.dumps({"estimated": estimated, "taken": memory("VmHWM") - before, "items": len(task.guide)}))
"""
_LOOSE = 8
"""An estimate so many times too large would leave most of a worker idle."""


pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is Linux's")


@pytest.fixture(scope="module")
def large_region(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    write_scenes(folder / "catalog", size_px=560, seed=5, tile_px=512, chunk_px=256, dates=2, margin_px=160)
    return Region(folder)


@pytest.mark.parametrize("model", ["bicubic", "msg"])
def test_a_tile_takes_no_more_memory_than_estimated_and_not_far_less(large_region, tmp_path, model):
    region = large_region.copy(tmp_path)
    weights = {"name": "tiny", "weights": str(write_weights(tmp_path))} if model == "msg" else {"name": model}
    region.change(model=weights, grid__tile=512)
    answer = subprocess.run(
        [sys.executable, "-c", CHILD, str(region.map)], check=True, capture_output=True, text=True, timeout=300
    )
    found = json.loads(answer.stdout.splitlines()[-1])
    assert found["taken"] <= found["estimated"], found
    assert found["estimated"] <= _LOOSE * found["taken"], found
