"""Make the golden files anew: ``python tests/make_golden.py``. They change only with a changelog entry."""

import contextlib
import json
import socket
import sys
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from contracts import make_contract
from golden_maps import (
    FINISHED,
    GOLDEN,
    LITTLE,
    MAPS,
    describe_map,
    identify_plan,
    make_tile,
    unpack_finished,
    write_map,
)
from golden_scenes import DAYS, WIDE, write_scenes
from region import run_json

from mapper import build_pyramid, make_plan, read_spec, run_plan
from mapper.catalog.freeze import load_items, save_items
from mapper.catalog.items import freeze_items
from mapper.catalog.query import make_queries
from mapper.catalog.search import describe_queries
from mapper.execute.executors import SerialExecutor
from mapper.models.card import model_names
from mapper.models.contract import BandNorm
from mapper.models.model import GuidedModel
from mapper.models.weights import build_network, save_model
from mapper.plan.context import RunOptions, make_context
from mapper.plan.guide_context import make_guide_context
from mapper.run.commit_loop import RunPolicy
from mapper.run.stored_guide import attach_guide
from mapper.spec import parse_spec
from mapper.store.map_store import MapStore
from mapper.store.product import map_product

_OPTIONS = {
    "dkn": {"width": 4},
    "fdkn": {"width": 4},
    "ensemble": {"width": 4, "members": 2},
    "msg": {"width": 4},
    "pixelwise": {"width": 8},
}
_ENDPOINT = "https://data.example/golden/catalog.json"
_NOWHERE = Path("/golden")
"""Where the finished map says that it was made."""


def make_weights():
    """Networks of what is not shipped."""
    for name in LITTLE:
        save_network(name)


def save_network(name):
    """An untrained network of B04 and B08 whose numbers are lively."""
    architecture = "msg" if name == "ensemble" else name
    options = _OPTIONS.get(name, {})
    torch.manual_seed(1)
    network = build_network(architecture, guide_channels=2, scale=10, options=options)
    for parameter in network.parameters():
        if parameter.ndim > 1 and parameter.std() < 5e-3:
            torch.nn.init.normal_(parameter, std=0.1)
    contract = make_contract(
        model=architecture,
        guide=tuple(BandNorm(name=f"july_{band}", units="1", mean=0.2, sd=0.1) for band in ("B04", "B08")),
        source_units="Mg ha-1",
        source_mean=120.0,
        source_sd=70.0,
        target="agb",
        target_units="Mg ha-1",
        scale=10,
        halo_px=network.halo_px,
        align_px=network.align_px,
        sees_source_sd=network.sees_source_sd,
        gives_sd=network.gives_sd,
        sd_scale=1.5 if network.gives_sd else 1.0,
    )
    path = GOLDEN / "weights" / f"{name}-little.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_model(GuidedModel(network, contract), path, options=options)


def make_items():
    """Items of an archive, none of whose files exists."""
    items = []
    for month, number in ((5, 0), (6, 1), (7, 2), (8, 3), (9, 4), (12, 5)):
        for tile, west in (("T32UQC", 11.8), ("T33UTT", 12.01)):
            day = f"2020-{month:02}-{10 + number}"
            baseline = "03.01" if number % 2 else "05.10"
            facts = {
                "platform": "sentinel-2b",
                "eo:cloud_cover": 17.5 * number,
                "s2:processing_baseline": baseline,
                "s2:mgrs_tile": tile[1:],
                "proj:code": f"EPSG:326{tile[1:3]}",
            }
            bands = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12", "SCL")
            box = (west, 51.3, west + 0.22, 51.5)
            items.append(_item("sentinel-2-l2a", f"S2_{day}_{tile}", f"{day}T10:10:31Z", box, bands, **facts))
        for orbit, north in (("ascending", 51.415), ("descending", 51.6)):
            facts = {"platform": "SENTINEL-1A", "sat:orbit_state": orbit, "proj:code": "EPSG:32633"}
            box = (11.5, 51.2, 12.5, north)
            name = f"S1_{orbit}_{month:02}"
            items.append(_item("sentinel-1-rtc", name, f"2020-{month:02}-20T05:20:00Z", box, ("vv", "vh"), **facts))
    for west in (11.0, 12.0):
        facts = {"gsd": 30, "proj:code": "EPSG:4326"}
        box = (west, 51.0, west + 1, 52.0)
        items.append(_item("cop-dem-glo-30", f"DEM_{west:g}", "2021-04-22T00:00:00Z", box, ("data",), **facts))
    for year in (2019, 2020):
        facts = {"proj:code": "EPSG:4326", "version": "7.0"}
        name, box = f"N60E010_{year}", (10.0, 50.0, 20.0, 60.0)
        items.append(_item("esa-cci-biomass", name, f"{year}-01-01T00:00:00Z", box, ("agb", "agb_sd"), **facts))
    return list(freeze_items(items))


