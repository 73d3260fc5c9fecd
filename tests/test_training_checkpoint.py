"""A training goes on where it was killed, to the bit, and never as another training."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from train_tiny import train_tiny

from mapper.errors import InputError
from mapper.models.card import read_card
from mapper.spec import ModelSpec
from mapper.training.checkpoint import Checkpoint, RunFolder

SCRIPT = Path(__file__).with_name("train_tiny.py")
STEPS = 60
NAMES = ("tiny", "tiny.before-1", "tiny.before-2")
FACTS = {"config": {"steps": 3, "lr": 0.1}, "learnt": {"0 here": "abc"}}


def make_checkpoint(step=5):
    return Checkpoint(step=step, tensors={"model.weight": torch.arange(4.0) / 3}, progress={"rows": [{"loss": 1 / 3}]})


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "a.run")
    folder.begin(FACTS)
    return folder


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    killed = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(tmp_path / "killed"), str(STEPS)], stdout=subprocess.PIPE, text=True
    )
    for line in killed.stdout:
        if line == "step 23\n":
            os.kill(killed.pid, signal.SIGKILL)
            break
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    reached = json.loads((tmp_path / "killed/tiny.run/checkpoint.json").read_text())["step"]
    assert 20 <= reached < STEPS
    assert not (tmp_path / "killed/tiny.safetensors").exists()
    resumed, whole = (train_tiny(tmp_path / name, STEPS) for name in ("killed", "whole"))
    assert resumed.sha256 == whole.sha256
    curves = [(tmp_path / name / "tiny.run/tiny.curves.csv").read_text() for name in ("killed", "whole")]
    assert curves[0] == curves[1]


def test_an_ensemble_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    changes = {"architecture": "msg", "loss": "mse", "options": {"width": 2, "members": 2}}
    whole = train_tiny(tmp_path / "whole", 10, **changes)
    monkeypatch.setattr(RunFolder, "save", fail_after(RunFolder.save, 1))
    with pytest.raises(KeyboardInterrupt):
        train_tiny(tmp_path / "cut", 10, **changes)
    monkeypatch.undo()
    assert train_tiny(tmp_path / "cut", 10, **changes).sha256 == whole.sha256


def fail_after(save, times):
    saved = []

    def fail(self, checkpoint):
        if len(saved) == times:
            raise KeyboardInterrupt
        saved.append(checkpoint.step)
        save(self, checkpoint)

    return fail


def test_a_finished_training_is_left_alone_until_it_is_described_otherwise(tmp_path):
    first = train_tiny(tmp_path, 5)
    written = (tmp_path / "tiny.safetensors").stat().st_mtime_ns
    assert train_tiny(tmp_path, 5, validate_every=2) == first
    assert (tmp_path / "tiny.safetensors").stat().st_mtime_ns == written
    assert train_tiny(tmp_path, 6).sha256 != first.sha256


def test_weights_that_were_lost_are_written_again_without_training(tmp_path):
    first = train_tiny(tmp_path, 5)
    (tmp_path / "tiny.safetensors").unlink()
    assert train_tiny(tmp_path, 5).sha256 == first.sha256


def test_what_is_saved_comes_back(run):
    run.save(make_checkpoint(5))
    run.save(make_checkpoint(10))
    saved = run.load()
    assert saved.step == 10
    assert saved.progress == {"rows": [{"loss": 1 / 3}]}
    np.testing.assert_array_equal(saved.tensors["model.weight"], torch.arange(4.0) / 3)
    assert sorted(path.name for path in run.path.iterdir()) == ["checkpoint.json", "step-0000010.safetensors"]


def test_a_training_under_way_does_not_change(run):
    run.save(make_checkpoint())
    changed = {"config": {"steps": 4, "lr": 0.1}, "learnt": {"0 there": "abc"}}
    with pytest.raises(InputError, match=r"config.steps was 3, is 4.*learnt.0 here was \"abc\".*delete the folder"):
        RunFolder(run.path).begin(changed)
    assert RunFolder(run.path).begin(FACTS) is None


def test_a_finished_training_gives_way_to_another(run):
    run.save(make_checkpoint())
    run.finish("sha")
    assert run.weights == "sha"
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    name = run.begin(FACTS | {"config": {}})
    assert run.load() is None
    aside = run.path.with_name(f"{name}.run")
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == before
    assert RunFolder(aside).weights == "sha"


@pytest.mark.parametrize("name", ["checkpoint.json", "step-0000005.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"\x80\x04."])
def test_damage_is_told_with_the_way_out(run, name, content):
    run.save(make_checkpoint())
    path = run.path / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    elif name == "checkpoint.json":
        assert run.load() is None
        return
    with pytest.raises(InputError, match=f"delete {run.path}"):
        run.load()


def test_no_pickle_is_written(tmp_path):
    train_tiny(tmp_path, 5)
    assert {path.suffix for path in (tmp_path / "tiny.run").iterdir()} == {".json", ".safetensors", ".csv", ".png"}


def test_a_mistyped_training_deletes_nothing(tmp_path):
    """Twice other steps under one name: the earlier ones stay, whole, under names of their own."""
    first = train_tiny(tmp_path, 5)
    kept = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    second, third = train_tiny(tmp_path, 6), train_tiny(tmp_path, 7)
    read = {name: read_card(ModelSpec(name=name, weights=tmp_path / f"{name}.safetensors")).sha256 for name in NAMES}
    assert list(read.values()) == [third.sha256, first.sha256, second.sha256]
    for path, content in kept.items():
        first_part, *inside = path.parts
        assert (tmp_path / first_part.replace("tiny", "tiny.before-1")).joinpath(*inside).read_bytes() == content, path


def test_weights_from_elsewhere_are_not_written_over(tmp_path):
    (tmp_path / "tiny.safetensors").write_bytes(b"of somebody")
    (tmp_path / "tiny.json").write_text("a card")
    train_tiny(tmp_path, 5)
    assert (tmp_path / "tiny.before-1.safetensors").read_bytes() == b"of somebody"
    assert (tmp_path / "tiny.before-1.json").read_text() == "a card"


def test_a_folder_that_takes_no_files_is_told_before_the_first_step(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written to"):
        RunFolder(tmp_path / "file" / "a.run").begin(FACTS)
