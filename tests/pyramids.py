"""Small maps with levels, for the tests of what is made from them."""

import numpy as np
from store_maps import PROJECTED, make_record, make_spec, name_bands, names_of

from mapper.execute.executors import SerialExecutor
from mapper.run.pyramid import build_pyramid
from mapper.store.description import read_description
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from mapper.store.rasters import Rasters
from mapper.store.writer import write_tile


def make_field(grid, seed=0):
    """Value, standard deviation, flags and counts of a whole map: smooth, with a hole and an edge that is missing."""
    rows, cols = np.mgrid[: grid.shape[0], : grid.shape[1]].astype(np.float32)
    value = (100 + 60 * np.sin(rows / 21) * np.cos(cols / 17)).astype(np.float32)
    value += np.random.default_rng(seed).normal(0, 3, value.shape).astype(np.float32)
    missing = (rows - 60) ** 2 + (cols - 70) ** 2 < 300
    missing |= cols < 5
    value[missing] = np.nan
    flags = np.where(missing, 2, np.where(rows > 100, 4 + 32, 0)).astype(np.uint16)
    return name_bands(value=value, sd=value * np.float32(0.2), qa=flags, n_valid=(rows % 7).astype(np.uint16))


def write_field(store, *, grid=PROJECTED, skip=0, levels=True, **changes):
    """A map that holds :func:`make_field`, but for the last ``skip`` tiles; returns what it was made from."""
    spec = make_spec(store, grid=grid, **changes)
    MapStore.create(spec.store, map_product(spec))
    field, places = make_field(spec.map_grid), spec.map_grid
    tiles = list(places.tiles())
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        for tile in tiles[: len(tiles) - skip]:
            window = places.window(tile).slices
            arrays = {name: array[window] for name, array in field.items()}
            fork = writer.fork()
            sha = write_tile(fork, product=map_product(spec), tile=tile, arrays=arrays)
            writer.add(fork, make_record(tile, sha=sha))
        writer.commit()
    if levels:
        build_pyramid(spec.store, SerialExecutor())
    return spec


def read_level(store, spec, level):
    """The decoded arrays of a level: value, standard deviation (NaN where missing), flags, counts."""
    session = MapStore.open(store).zarr
    rasters = Rasters(session, read_description(session))
    found = [rasters.find(name, level) for name in names_of(spec.target)]
    return [raster.decode(raster.read(slice(None), slice(None))) for raster in found]