def _item(collection, name, when, box, assets, **properties):
    west, south, east, north = box
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": collection,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": list(box),
        "properties": {"datetime": when, **properties},
        "assets": {
            key: {"href": f"https://data.example/{name}/{key}.tif", "proj:shape": [2000, 2000]} for key in assets
        },
        "links": [],
    }


def make_plans():
    """Items of an archive, and what plans made of them are."""
    _expect("items", make_items())
    _expect("plans", {name: identify_plan(name) for name in MAPS})


def make_models():
    """Checksums of what each model makes."""
    with tempfile.TemporaryDirectory() as name:
        catalog = write_scenes(Path(name) / "catalog")
        models = (*model_names(), *LITTLE)
        _expect("models", {model: make_tile(model, catalog) for model in models})


def make_finished():
    """Make a map, every second tile with its guide from the archive, the others from a stored one; and tell of it."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        folder = Path(name)
        _write_finished(folder)
        with tarfile.open(GOLDEN / "finished.tar.xz", "w:xz") as archive:
            for path in sorted(folder.iterdir()):
                archive.add(path, path.name, filter=_pack)
    with tempfile.TemporaryDirectory() as name:
        _expect("finished", _tell_of(unpack_finished(Path(name))))


def _write_finished(folder):
    """Into the working directory, so that all locations on record are relative."""
    content = describe_map(_ENDPOINT, model={"name": "msg-little", "weights": "msg-little.safetensors"})
    for suffix in ("safetensors", "json"):
        Path(f"msg-little.{suffix}").write_bytes((GOLDEN / "weights" / f"msg-little.{suffix}").read_bytes())
    map_path = write_map(content | {"area": {"bbox": list(WIDE)}}, folder)
    spec = read_spec(map_path)
    _freeze_scenes(spec)
    items = load_items("map.items.parquet")
    # the stores are made for a place that does not exist, then used where they are
    elsewhere = parse_spec(yaml.safe_load(map_path.read_text()), base=_NOWHERE)
    context = make_context(spec, options=RunOptions(device="cpu"))
    MapStore.create("map.icechunk", map_product(elsewhere))
    guide = make_guide_context(context)
    MapStore.create("map.guide.icechunk", replace(guide, spec=elsewhere).product)
    run_plan(make_plan(spec, items, context=guide), guide, "map.guide.icechunk", SerialExecutor())
    plan = make_plan(spec, items, context=context)
    half = make_plan(spec, items, context=context, only="::2")
    run_plan(half, context, "map.icechunk", SerialExecutor(), policy=RunPolicy(commit_tiles=1))
    stored = attach_guide(context, plan.tasks, items, "map.guide.icechunk")
    run_plan(plan, stored, "map.icechunk", SerialExecutor())
    build_pyramid("map.icechunk", SerialExecutor())
    run_json("plan", map_path)


def _freeze_scenes(spec):
    """Keep the items of three dates as the search would, with locations that are relative; one file is broken."""
    catalog = write_scenes(Path("scenes").absolute(), days=DAYS[1:4], bands=("B04", "B08"), radar=False)
    items = [json.loads(path.read_text()) for path in catalog.parent.glob("*.json") if path != catalog]
    items = [item for item in items if item["id"].startswith(("S2_", "esa-cci-biomass-2020"))]
    Path(f"scenes/S2_{DAYS[1]}/B08.tif").write_text("no raster")
    for item in items:
        for asset in item["assets"].values():
            asset["href"] = str(Path(asset["href"]).relative_to(Path.cwd()))
    query = {"searched_at": "2026-01-01T00:00:00+00:00", "queries": describe_queries(spec, make_queries(spec))}
    save_items(freeze_items(items, query=query), "map.items.parquet")


def _pack(member):
    """What is put into the archive: of the scenes the coarse map alone, and no lock; nobody owns it, it has no age."""
    _, _, scene = member.name.partition("scenes/")
    if member.name.endswith(".lock") or (scene and scene.partition("/")[0] != "esa-cci-biomass-2020-100"):
        return None
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def _tell_of(path):
    return {name: ask(path) for name, ask in FINISHED.items()}


def _expect(name, content):
    (GOLDEN / f"{name}.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def main():
    """Make everything, or what is named: weights, plans, models, finished."""
    socket.gethostname = lambda: "golden"
    torch.set_num_threads(1)
    makers = {"weights": make_weights, "plans": make_plans, "models": make_models, "finished": make_finished}
    for name in sys.argv[1:] or makers:
        makers[name]()


if __name__ == "__main__":
    main()
