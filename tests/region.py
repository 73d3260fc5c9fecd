"""A small synthetic region on disk, and the command line run in this process: for tests from end to end."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from contracts import make_contract
from typer.testing import CliRunner

from mapper.cli import app
from mapper.errors import MapperError
from mapper.models.contract import BandNorm
from mapper.models.model import GuidedModel
from mapper.models.msg import MSG
from mapper.models.weights import save_model

JULY = {"layers": [{"collection": "sentinel-2-l2a", "bands": ["B04", "B08"]}], "seasons": {"july": [7]}}
"""A guide that is read in a tenth of the time of the region's own."""
JULY_CHANNELS = {"july_B04": ("1", 0.06), "july_B08": ("1", 0.3)}
SEEN = {
    "layers": [*JULY["layers"], {"collection": "sentinel-1-rtc", "bands": ["vv"]}], "seasons": {"early": [5, 7]}
}  # fmt: skip
"""Two dates and radar: items of all collections and of both kinds of processing are used."""
SEEN_CHANNELS = {"early_B04": ("1", 0.06), "early_B08": ("1", 0.3), "early_vv": ("dB", -11.0)}
CHANNELS = {
    "july_B02": ("1", 0.05), "july_B03": ("1", 0.07), "july_B04": ("1", 0.06), "july_B05": ("1", 0.1),
    "july_B08": ("1", 0.3), "july_B11": ("1", 0.2), "july_B12": ("1", 0.1), "july_vv": ("dB", -11.0),
    "july_vh": ("dB", -17.0),
}  # fmt: skip


@dataclass(frozen=True)
class Region:
    """A folder with ``catalog/`` and ``map.yaml``."""

    folder: Path

    @property
    def map(self):
        return self.folder / "map.yaml"

    @property
    def store(self):
        return self.folder / "map.icechunk"

    def copy(self, folder):
        """The same region elsewhere; catalogues may be changed there."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Region(folder)

    def change(self, **parts):
        """Change ``map.yaml``; ``grid__tile=512`` changes ``grid: {tile: 512}``."""
        content = yaml.safe_load(self.map.read_text())
        for path, value in parts.items():
            *parents, key = path.split("__")
            part = content
            for parent in parents:
                part = part.setdefault(parent, {})
            part[key] = value
        self.map.write_text(yaml.safe_dump(content))
        return self

    def items(self, prefix):
        """Item files of a collection's ids that start with a prefix."""
        return sorted(path for path in (self.folder / "catalog").rglob("*.json") if path.stem.startswith(prefix))


def write_weights(folder, *, channels=CHANNELS, scale=10, seed=3):
    """An untrained MSG whose last layer says something: no worse for a test of seams than a trained one."""
    torch.manual_seed(seed)
    network = MSG(len(channels), scale, width=4)
    torch.nn.init.normal_(network.last.weight, std=0.1)
    contract = make_contract(
        model="msg",
        guide=tuple(BandNorm(name=n, units=u, mean=m, sd=0.05 if u == "1" else 3.0) for n, (u, m) in channels.items()),
        source_units="Mg ha-1", source_mean=80.0, source_sd=60.0,
        target="agb", target_units="Mg ha-1", scale=scale, halo_px=network.halo_px,
    )  # fmt: skip
    path = folder / "tiny.safetensors"
    save_model(GuidedModel(network, contract), path, options={"width": 4})
    return path


def run_mapper(*arguments):
    """Run a command; returns exit code and what was said, as the program would."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, MapperError):
        return result.exception.exit_code, str(result.exception)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def run_json(*arguments):
    """Run a command that must succeed and parse what it printed."""
    result = CliRunner().invoke(app, [str(a) for a in (*arguments, "--json")], catch_exceptions=False)
    assert result.exit_code in (0, 1), result.output
    return json.loads(result.stdout)
