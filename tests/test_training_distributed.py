"""Two processes train what one trains."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from train_tiny import train_tiny

from mapper.errors import InputError
from mapper.training.distributed import Ranks, is_first_process

SCRIPT = Path(__file__).with_name("train_tiny.py")
CPU = torch.device("cpu")


def test_two_processes_give_the_weights_of_one(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    ran = subprocess.run(
        [*command, str(SCRIPT), str(tmp_path / "two"), "12", "msg"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    one = train_tiny(tmp_path / "one", 12, architecture="msg", loss="mse", options={"width": 4})
    alone, shared = (load_file(tmp_path / name / "tiny.safetensors") for name in ("one", "two"))
    for name, weight in alone.items():
        np.testing.assert_allclose(shared[name], weight, atol=1e-3, err_msg=name)
    rows = [(tmp_path / name / "tiny.run/tiny.curves.csv").read_text().splitlines() for name in ("one", "two")]
    losses = [[float(row.split(",")[1]) for row in some[1:]] for some in rows]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    digests = set(re.findall(r"[0-9a-f]{64}", ran.stdout))
    assert digests != {one.sha256}
    assert len(digests) == 1


def test_a_batch_is_shared_without_rest():
    shares = [Ranks(device=CPU, rank=rank, world=3).share(8) for rank in range(3)]
    assert sorted(place for share in shares for place in share) == list(range(8))
    with pytest.raises(InputError, match="cannot be shared by 3"):
        Ranks(device=CPU, world=3).share(2)


def test_one_process_waits_for_nobody():
    ranks = Ranks(device=CPU)
    ranks.wait()
    with ranks.one_first():
        assert ranks.sum(torch.tensor(3.0)) == 3
    assert is_first_process()
