"""A continent without files: a map of very many tiles of 10 km, its items, a task that neither reads nor predicts.

Tiles are 64 px of 160 m, so that there are as many as on a continent at 10 m, each with the items it would have there,
and few pixels. What is left of a task is what scale asks of: its items go to the worker, a tile is written through the
fork of a session, and a full record of all its items comes back.
"""

import json
import math
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import shapely
import yaml
import zarr
from pyproj import Transformer

sys.path.insert(0, str(Path(__file__).parents[1]))
from contracts import make_contract
from store_maps import name_bands

from mapper.catalog.freeze import save_items
from mapper.catalog.inventory import inventory_path
from mapper.catalog.items import freeze_items
from mapper.catalog.query import make_queries
from mapper.catalog.search import describe_queries
from mapper.models.card import Card
from mapper.models.contract import BandNorm
from mapper.plan.context import make_context
from mapper.run.records import complete_uses, describe_task, worker_name
from mapper.spec import read_spec
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from mapper.store.writer import write_tile

BANDS = ("B02", "B03", "B04", "B08", "B11", "B12")
EARTH_KM = 6371.0
TILE_PX, PIXEL_M = 64, 160
SCENE_M, SPACING_M = 109_800, 100_000
CENTRE = (10.0, 52.0)
CRS = "EPSG:3035"


def make_map(folder, tiles):
    """The description of a map of about so many tiles, around the centre of Europe, and its context."""
    spec = read_spec(describe_map(folder, tiles))
    return spec, make_context(spec, card=CARD)


def describe_map(folder, tiles):
    """Write map.yaml; its model has no weights, see :data:`CARD`."""
    west, south, east, north = extent_of(tiles)
    content = {
        "name": "continent",
        "area": {"bbox": [west, south, east, north]},
        "period": {"start": "2020-01-01", "end": "2020-12-31"},
        "grid": {"crs": CRS, "resolution": PIXEL_M, "tile": TILE_PX, "chunk": TILE_PX},
        "catalog": {"provider": "demo", "href": "catalog.json"},
        "guide": {
            "layers": [{"collection": "sentinel-2-l2a", "bands": list(BANDS)}],
            "seasons": {"summer": [6, 7, 8]},
        },
        "source": {
            "collection": "esa-cci-biomass",
            "variable": "agb",
            "sd": "agb_sd",
            "year": 2020,
            "resolution": 10 * PIXEL_M,
        },
        "model": {"name": "msg-none", "weights": "none.safetensors"},
        "store": "map.icechunk",
    }
    path = folder / "map.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


CARD = Card(
    name="msg-none",
    contract=make_contract(
        model="msg",
        guide=tuple(BandNorm(name=f"summer_{band}", units="1") for band in BANDS),
        source_units="Mg ha-1",
        target="agb",
        target_units="Mg ha-1",
        scale=10,
        halo_px=30,
    ),
    sha256="0" * 64,
)


def extent_of(tiles):
    """West, south, east, north of a square in degrees, of the area of so many tiles."""
    width = math.sqrt(tiles) * TILE_PX * PIXEL_M / 1000
    half = math.degrees(width / 2 / EARTH_KM)
    south, north = CENTRE[1] - half, CENTRE[1] + half
    band = math.sin(math.radians(north)) - math.sin(math.radians(south))
    east = math.degrees(width**2 / (EARTH_KM**2 * band)) / 2
    return CENTRE[0] - east, south, CENTRE[0] + east, north


