"""Samples on a place whose neighbourhood was trained on: the upper rows of NAIP west and a chip of the country.

Trains ``flow-s2-x4`` on from the weights that ship, then scores it as ``mapper evaluate generative`` does; nothing of
the lower rows, and no town, is trained on. ``pytest -s -m benchmark tests/benchmarks/flow_protocol.py``; half an hour
of a core.
"""

import json
import sys
from importlib import resources

import pytest
import rasterio
import yaml
from shared import SHARED, needs_shared
from typer.testing import CliRunner

import mapper
from mapper.cli.program import app
from mapper.models.card import weights_path
from mapper.spec import ModelSpec

DATA = SHARED / "super_resolution"
UPPER_ROWS = 256
RECIPE = resources.files("mapper") / "training" / "recipes" / "flow-s2-x4.yaml"
IMAGES = {"kind": "bursts", "images": "images", "size_px": 160, "scale": 4, "dates": 1}
METHODS = ("bicubic", "back-projection-best", "flow-s2-1", "flow-s2-4", "flow-s2-4-mean", "flow-s2-8")


def write_images(folder):
    """Write the upper rows of each summer, and the country with its first band twice, as four bands each."""
    folder.mkdir()
    sources = [(path, slice(0, UPPER_ROWS), [1, 2, 3, 4]) for path in sorted((DATA / "naip/west").glob("*.tif"))]
    sources += 3 * [(DATA / "spacenet7/03_rgb.png", slice(None), [1, 2, 3, 1])]
    for number, (path, rows, bands) in enumerate(sources):
        with rasterio.open(path) as file:
            image = file.read(bands)[:, rows]
        shape = {"count": 4, "height": image.shape[1], "width": image.shape[2], "dtype": image.dtype}
        with rasterio.open(folder / f"{number:02d}.tif", "w", driver="GTiff", **shape) as file:
            file.write(image)


def describe_training():
    clean = {"seeds": "400-529", "noise": [0, 0.01], "psf_sd": [0.5, 0.53]}
    recipe = yaml.safe_load(RECIPE.read_text())
    return recipe | {
        "start": str(weights_path(ModelSpec(name="flow-s2-x4"))),
        "data": [IMAGES | {"seeds": "0-389", "noise": [0, 0.03], "psf_sd": [0.47, 0.56]}, IMAGES | clean],
        "validation": [IMAGES | {"seeds": "1000-1009", "noise": [0, 0.03], "psf_sd": [0.47, 0.56]}],
        "steps": 3500,
    }


@pytest.mark.benchmark
@pytest.mark.timeout(0)
@needs_shared
def test_samples_of_a_place_whose_neighbourhood_was_seen(tmp_path):
    write_images(tmp_path / "images")
    (tmp_path / "training.yaml").write_text(yaml.safe_dump(describe_training()))
    mapper.train(tmp_path / "training.yaml", out=tmp_path / "work" / "weights", progress=False)
    chosen = [part for name in METHODS for part in ("--method", name)]
    arguments = ["evaluate", "generative", "--data", str(DATA), "--work", str(tmp_path / "work"), "--json", *chosen]
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 0, outcome.output
    sys.stdout.write((tmp_path / "work" / "suite.md").read_text())
    assert json.loads((tmp_path / "work" / "suite.json").read_text())
