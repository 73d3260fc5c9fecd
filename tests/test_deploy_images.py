"""The Dockerfiles, as far as they can be judged without an engine."""

import json
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
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


def test_images_have_bare_names_and_digests(path):
    bases = values(path, "FROM")
    for image in bases:
        assert re.fullmatch(r"python:3\.\d+-slim-[a-z]+@sha256:[0-9a-f]{64}( AS [a-z]+)?", image), image
    assert len({image.split(" AS ")[0] for image in bases}) == 1


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


def pins(path):
    """Version of each package in a file of pins, by name, and the hashes of its files."""
    lines = path.read_text().replace("\\\n", " ").splitlines()
    found = (re.fullmatch(r"([\w.-]+)==(\S+)((?:\s+--hash=sha256:[0-9a-f]{64})*)\s*", line) for line in lines)
    return {match[1].lower().replace("_", "-"): (match[2], match[3].split()) for match in found if match}


def test_libraries_are_those_that_the_tests_passed_with(path):
    kind = path.suffix[1:]
    tested, used = pins(ROOT / "deploy" / "constraints.txt"), pins(path.with_name(f"requirements.{kind}.txt"))
    extras = ("worker", "serve") if kind == "cpu" else ("worker",)
    wanted = PROJECT["dependencies"] + [each for extra in extras for each in PROJECT["optional-dependencies"][extra]]
    assert {re.split(r"[<>=\[]", name)[0].lower() for name in wanted} <= used.keys()
    differing = {name for name in used.keys() & tested.keys() if used[name][0] != tested[name][0]}
    assert differing == ({"torch"} if kind == "cpu" else set())
    assert used["torch"][0] == tested["torch"][0] + ("+cpu" if kind == "cpu" else "")
    assert any(name.startswith("nvidia-") for name in used) is (kind == "cuda")


def test_every_file_that_is_installed_is_known_by_its_hash(path):
    installs = [step for rest in values(path, "RUN") for step in rest.split("&&") if "pip install" in step]
    assert len(installs) == 3
    for step in installs:
        if "--no-index" in step:  # mapper's own wheel
            continue
        assert "--require-hashes" in step
        (file,) = re.findall(r"-r (\S+)", step)
        lines = [line for line in path.with_name(file).read_text().splitlines() if not line.startswith("#")]
        assert sum("==" in line for line in lines) == len(pins(path.with_name(file)))
        assert all(hashes for _, hashes in pins(path.with_name(file)).values())


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (None, 0)])
def test_a_container_is_healthy_while_its_page_is(path, status, code):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    (check,) = values(path, "HEALTHCHECK")
    command = json.loads(check.split("CMD", 1)[1])
    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.server_port if status else 1  # where nobody listens
        words = [word.replace("8080, 8787", f"{port},") for word in command[1:]]
        assert words != command[1:]
        assert subprocess.run([sys.executable, *words], check=False, capture_output=True).returncode == code
        server.shutdown()
        thread.join()


def test_nothing_comes_from_a_named_host(path):
    assert "://" not in path.read_text()
    assert "ADD" not in {name for name, _ in instructions(path)}


def test_tags_in_the_text_are_of_this_version(path):
    tag = f"mapper:{__version__}" + ("-cuda" if path.suffix == ".cuda" else "")
    assert f"-t {tag} ." in path.read_text()
