"""Small maps with real rasters for the tests of runs: a coarse map, two dates of a guide, and slow executors."""

import json
import time
from functools import partial
from uuid import UUID

import numpy as np
import rasterio
import shapely
import torch
from affine import Affine
from contracts import make_contract
from rasterio.warp import transform_bounds
from store_maps import read_tile

from mapper.catalog.items import freeze_items
from mapper.models.architectures import build_network
from mapper.models.contract import BandNorm
from mapper.models.model import GuidedModel
from mapper.models.weights import save_model
from mapper.plan.context import Task
from mapper.spec import parse_spec
from mapper.store.ledger import read_ledger
from mapper.store.repository import open_store

EAST, NORTH = 4_317_500, 3_215_000
"""Upper left corner of all rasters, EPSG:3035."""
CRS = "EPSG:3035"


def make_spec(folder, *, tile=40, area=(10.0, 52.0, 10.02, 52.012), **changes):
    """About 4 x 4 tiles of 40 px at scale 10."""
    content = {
        "name": "little-map",
        "area": {"bbox": list(area)},
        "period": {"start": "2020-01-01", "end": "2020-12-31"},
        "grid": {"crs": CRS, "resolution": 10, "tile": tile, "chunk": 20},
        "catalog": {"provider": "demo"},
        "guide": {"layers": [{"collection": "sentinel-2-l2a", "bands": ["B04", "B08"]}], "seasons": {"summer": [6, 7]}},
        "source": {"collection": "esa-cci-biomass", "variable": "agb", "sd": "agb_sd", "year": 2020, "resolution": 100},
        "model": {"name": "bicubic"},
        "store": str(folder / "map.icechunk"),
    }
    return parse_spec(content | changes, base=folder)


def make_items(folder, *, hole=None):
    """Rasters of 7 km, the map amid them; ``hole`` is a pair of slices of missing source pixels."""
    rng = np.random.default_rng(7)
    coarse = rng.gamma(3, 40, (70, 70)).astype(np.uint16)
    if hole is not None:
        coarse[hole] = 65535
    source = {"agb": coarse, "agb_sd": (coarse // 4).astype(np.uint16)}
    items = [_item(folder, "esa-cci-biomass", "cci-2020", "2020-01-01", 100, source, nodata=65535)]
    for day, shift in (("2020-06-03", 0), ("2020-07-08", 1000)):
        fine = rng.integers(300, 4000, (2, 700, 700)).astype(np.uint16) + np.uint16(shift)
        bands = {"B04": fine[0], "B08": fine[1], "SCL": rng.choice([4, 5, 9], fine[0].shape).astype(np.uint8)}
        baseline = "05.00" if shift else "02.14"
        items.append(
            _item(
                folder, "sentinel-2-l2a", f"S2_{day}", day, 10, bands, nodata=0, **{"s2:processing_baseline": baseline}
            )
        )
    return freeze_items(items, query={"provider": "demo"})


def _item(folder, collection, name, day, step, bands, *, nodata, **properties):
    folder.mkdir(parents=True, exist_ok=True)
    assets = {}
    for key, values in bands.items():
        path = folder / f"{name}_{key}.tif"
        profile = {"width": values.shape[1], "height": values.shape[0], "count": 1, "dtype": values.dtype, "crs": CRS}
        transform = Affine(step, 0, EAST, 0, -step, NORTH)
        with rasterio.open(path, "w", driver="GTiff", transform=transform, nodata=nodata, **profile) as dataset:
            dataset.write(values, 1)
        assets[key] = {"href": str(path), "proj:shape": list(values.shape)}
    rows, cols = values.shape
    box = transform_bounds(CRS, "EPSG:4326", EAST, NORTH - rows * step, EAST + cols * step, NORTH)
    item = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name,
        "collection": collection,
        "geometry": shapely.geometry.mapping(shapely.box(*box)),
        "bbox": list(box),
        "properties": {"datetime": f"{day}T10:30:00Z", "platform": "sentinel-2a", "proj:epsg": 3035, **properties},
        "assets": assets,
        "links": [],
    }
    return json.loads(json.dumps(item))


def make_task(tile, *, guide=(), source=()):
    """A task of some items, which no plan has made."""
    return Task(
        tile=tile, id=str(UUID(int=0)), items_digest="00" * 32, guide=freeze_items(guide), source=freeze_items(source)
    )


def contents_of(location, spec):
    """Content checksum of every tile in the ledger, and its decoded pixels."""
    session, ledger = open_store(location), read_ledger(location)
    checksums = {record.tile: record.content_sha256 for record in ledger.records()}
    pixels = {
        tile: read_tile(session.store, grid=spec.map_grid, target=spec.target, tile=tile) for tile in ledger.entries
    }
    return checksums, pixels


def assert_same_map(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    for tile, bands in one[1].items():
        for name, values in bands.items():
            np.testing.assert_array_equal(values, other[1][tile][name], err_msg=f"{tile} {name}")


class SlowExecutor:
    """Another executor whose calls take longer."""

    def __init__(self, executor, seconds):
        self.executor = executor
        self.throttle = executor.throttle
        self.dashboard = executor.dashboard
        self.seconds = seconds

    def run(self, function, inputs, *, window=None):
        return self.executor.run(partial(_slowly, function, self.seconds), inputs, window=window)


def _slowly(function, seconds, value):
    time.sleep(seconds)
    return function(value)


def save_network(folder, *, architecture="msg", seed=1):
    """An untrained network of the two guide channels, written with its card; the spec's part that names it."""
    options = {"msg": {"width": 4}, "mtg": {"width": 4, "embed": 4, "heads": 2, "dates": 1}, "fdsr": {"width": 4}}
    torch.manual_seed(seed)
    network = build_network(architecture, guide_channels=2, scale=10, options=options[architecture])
    if architecture != "msg":
        torch.nn.init.normal_(network.last.weight, std=0.1)  # lively: what is small shows no seam
    contract = make_contract(
        model=architecture,
        guide=tuple(BandNorm(name=f"summer_{band}", units="1", mean=0.2, sd=0.1) for band in ("B04", "B08")),
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
    path = folder / f"{architecture}-little.safetensors"
    save_model(GuidedModel(network, contract), path, options=options[architecture])
    return {"name": f"{architecture}-little", "weights": str(path)}
