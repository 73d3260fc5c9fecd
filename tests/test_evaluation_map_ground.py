"""A finished map of heights is scored by land cover of its guide, by slope, and across the edges of its tiles."""

import numpy as np
import pytest
import yaml
from kinds_of_maps import write_catalog
from matplotlib.image import imread
from region import run_json, run_mapper
from scenes import box_at, write_item

from mapper.evaluation.map_ground import find_edges
from mapper.evaluation.score_map import _blocks
from mapper.grid import Window
from mapper.spec import read_spec

CRS, WEST, NORTH = "EPSG:32631", 500_040.0, 5_540_040.0
ROWS = COLS = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A map of 10 m from a surface of 30 m, with its truth and a mask of trees, run with bicubic."""
    folder = tmp_path_factory.mktemp("heights")
    y, x = np.mgrid[:ROWS, :COLS]
    ground = (20 * np.sin(y / 25) + 0.5 * x - 12).astype(np.float32)
    codes = np.where((x // 30 + y // 30) % 2, 7, 1).astype(np.uint8)
    surface = ground + np.where(codes == 7, 6, 0)
    coarse = surface.reshape(ROWS // 3, 3, COLS // 3, 3).mean((1, 3)).astype(np.float32)
    fine, wide = box_at(CRS, WEST, NORTH, size=(ROWS, COLS), step=10), box_at(CRS, WEST, NORTH, size=40, step=30)
    parts = {"surface": (coarse, wide), "ground": (ground, fine), "cover": (codes, fine)}
    items = [
        write_item(folder, name, "2024-06-01T00:00:00Z", {"data": part}, collection=name)
        for name, part in parts.items()
    ]
    write_catalog(folder, items)
    heights = {"bands": {"dtm": "data"}, "units": "m", "calibration": "identity", "dtype": "float32", "nodata": None,
               "resampling": "bilinear", "reducer": "mean", "group_by": [], "vertical_datum": "EPSG:3855"}  # fmt: skip
    cover = {"bands": {"tree": {"asset": "data", "classes": [7]}}, "units": "1", "calibration": "identity",
             "dtype": "uint8", "nodata": 0, "resampling": "nearest", "reducer": "mean", "group_by": []}  # fmt: skip
    collections = {
        "surface": heights | {"heights": "surface"},
        "ground": heights | {"heights": "ground"},
        "cover": cover,
    }
    provider = {"extends": "demo", "name": "heights", "collections": collections}
    (folder / "provider.yaml").write_text(yaml.safe_dump(provider))
    lon, lat = fine.extent.to_crs("EPSG:4326").centroid.coords[0]
    content = {
        "preset": "elevation", "name": "heights",
        "area": {"bbox": [lon - 0.004, lat - 0.003, lon + 0.004, lat + 0.003]},
        "period": {"start": "2024-01-01", "end": "2024-12-31"},
        "grid": {"kind": "projected", "crs": CRS, "resolution": 10, "tile": 36, "chunk": 12},
        "catalog": {"provider": "provider.yaml", "href": "catalog.json"},
        "source": {"collection": "surface", "variable": "dtm"},
        "guide": {"layers": [{"collection": "cover", "bands": ["tree"], "static": True}]},
        "model": {"name": "bicubic"}, "consistency": "none", "store": "heights.icechunk",
    }  # fmt: skip
    (folder / "map.yaml").write_text(yaml.safe_dump(content))
    code, said = run_mapper("run", folder / "map.yaml")
    assert code == 0, said
    return folder


def test_heights_are_scored_by_what_stands_on_them(folder):
    scores = run_json("evaluate", folder / "map.yaml", "--truth", "ground:dtm")
    assert {"nmad", "le90", "le95", "median_error"} < set(scores["methods"]["map"])
    terrain = scores["terrain"]["map"]
    assert set(terrain["cover"]) == {"bare", "tree"}
    assert terrain["cover"]["tree"]["bias"] > 4
    assert terrain["cover"]["bare"]["bias"] < 2
    assert terrain["cover"]["tree"]["n"] + terrain["cover"]["bare"]["n"] == scores["methods"]["map"]["n"]
    assert terrain["slope_rmse"] > 1
    assert 0.5 < terrain["seam_ratio"] < 1.1
    assert set(terrain["slope"]) <= {"0-2°", "2-5°", "5-10°", "10-20°", "> 20°"}
    # a stored map has steps of a centimetre
    assert scores["terrain"]["bicubic"]["slope_rmse"] == pytest.approx(terrain["slope_rmse"], abs=0.01)


def test_hillshades_and_errors_by_class_are_drawn(folder, tmp_path):
    code, said = run_mapper("evaluate", folder / "map.yaml", "--truth", "ground:dtm", "--plots", tmp_path)
    assert code == 0, said
    for word in ("shape of the ground", "by land cover", "by true slope", "NMAD"):
        assert word in said
    for name in ("relief.png", "classes.png"):
        assert imread(tmp_path / name).std() > 0.05
    assert not (tmp_path / "scatter.png").exists()


def test_blocks_of_heights_end_inside_of_tiles(folder):
    grid = read_spec(folder / "map.yaml").map_grid
    windows = list(_blocks(grid, shifted=True))
    assert sum(w.shape[0] * w.shape[1] for w in windows) >= grid.shape[0] * grid.shape[1]
    assert all(w.top % grid.scale == 0 and w.left % grid.scale == 0 for w in windows)
    rows, cols = find_edges(grid, Window(top=18, left=36, bottom=80, right=72))
    assert rows.tolist() == [36 - 18, 72 - 18]
    assert cols.tolist() == []
