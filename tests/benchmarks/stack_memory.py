"""Memory of a tile of several dates, against what a plan expects. Run with -m benchmark: minutes on two cores.

An untrained network takes what a trained one does.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
from kinds_of_maps import BANDS, CRS, ORIGIN, write_catalog, write_map
from scenes import box_at, write_item
from scipy.ndimage import gaussian_filter
from test_run_memory import CHILD

from mapper.models.burst_fusion import BurstFusion
from mapper.models.contract import Contract, Input
from mapper.models.stack_model import adapt
from mapper.models.weights import save_model

SIZE = 640
MIDDLE = [15.03, 50.52, 15.035, 50.523]
MOST = 1.4


def _write_scenes(folder, dates):
    """Dates of one ground with different noise."""
    random, box = np.random.default_rng(0), box_at(CRS, *ORIGIN, size=SIZE)
    ground = gaussian_filter(random.standard_normal((len(BANDS), SIZE, SIZE)), (0, 1.5, 1.5)) * 2000 + 2600
    mask, items = np.full((SIZE, SIZE), 4, np.uint8), []
    for number in range(dates):
        numbers = np.clip(ground + random.normal(0, 40, ground.shape), 1, 20_000).astype(np.uint16)
        assets = {band: (numbers[k], box) for k, band in enumerate(BANDS)} | {"SCL": (mask, box)}
        facts = {"eo:cloud_cover": 5.0 + number, "s2:processing_baseline": "05.10", "platform": "sentinel-2a"}
        items.append(write_item(folder, f"S2_{number}", f"2024-06-{number + 1:02}T10:00:00Z", assets, **facts))
    write_catalog(folder, items)


def _save_network(folder):
    network = BurstFusion(0, 2)
    source = Input(role="source", dates=0, px=0, cells_px=network.cells_px)
    contract = Contract(
        model="burst-fusion", inputs=(source,), outputs=(), scale=2, halo_px=network.halo_px, band_sd=True
    )
    save_model(adapt(network, contract), folder / "untrained.safetensors", options={})
    return {"name": "untrained", "weights": "untrained.safetensors"}


@pytest.mark.benchmark
@pytest.mark.parametrize("bands", [1, 2, 4])
@pytest.mark.parametrize("model", ["burst-fusion", "burst"])
def test_a_tile_of_several_dates_takes_what_is_expected(tmp_path, model, bands):
    _write_scenes(tmp_path, 4)
    path = write_map(
        tmp_path,
        "memory",
        preset="sentinel2-multi",
        area={"bbox": MIDDLE},
        grid={"kind": "native", "crs": CRS, "resolution": 5, "tile": 128, "chunk": 64},
        source={"dates": 4, "bands": list(BANDS[:bands])},
        model=_save_network(tmp_path) if model == "burst-fusion" else {"name": model},
    )
    answer = subprocess.run([sys.executable, "-c", CHILD, str(path)], check=True, capture_output=True, text=True)
    found = json.loads(answer.stdout.splitlines()[-1])
    expected, taken = found["estimated"], found["taken"]
    print(f"{model}, {bands} bands: {taken / 2**20:.0f} MiB, expected {expected / 2**20:.0f}")  # noqa: T201
    assert taken <= expected <= MOST * taken