def make_items(spec, *, dates):
    """A scene for each cell of 100 km and date, and a source item for each 10 degrees."""
    project = Transformer.from_crs("EPSG:4326", CRS, always_xy=True)
    locate = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    area = shapely.segmentize(spec.area.geometry, 0.1)
    bounds = shapely.transform(area, lambda xy: np.stack(project.transform(*xy.T), axis=1)).buffer(SPACING_M / 2)
    left, bottom, right, top = (int(edge // SPACING_M) for edge in bounds.bounds)
    found = []
    for row in range(bottom - 1, top + 1):
        for col in range(left - 1, right + 1):
            box = shapely.box(
                *(SPACING_M * edge for edge in (col, row)), col * SPACING_M + SCENE_M, (row + 1) * SPACING_M
            )
            if box.intersects(bounds):
                ring = shapely.transform(box, lambda xy: np.stack(locate.transform(*xy.T), axis=1))
                found += [_scene(row, col, ring, date) for date in range(dates)]
    west, south, east, north = spec.area.geometry.bounds
    for lat in range(math.floor(south / 10) * 10 - 10, math.ceil(north / 10) * 10 + 10, 10):
        for lon in range(math.floor(west / 10) * 10 - 10, math.ceil(east / 10) * 10 + 10, 10):
            found.append(_coarse(lat, lon))
    return freeze_items(found, query={"queries": describe_queries(spec, make_queries(spec))})


def keep_items(folder, *, dates):
    """Make the items of a map and keep them beside it, in a process of its own: they take memory.

    Returns:
        The file.
    """
    code = "import sys; from pathlib import Path; import continent; continent.save(Path(sys.argv[1]), int(sys.argv[2]))"
    here = {"PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", code, folder, str(dates)], check=True, env=os.environ | here)
    return inventory_path(folder / "map.yaml")


def save(folder, dates):
    """Make the items of a map and keep them."""
    path = folder / "map.yaml"
    save_items(make_items(read_spec(path), dates=dates), inventory_path(path))


def _scene(row, col, ring, date):
    day = datetime(2020, 6, 1, 10, 30, tzinfo=UTC) + timedelta(days=3 * date, seconds=col % 60)
    cell = f"{row:03d}{col:03d}"
    transform = [10, 0, col * SPACING_M, 0, -10, (row + 1) * SPACING_M]
    assets = {
        band: {
            "href": f"https://archive.example/sentinel-2/{cell}/{day:%Y/%m/%d}/S2A_{cell}_{day:%Y%m%d}_0_L2A/{band}.tif",
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "gsd": 10,
            "proj:shape": [10980, 10980],
            "proj:transform": transform,
            "raster:bands": [{"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}],
        }
        for band in (*BANDS, "SCL")
    }
    assets["SCL"].pop("raster:bands")
    properties = {
        "datetime": day.isoformat().replace("+00:00", "Z"),
        "platform": "sentinel-2a",
        "grid:code": f"MGRS-{cell}",
        "proj:epsg": 3035,
        "eo:cloud_cover": 7.0,
        "s2:processing_baseline": "05.10",
    }
    return _item("sentinel-2-l2a", f"S2A_{cell}_{day:%Y%m%d}_0_L2A", ring, properties, assets)


def _coarse(lat, lon):
    name = f"{'N' if lat >= 0 else 'S'}{abs(lat):02d}{'E' if lon >= 0 else 'W'}{abs(lon):03d}"
    assets = {
        key: {
            "href": f"https://archive.example/cci/{name}_{key}.tif",
            "proj:shape": [11250, 11250],
            "proj:transform": [10 / 11250, 0, lon, 0, -10 / 11250, lat + 10],
        }
        for key in ("agb", "agb_sd")
    }
    properties = {"datetime": "2020-01-01T00:00:00Z", "proj:epsg": 4326}
    return _item("esa-cci-biomass", name, shapely.box(lon, lat, lon + 10, lat + 10), properties, assets)


def _item(collection, name, outline, properties, assets):
    return json.loads(
        json.dumps(
            {
                "type": "Feature",
                "stac_version": "1.0.0",
                "stac_extensions": [],
                "id": name,
                "collection": collection,
                "geometry": shapely.geometry.mapping(outline),
                "bbox": list(outline.bounds),
                "properties": properties,
                "assets": assets,
                "links": [],
            }
        )
    )


def pretend(location, tasks):
    """Write the state of tiles into a ledger, as if they had been made."""
    session = MapStore.open(location).repository.writable_session("main")
    rows, cols = tasks.places.T
    for name, value in (("status", 1), ("batch", 1), ("task", tasks.ids)):
        array = zarr.open_array(session.store, path=f"ledger/{name}", mode="r+")
        whole = np.asarray(array[:])
        whole[rows, cols] = value
        array[:] = whole
    session.commit("as if")


def prepare_nothing(context):
    """In place of :func:`mapper.run.runner.prepare_process`: there is no model."""
    del context


def compute_nothing(context, throttle, tile):
    """In place of :func:`mapper.run.runner.compute_input`: no reading, no prediction, but a real tile and record."""
    del throttle
    task, started = tile.task, datetime.now(UTC)
    shape = (TILE_PX, TILE_PX)
    arrays = name_bands(
        value=np.full(shape, (task.tile.row * 31 + task.tile.col) % 400, np.float32),
        sd=np.full(shape, 10, np.float32),
        qa=np.zeros(shape, np.uint16),
        n_valid=np.full(shape, len(task.guide), np.uint16),
    )
    checksum = write_tile(tile.fork, product=map_product(context.spec), tile=task.tile, arrays=arrays)
    record = describe_task(
        context,
        task,
        status="ok",
        items=complete_uses((), task, ""),
        worker=worker_name(),
        device="cpu",
        started_at=started,
        seconds={"read": 0.0, "predict": 0.0, "write": 0.01},
        content_sha256=checksum,
        valid_px=TILE_PX**2,
    )
    return tile.fork, record


IDLE = {"compute_input": compute_nothing, "prepare_process": prepare_nothing}
"""What to put in place of names in :mod:`mapper.run.runner`."""
