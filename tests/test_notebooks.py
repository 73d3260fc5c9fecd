"""Notebooks run from the first cell to the last on the synthetic region."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from region import write_weights

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs(path, made_region, tmp_path):
    region = made_region.copy(tmp_path / "demo")
    write_weights(region.folder)
    region.change(model={"name": "tiny", "weights": "tiny.safetensors"})
    (tmp_path / "notebooks").mkdir()
    shutil.copy(path, tmp_path / "notebooks")
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] for cell in cells), "notebooks are kept without outputs"
    script = tmp_path / "notebooks" / "script.py"
    script.write_text("\n\n".join("".join(cell["source"]) for cell in cells))
    answer = subprocess.run(
        [sys.executable, script.name], cwd=script.parent, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert "0 missing" in answer.stdout
    assert "Mg ha-1" in answer.stdout
