"""A package of one's own brings a network, a metric and a loss; the page about it shows exactly its files."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from shutil import copytree

import pytest
import torch
from fastapi.testclient import TestClient
from receptive import measured_halo
from region import JULY, run_json, run_mapper

from mapper.evaluation.metric import METRICS
from mapper.models.architectures import ARCHITECTURES
from mapper.serve.app import make_app
from mapper.store.map_store import open_map
from mapper.training.losses import LOSSES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tests" / "example_package"
FILES = sorted(path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".toml", ".yaml"})
PAGE = (ROOT / "docs" / "extending.md").read_text()

STEPS = 20
CHILD = """
import json, sys
from region import run_json
print(json.dumps([run_json(*words) for words in json.loads(sys.argv[1])]))
"""


def install(folder):
    """Install the package into a folder, as an installer does: its modules, and what its metadata offers."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    copytree(PACKAGE / "residual_sr", folder / "residual_sr")
    info = folder / f"residual_sr-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return install(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def call(installed):
    """Run commands in a process that finds the package; returns what they printed as JSON."""
    search = os.pathsep.join(map(str, (installed, ROOT, ROOT / "tests")))

    def call(*commands):
        words = json.dumps([[str(word) for word in command] for command in commands])
        environment = os.environ | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", CHILD, words], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return call


@pytest.fixture(scope="module")
def finished(made_region, call, tmp_path_factory):
    """A region, its map made by the trained network of the package, the card of that, and its scores."""
    region = made_region.copy(tmp_path_factory.mktemp("example") / "region")
    recipe = region.folder / "train.yaml"
    recipe.write_text((PACKAGE / "train.yaml").read_text())
    region.change(guide=JULY, model={"name": "residual-mine", "weights": "weights/residual-mine.safetensors"})
    train = ("train", recipe, "--wald", region.map, "--steps", STEPS)
    card, report, scores = call(train, ("run", region.map), ("evaluate", region.map, "--truth", "truth:agb"))
    assert report["failed"] == 0
    return region, card, scores


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_page_shows_the_files(path):
    name = path.relative_to(PACKAGE).as_posix()
    shown = re.findall(rf"^`{re.escape(name)}`[^\n]*\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert shown == [path.read_text()], f"docs/extending.md shows another {name}"


def test_the_page_shows_no_other_code():
    assert len(re.findall(r"^```(?:python|toml|yaml)$", PAGE, re.MULTILINE)) == len(FILES)


@pytest.mark.parametrize("scale", [2, 5])
def test_the_receptive_field_is_the_measured_one(scale, monkeypatch):
    monkeypatch.syspath_prepend(str(PACKAGE))
    from residual_sr.network import ResidualNetwork  # noqa: PLC0415 - found by the line above

    network = ResidualNetwork(3, scale, width=4)
    assert network.halo_px == measured_halo(network, 3, scale)
    start, source = ResidualNetwork(3, scale), torch.randn(1, 1, 6, 6)
    bicubic = torch.nn.functional.interpolate(source, scale_factor=scale, mode="bicubic")
    torch.testing.assert_close(start(torch.randn(1, 3, 6 * scale, 6 * scale), source), bicubic, atol=0.1, rtol=0)


def test_the_network_is_trained_and_makes_a_map(finished):
    region, card, _ = finished
    assert card["properties"]["mapper:contract"]["model"] == "residual"
    config = card["properties"]["mapper:training"]["config"]
    assert (config["steps"], config["loss"]) == (STEPS, "charbonnier")
    assert open_map(region.store)["agb"].notnull().mean() > 0.5


def test_the_metric_is_among_the_scores(finished):
    scores = finished[2]["methods"]
    assert "residual-mine" in scores
    assert all(0 <= score["within_20"] <= 1 for score in scores.values())


def test_a_finished_map_is_verified_and_served_without_the_package(finished):
    region, *_ = finished
    assert "residual" not in ARCHITECTURES
    assert run_json("verify", region.map)["complete"]
    values = open_map(region.store)["agb"]
    row, col = (int(size) // 2 for size in values.shape)
    with TestClient(make_app(str(region.store))) as client:
        answer = client.get("/pixel", params={"x": float(values.x[col]), "y": float(values.y[row]), "crs": "EPSG:3035"})
    assert answer.json()["value"] == pytest.approx(float(values[row, col]))
    assert answer.json()["record"]["model"] == "residual-mine"


def test_nothing_of_it_is_known_where_it_is_not_installed(finished):
    region, *_ = finished
    code, text = run_mapper("train", region.folder / "train.yaml", "--wald", region.map, "--name", "another")
    assert (code, "unknown loss" in text) == (2, True)
    assert not {"residual", "within_20", "charbonnier"} & {*ARCHITECTURES, *METRICS, *LOSSES}
