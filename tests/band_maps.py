"""Maps of several target bands, and of heights, for the tests of what is made from them."""

import numpy as np
from store_maps import make_record, make_spec

from mapper.run.records import statistics
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from mapper.store.writer import write_tile

COLOURS = ("B02", "B03", "B04", "B08")
REFLECTANCE = {
    "preset": "sentinel2-multi",
    "grid": {"kind": "projected", "crs": "EPSG:3035", "resolution": 5, "tile": 64, "chunk": 32},
    "area": {"bbox": [12.0, 50.0, 12.01, 50.006]},
    "source": {"resolution": 10},
    "target": {"quality": []},
}
ELEVATION = {
    "preset": "elevation",
    "grid": {"kind": "projected", "crs": "EPSG:3035", "resolution": 10, "tile": 64, "chunk": 32},
    "source": {"resolution": 30},
}


def draw(product, tile, *, low=-0.05, high=0.6):
    """Pixels of a tile by name of the band: other values in each, a hole in the first."""
    rng, shape = np.random.default_rng([tile.row, tile.col]), (product.grid.tile_px,) * 2
    arrays = {
        "qa": rng.integers(0, 64, shape).astype(np.uint16),
        "n_valid": rng.integers(0, 30, shape).astype(np.uint16),
    }
    for number, band in enumerate(product.values):
        arrays[band.name] = rng.uniform(low, high, shape).astype(np.float32) + np.float32(number * 0.1)
        if product.sd_of(band.name):
            arrays[f"{band.name}_sd"] = np.abs(arrays[band.name]) / 8
    arrays[product.values[0].name][:5, :7] = np.nan
    return arrays


def write_map(folder, changes, **limits):
    """A map with a missing tile; its spec and the pixels of each tile."""
    spec = make_spec(folder / "map.icechunk", **changes, guide={})
    product, written = map_product(spec), {}
    MapStore.create(spec.store, product)
    *tiles, _ = product.grid.tiles()
    with MapStore.open(spec.store).writer(product, run_id="run-1") as writer:
        for tile in tiles:
            arrays, fork = draw(product, tile, **limits), writer.fork()
            sha = write_tile(fork, product=product, tile=tile, arrays=arrays)
            writer.add(fork, make_record(tile, sha=sha, **statistics(arrays, product.values)))
            written[tile] = arrays
        writer.commit()
    return spec, written
