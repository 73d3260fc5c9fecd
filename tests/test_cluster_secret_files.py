"""Files of secrets become variables of the process that reads them."""

import os
import subprocess
import sys

import pytest

from mapper.cluster.secret_files import FOLDERS, PRELOAD, load_secrets
from mapper.errors import InputError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder as Kubernetes mounts a Secret: links into a hidden folder that is replaced as a whole."""
    hidden = tmp_path / "..data"
    hidden.mkdir()
    for name, content in {"ONE_KEY": "first\n", "OTHER_KEY": "two words", "key.json": "{}", "lower": "no"}.items():
        (hidden / name).write_text(content)
        (tmp_path / name).symlink_to(hidden / name)
    for name in ("ONE_KEY", "OTHER_KEY", "lower"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(FOLDERS, str(tmp_path))
    yield tmp_path
    for name in ("ONE_KEY", "OTHER_KEY"):
        os.environ.pop(name, None)


def test_a_file_is_the_variable_of_its_name(folder):
    del folder
    assert load_secrets() == ["ONE_KEY", "OTHER_KEY"]
    assert (os.environ["ONE_KEY"], os.environ["OTHER_KEY"]) == ("first", "two words")
    assert "lower" not in os.environ


def test_what_is_set_already_stays(folder, monkeypatch):
    del folder
    monkeypatch.setenv("ONE_KEY", "mine")
    assert load_secrets() == ["OTHER_KEY"]
    assert os.environ["ONE_KEY"] == "mine"


def test_without_folders_nothing_is_read(monkeypatch):
    monkeypatch.delenv(FOLDERS, raising=False)
    assert load_secrets() == []


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"a\0b", b"x" * 70_000])
def test_what_is_no_secret_is_refused_without_being_shown(folder, content):
    if content is None:
        (folder / "ONE_KEY").unlink()
        (folder / "ONE_KEY").symlink_to(folder / "nowhere")
    else:
        (folder / "ONE_KEY").write_bytes(content)
    with pytest.raises(InputError) as refused:
        load_secrets()
    assert "two words" not in str(refused.value)


def test_the_preload_of_a_worker_knows_the_hook_that_dask_calls(folder):
    code = f"import importlib, os; importlib.import_module({PRELOAD!r}).dask_setup(None); print(os.environ['ONE_KEY'])"
    environment = {name: value for name, value in os.environ.items() if name != "ONE_KEY"} | {FOLDERS: str(folder)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "first\n"
