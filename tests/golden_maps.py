"""Maps whose identities the golden files pin, and what is measured of them.

What is asked here goes through the command line, the names of ``mapper`` and few other modules, since modules move.
"""

import hashlib
import json
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import yaml
from fastapi.testclient import TestClient
from golden_scenes import BOX, EAST, NORTH
from region import run_json

from mapper import Items, make_plan, open_map, read_spec
from mapper.plan.context import make_context
from mapper.plan.guide_context import make_guide_context
from mapper.serve.app import make_app

GOLDEN = Path(__file__).parent / "golden"
MAPS = ("projected", "native", "guided", "static", "override")
LITTLE = ("dkn", "ensemble", "fdkn", "msg", "pixelwise")
"""Untrained networks of ``golden/weights``: what is not shipped, and one for the finished map."""
TILE = 40

_ALL = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
_DEMO = ("B02", "B03", "B04", "B05", "B08", "B11", "B12")
_MONTHS = {"may": [5], "june": [6], "july": [7], "august": [8], "september": [9]}
RECORDED = (
    "task_id", "status", "reason", "run_id", "items", "model", "model_digest", "spec_digest", "grid_digest",
    "items_digest", "code_version", "environment", "worker", "device", "started_at", "attempts", "valid_px",
    "value_min", "value_mean", "value_max", "consistency_residual", "content_sha256", "guide_store",
)  # fmt: skip
"""Of a record: what does not tell how long something took."""
_YEAR = {"autumn": [9], "winter": [5], "spring": [6], "summer": [7]}
_TWO_BANDS = {"layers": [{"collection": "sentinel-2-l2a", "bands": ["B04", "B08"]}], "seasons": {"july": [6, 7, 8]}}


def read_golden(name):
    """One file of expectations."""
    return json.loads((GOLDEN / f"{name}.json").read_text())


def describe_map(catalog, *, model, store="map.icechunk", **changes):
    """A map of two tiles, or more of a wider area, as YAML holds it."""
    content = {
        "name": "golden",
        "area": {"bbox": list(BOX)},
        "period": {"start": "2020-01-01", "end": "2020-12-31"},
        "grid": {"crs": "EPSG:3035", "resolution": 10, "tile": TILE, "chunk": 20},
        "catalog": {"provider": "demo", "href": str(catalog)},
        "guide": _TWO_BANDS,
        "source": {
            "collection": "esa-cci-biomass", "variable": "agb", "sd": "agb_sd", "year": 2020, "resolution": 100,
        },
        "model": model,
        "store": store,
    }  # fmt: skip
    return content | changes


def map_for(model, catalog):
    """A map that a model fits: of the demo at scale 10 or 8, or of BioMassters."""
    if model in LITTLE:
        weights = str(GOLDEN / "weights" / f"{model}-little.safetensors")
        return describe_map(catalog, model={"name": f"{model}-little", "weights": weights})
    content = describe_map(catalog, model={"name": model})
    if model.endswith("-biomassters"):
        radar = [{"collection": "sentinel-1", "bands": ["vv", "vh"], "orbit": o} for o in ("ascending", "descending")]
        layers = [{"collection": "sentinel-2-l2a", "bands": list(_ALL)}, *radar]
        return content | {
            "catalog": {"provider": "biomassters", "href": str(catalog)},
            "guide": {"layers": layers, "seasons": _YEAR},
            "source": content["source"] | {"collection": "esa-cci-like"},
        }
    radar = {"collection": "sentinel-1-rtc", "bands": ["vv", "vh"]}
    guide = {"layers": [{"collection": "sentinel-2-l2a", "bands": list(_DEMO)}, radar], "seasons": _MONTHS}
    source = {"year": 2019, "resolution": 80} if model.endswith("-x8") else {}
    return content | {"guide": guide, "source": content["source"] | source}


