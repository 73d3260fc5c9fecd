"""Notebooks run from the first cell to the last on a small synthetic region, and show what they promise."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from region import Region

from mapper.execute.executors import SerialExecutor
from mapper.plan.job import prepare_job
from mapper.run.runner import run_plan
from mapper.synthetic.elevation import write_rasters
from mapper.synthetic.revisits import write_revisits
from mapper.synthetic.scenes import write_scenes

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PLAYER = Path(__file__).with_name("notebook_player.py")
PICTURE = r"picture of \d+ x \d+ px"
SHOWN = {
    "01_regional_run": (
        "<b>Map demo</b>", r"<b>\d+ items</b>", r"agb_sd[^\[]*dask\.array", "<b>Plan of 2 tiles</b>",
        "<b>Run of 2 tiles</b>", "state +complete", "bicubic", PICTURE, "1 of 1 tiles of 1 levels made",
        "2 ok, 0 empty, 0 failed, 0 missing", r"agb \d.* Mg ha-1",
    ),
    "02_train_and_evaluate": (
        "RMSE on blocks held out", "<b>Run of 2 tiles</b>", "against truth:agb, Mg ha-1", "intervals of tiny", PICTURE,
    ),
    "03_analyse_a_served_map": (
        "http://127.0.0.1:", r"\nset\(\)", "fully_correlated", "by mtg-demo on", PICTURE, "snapshot", "GTiff",
    ),
    "04_cluster": (
        "DaskCluster, PodDisruptionBudget", "look at it: http://127.0.0.1", "<b>Run of 2 tiles</b>", "2 workers",
        "2 ok, 0 empty, 0 failed, 0 missing",
    ),
    "05_elevation": (
        "1 items of collection surface", "preset: elevation", r"<b>Run of \d+ tiles</b>", "against truth:elevation, m",
        "nmad", PICTURE, "below: ", "has heights in EPSG:3855, the map in EPSG:4979", "higher by 45.80 m",
    ),
    "06_sentinel2": (
        "<b>Map demo</b>", r"anchor: 2024-0", r"right \(px\)", r"<b>Run of 1 tiles</b>", "against truth-5m:B04, 1",
        PICTURE, "burst-fusion-x2", "preset: sentinel2-20m",
    ),
    "07_uncertainty": (
        "flow-s2-x4", "<b>Run of 1 tiles</b>", "'90%': 0", "hallucination, own mask", "samples +0",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Notebooks and ``demo/`` as at the top of a checkout: one small set of scenes for all of them."""
    folder = tmp_path_factory.mktemp("workplace")
    shutil.copytree(NOTEBOOKS, folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    write_scenes(folder / "demo/catalog", size_px=240, seed=11, tile_px=128, chunk_px=64, dates=2, margin_px=160)
    region = Region(folder / "demo")
    west, south, east, north = yaml.safe_load(region.map.read_text())["area"]["bbox"]
    region.change(area={"bbox": [west, north - 0.46 * (north - south), east, north]})  # the upper two of four tiles
    return folder


@pytest.fixture
def map_is_made(workplace):
    """The demo's map, unless the first notebook has made it."""
    job = prepare_job(workplace / "demo/map.yaml")
    assert run_plan(job.plan, job.context, job.spec.store, SerialExecutor()).exit_code == 0


@pytest.fixture
def play(workplace, tmp_path):
    """Play a notebook in a process of its own: ``play("04_cluster")`` is what it shows."""

    def play(name):
        environment = os.environ | {"MPLBACKEND": "agg", "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
        shown, said = tmp_path / "shown", tmp_path / "said"
        with shown.open("w") as out, said.open("w") as err:
            process = subprocess.Popen(
                [sys.executable, PLAYER, f"{name}.ipynb"],
                cwd=workplace / "notebooks", stdout=out, stderr=err, env=environment, start_new_session=True,
            )  # fmt: skip
            try:
                process.wait()
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # what a notebook that failed left behind
        assert process.returncode == 0, said.read_text()
        return shown.read_text()

    return play


def check(name, text):
    assert [words for words in SHOWN[name] if not re.search(words, text)] == []


def test_a_map_is_made_step_by_step(play):
    check("01_regional_run", play("01_regional_run"))


def test_a_network_is_trained_and_better_than_interpolation(play, workplace):
    check("02_train_and_evaluate", play("02_train_and_evaluate"))
    scores = json.loads((workplace / "demo/weights/tiny.json").read_text())["properties"]["mapper:training"]["scores"]
    assert scores["model"]["rmse"] < 0.8 * scores["bicubic"]["rmse"]


@pytest.mark.usefixtures("map_is_made")
def test_a_served_map_is_analysed_without_what_made_it(play):
    text = play("03_analyse_a_served_map")
    check("03_analyse_a_served_map", text)
    totals = ast.literal_eval(re.search(r"\{'server'.*\}", text)[0])
    assert totals["server"] == pytest.approx(totals["array"], rel=1e-6)
    assert totals["array"] > 0


def test_a_map_is_made_on_a_cluster(play):
    check("04_cluster", play("04_cluster"))


def test_bare_earth_is_mapped_from_a_folder_of_rasters(play, workplace):
    write_rasters(workplace / "demo-elevation/catalog", seed=900, size_px=120, tile_px=128, chunk_px=64)
    check("05_elevation", play("05_elevation"))


def test_dates_become_a_map_and_20_m_bands(play, workplace):
    folder = workplace / "demo-sentinel2-multi"
    write_revisits(folder / "catalog", seed=5000, size_px=64, tile_px=64, chunk_px=32, margin_px=40)
    for name, model in (("map", "bilinear"), ("bands", "bicubic")):  # fast: networks look far around
        content = yaml.safe_load((folder / f"{name}.yaml").read_text()) | {"model": {"name": model}}
        content.pop("target", None)
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    text = play("06_sentinel2")
    check("06_sentinel2", text)
    (dates,) = re.findall(r"\n\s*<th>8</th>(.*?)</tr>", text, re.DOTALL)
    one, plain, burst, ours = (float(cell) for cell in re.findall(r"<td>([\d.]+)</td>", dates))
    assert plain < one < burst < ours


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs_and_say_why(path):
    assert path.stem in SHOWN, "every notebook is played"
    cells = json.loads(path.read_text())["cells"]
    assert cells[0]["cell_type"] == "markdown"
    for cell in cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert not re.search(r"/(home|tmp|root|Users)/", "".join(cell["source"]))


def test_samples_and_deviations_of_a_generative_map(play, workplace):
    folder = workplace / "demo-sentinel2-generative"
    write_revisits(folder / "catalog", seed=6000, scale=4, size_px=192, tile_px=192, chunk_px=64, margin_px=40)
    text = play("07_uncertainty")
    check("07_uncertainty", text)
    errors = ast.literal_eval(re.search(r"\{'mean': [^}]*\}", text)[0])
    assert errors["mean"] < errors["sample"]
    held = ast.literal_eval(re.search(r"\{'68%'[^}]*\}", text)[0])
    assert held["68%"] < held["90%"] < held["95%"]
