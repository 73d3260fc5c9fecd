"""The Dockerfiles, as far as they can be judged without an engine."""

import re
import shlex
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

from mapper import __version__
from mapper.cluster.kubernetes.pods import USER

ROOT = Path(__file__).parents[1]
DOCKERFILES = sorted((ROOT / "deploy" / "docker").glob("Dockerfile.*"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

pytestmark = pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.suffix[1:])


def instructions(path):
    """(INSTRUCTION, rest) of every instruction, continued lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def values(path, name):
    return [rest for instruction, rest in instructions(path) if instruction == name]


def is_sent(path):
    """Whether .dockerignore lets a path into the build."""
    sent = True
    for rule in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = rule.removeprefix("!")
        if rule and not rule.startswith("#") and any(fnmatch(part, pattern) for part in (path, path.split("/")[0])):
            sent = rule.startswith("!")
    return sent


def test_images_have_bare_names_and_fixed_versions(path):
    for image in values(path, "FROM"):
        assert re.fullmatch(r"python:3\.\d+-slim( AS [a-z]+)?", image), image


def test_what_is_copied_exists_and_is_sent(path):
    stages = [image.split(" AS ")[1] for image in values(path, "FROM") if " AS " in image]
    for copy in values(path, "COPY"):
        *sources, _ = shlex.split(copy)
        if sources[0].startswith("--from="):
            assert sources[0].removeprefix("--from=") in stages
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert is_sent(source), source


def test_what_is_not_needed_is_not_sent(path):
    del path
    assert not any(is_sent(name) for name in ("tests", ".git", ".venv", "demo", "notebooks"))


def test_the_process_is_not_root_and_gets_signals(path):
    user = values(path, "USER")[-1]
    assert user == f"{USER}:{USER}"
    assert f"--uid {USER}" in path.read_text()
    assert instructions(path)[-2:] == [("ENTRYPOINT", '["tini", "--"]'), ("CMD", '["mapper", "--help"]')]
    after = [name for name, _ in instructions(path)][instructions(path).index(("USER", user)) :]
    assert not {"RUN", "COPY", "ADD"} & set(after)


def test_libraries_are_those_that_the_tests_passed_with(path):
    (install,) = [rest for rest in values(path, "RUN") if "requirements.txt" in rest]
    assert "-c constraints.txt" in install
    code = re.search(r'python -c "(.*?)"', install)[1]
    listed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    extras = ("worker", "serve") if path.suffix == ".cpu" else ("worker",)
    wanted = [each for extra in extras for each in PROJECT["optional-dependencies"][extra]]
    assert listed.splitlines() == PROJECT["dependencies"] + wanted
    pinned = {line.split("==")[0].lower() for line in (ROOT / "deploy" / "constraints.txt").read_text().splitlines()}
    assert {re.split(r"[<>=\[]", name)[0].lower() for name in listed.splitlines()} <= {
        name.replace("_", "-") for name in pinned
    }


def test_nothing_comes_from_a_named_host(path):
    assert "://" not in path.read_text()
    assert "ADD" not in {name for name, _ in instructions(path)}


def test_tags_in_the_text_are_of_this_version(path):
    tag = f"mapper:{__version__}" + ("-cuda" if path.suffix == ".cuda" else "")
    assert f"-t {tag} ." in path.read_text()
