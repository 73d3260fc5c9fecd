"""Maps of several tiles for the tests of pyramids, and what their levels are to hold."""

import sys
import time
from itertools import pairwise

import numpy as np
import zarr
from store_maps import PROJECTED, make_record, make_spec, write_tiles

from mapper.events import BatchCommitted
from mapper.execute.executors import SerialExecutor
from mapper.run.commit_loop import RunPolicy
from mapper.run.pyramid import build_pyramid
from mapper.store.map_store import MapStore
from mapper.store.product import NOT_WRITTEN, map_product

WIDE = [12.0, 50.0, 12.038, 50.012]
"""5 columns and 3 rows of tiles of 64 px: odd at several levels."""

FILLS = {"uint16": 65535, "int16": -32768, "float32": np.nan}


def make_map(location, *, grid=PROJECTED, bbox=None, missing=(), empty=(), **changes):
    """A map without some of its tiles; others are empty without pixels."""
    area = {"area": {"bbox": bbox}} if bbox else {}
    spec = make_spec(location, grid=grid, **area, **changes)
    MapStore.create(spec.store, map_product(spec))
    add_tiles(spec, [tile for tile in spec.map_grid.tiles() if tile not in {*missing, *empty}], empty=empty)
    return spec


def add_tiles(spec, tiles, *, seed=0, version=0, empty=()):
    """Tiles are made (again), in one commit."""
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        for tile in empty:
            writer.add(None, make_record(tile, status="empty", version=version))
        return write_tiles(writer, spec, tiles, seed=seed, version=version)


def stored_levels(spec):
    """Every array of every level as it is stored, by level and name."""
    root = zarr.open_group(MapStore.open(spec.store).zarr, mode="r")
    levels = [root, *(group for _, group in sorted(root["pyramid"].groups(), key=lambda pair: int(pair[0])))]
    names = (spec.target.name, f"{spec.target.name}_sd", "qa", "n_valid")
    return [{name: group[name][:] for name in names} for group in levels]


def expect_level(below, tile_px):
    """What a level holds, from the one below: all of it at once, padded to whole tiles."""
    value, sd, qa, n_valid = below
    rows, cols = (-(-size // (2 * tile_px)) for size in below[qa].shape)
    shape = (rows * tile_px, 2, cols * tile_px, 2)

    def quads(name, fill):
        array = below[name]
        margin = [(0, shape[0] * 2 - array.shape[0]), (0, shape[2] * 2 - array.shape[1])]
        padded = np.pad(array, margin, constant_values=array.dtype.type(fill))
        return padded.reshape(shape).swapaxes(1, 2).reshape(shape[0], shape[2], 4)

    flags = quads(qa, NOT_WRITTEN)
    written = flags != NOT_WRITTEN
    joined = np.bitwise_or.reduce(np.where(written, flags, 0), axis=-1)
    expected = {
        name: _average(quads(name, FILLS[below[name].dtype.name]), FILLS[below[name].dtype.name])
        for name in (value, sd)
    }
    expected[qa] = np.where(written.any(axis=-1), joined, NOT_WRITTEN)
    counts = np.ma.masked_array(quads(n_valid, 0), ~written).mean(axis=-1)
    expected[n_valid] = np.rint(counts.filled(0))
    return expected


def _average(quads, fill):
    missing = np.isnan(quads) if quads.dtype.kind == "f" else quads == fill
    means = np.ma.masked_array(quads.astype(np.float64), missing).mean(axis=-1)
    return means.filled(fill).astype(np.float32) if quads.dtype.kind == "f" else np.rint(means).filled(fill)


def assert_levels_follow(spec):
    """Every level is what the one below makes it."""
    levels = stored_levels(spec)
    for below, level in pairwise(levels):
        expected = expect_level(below, spec.map_grid.tile_px)
        for name, array in level.items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name)
    return levels


def build_slowly(store):
    """A driver in a process of its own: commits every second tile, says so, and takes its time."""

    def say(event):
        if isinstance(event, BatchCommitted):
            sys.stdout.write("committed\n")
            sys.stdout.flush()
        time.sleep(0.2)

    build_pyramid(store, SerialExecutor(), callbacks=[say], policy=RunPolicy(commit_tiles=2))


if __name__ == "__main__":
    build_slowly(sys.argv[1])