def write_map(content, folder):
    """Write a map description into a folder; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "map.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def make_tile(model, catalog):
    """Checksum of the pixels that a model gives to the second tile, and their mean.

    Maps of the same scenes lie beside each other, so that they are searched once.
    """
    folder = catalog.parent.parent / model.rpartition("-")[2]
    path = write_map(map_for(model, catalog) | {"store": f"{model}.icechunk"}, folder)
    report = run_json("run", path, "--only", "0,1", "--cluster", "serial")
    assert (report["done"], report["failed"]) == (1, 0)
    record = run_json("why", path, EAST + 405, NORTH - 5, "--crs", "EPSG:3035")["record"]
    return {"content_sha256": record["content_sha256"], "value_mean": record["value_mean"]}


def identify_plan(name):
    """Digests and tasks of one of the maps of ``golden/maps``, and of its guide."""
    spec = read_spec(GOLDEN / "maps" / f"{name}.yaml")
    items = Items(items=tuple(read_golden("items")))
    context = make_context(spec)
    plan, guide = (make_plan(spec, items, context=each) for each in (context, make_guide_context(context)))
    return {
        "spec_digest": spec.digest,
        "guide_digest": spec.guide_digest,
        "model_digest": plan.identity.model,
        "items_digest": plan.identity.items,
        "map": _identify_tasks(plan),
        "guide": _identify_tasks(guide),
    }


def _identify_tasks(plan):
    tasks = {
        f"{t.tile.row},{t.tile.col}": f"{t.id} {t.items_digest} {len(t.guide)}+{len(t.source)}" for t in plan.tasks
    }
    return {"spec_digest": plan.identity.spec, "grid_digest": plan.identity.grid, "tasks": tasks}


def unpack_finished(folder):
    """The finished map in a folder; returns the path of its description."""
    with tarfile.open(GOLDEN / "finished.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "map.yaml"


def hash_values(path):
    """Sha256 of every decoded array of a map and of the levels of its pyramid."""
    found = {}
    for level in range(3):
        dataset = open_map(read_spec(path).store, level=level)
        for name in ("x", "y", "agb", "agb_sd", "qa", "n_valid"):
            values = np.ascontiguousarray(dataset[name].to_numpy())
            found[f"{level}/{name}"] = f"{values.dtype} {values.shape} {_sha256(values.tobytes())}"
    return found


def resume(path):
    """What is left to do for a map, with its guide stored and without, for that guide, and for the pyramid."""
    guide = path.with_name("map.guide.icechunk")
    runs = {
        "run": run_json("run", path),
        "run --guide": run_json("run", path, "--guide", guide),
        "composite": run_json("composite", path),
        "pyramid": run_json("pyramid", path),
    }
    return {name: [report["tiles"], report.get("skipped")] for name, report in runs.items()}


def verify(path):
    """What is found of a map, against its plan, and of its guide."""
    return {
        "map": run_json("verify", path),
        "guide": run_json("verify", path.with_name("map.guide.icechunk")),
    }


def explain(path):
    """What made some pixels, of a map and of its guide."""
    guide = path.with_name("map.guide.icechunk")
    return [
        *(_explain_pixel(path, *place) for place in ((5, 5), (455, 55), (1005, 255))),
        _explain_pixel(guide, 455, 55),
    ]


def _explain_pixel(store, east, south):
    """A pixel so many metres from the corner, without what is worded for people or was measured."""
    answer = run_json("why", store, EAST + east, NORTH - south, "--crs", "EPSG:3035")
    record = answer["record"]
    return answer | {"record": record and {name: record[name] for name in RECORDED}}


def serve(path):
    """What a server answers of a map: a pixel, its history, a total, a tile, chunks of pixels."""
    client = TestClient(make_app(read_spec(path).store))
    place = {"x": EAST + 455, "y": NORTH - 55, "crs": "EPSG:3035"}
    pixel = client.get("/pixel", params=place).json()
    history = client.get("/history", params=place).json()["versions"]
    total = client.post("/stats", json=_draw_box(BOX)).json()
    tile = np.load(BytesIO(client.get("/tiles/main/agb/13/4369/2727.npy").content))
    keys = ("agb/c/0/0", "agb/c/1/2", "agb_sd/c/0/1", "pyramid/1/agb/c/0/0")
    return {
        "pixel": {name: pixel[name] for name in ("value", "sd", "units", "quality", "n_valid", "row", "col", "tile")},
        "history": [[version["snapshot"], version["value"], version["task_id"]] for version in history],
        "total": {name: _round(value) for name, value in total.items() if name != "version"},
        "tile": [int(np.isfinite(tile).sum()), _sha256(np.ascontiguousarray(tile).tobytes())],
        "chunks": {key: _sha256(client.get(f"/zarr/main/{key}").raise_for_status().content) for key in keys},
    }


FINISHED = {"values": hash_values, "resume": resume, "verify": verify, "explain": explain, "serve": serve}
"""What is asked of the finished map, in the order in which it is asked."""


def _draw_box(box):
    west, south, east, north = box
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def _round(value):
    """Numbers to six digits."""
    return json.loads(json.dumps(value), parse_float=lambda text: float(f"{float(text):.6g}"))


def _sha256(content):
    return hashlib.sha256(content).hexdigest()
