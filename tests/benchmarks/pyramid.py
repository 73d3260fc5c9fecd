"""How fast a pyramid is built, against copying the same arrays, on a map of 4096 x 4096 px in a local directory.

    python tests/benchmarks/pyramid.py [--threads 2] [--rounds 3] [--tile 1024]

All four arrays are read and reduced; Mpx are those of the map, counted once. The copy reads every tile of the map and
writes it to another store, no more: what the codec and the disk allow. Both in turns, best of the rounds.
"""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

sys.path.insert(0, str(Path(__file__).parents[1]))

from store_maps import PROJECTED, make_record, make_spec, name_bands, read_tile

from mapper.execute.executors import ThreadExecutor
from mapper.run.pyramid import build_pyramid
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from mapper.store.writer import write_encoded, write_tile

AREA = {"bbox": [12.0, 50.0, 12.555, 50.351]}
"""41 km, of which tiles of 512, 1024 and 2048 px make 4096 px."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tile", type=int, default=1024)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        spec = make_map(Path(folder) / "map.icechunk", options.tile)
        mpx = np.prod(spec.map_grid.shape) / 1e6
        build_pyramid(spec.store, ThreadExecutor(options.threads))
        best = {"pyramid": 0.0, "copy": 0.0}
        for number in range(options.rounds):
            copy = make_spec(Path(folder) / f"copy{number}", grid=grid_of(options.tile), area=AREA)
            steps = {
                "copy": lambda copy=copy: copy_map(spec, copy, options.threads),
                "pyramid": lambda: build_pyramid(spec.store, ThreadExecutor(options.threads), rebuild=True),
            }
            for name, step in steps.items():
                start = time.perf_counter()
                step()
                best[name] = max(best[name], mpx / (time.perf_counter() - start))
    rates = ", ".join(f"{name} {rate:.1f} Mpx/s" for name, rate in best.items())
    print(f"{mpx:.1f} Mpx, tiles of {options.tile} px, {options.threads} threads: {rates}")  # noqa: T201


def grid_of(tile):
    return PROJECTED | {"tile": tile, "chunk": 256}


def make_map(location, tile_px):
    """A smooth field with noise, flags that are mostly 0, counts in large patches."""
    spec = make_spec(location, grid=grid_of(tile_px), area=AREA)
    MapStore.create(spec.store, map_product(spec))
    rng = np.random.default_rng(1)
    shape = (tile_px, tile_px)
    value = gaussian_filter(rng.gamma(2, 60, shape), 2) + rng.normal(0, 3, shape)
    value = np.maximum(value, 0).astype(np.float32)
    value[:100, :100] = np.nan
    arrays = name_bands(
        value=value,
        sd=value * np.float32(0.3),
        qa=(rng.random(shape) < 0.02).astype(np.uint16) * np.uint16(4),
        n_valid=np.kron(rng.integers(8, 30, (tile_px // 32, tile_px // 32)), np.ones((32, 32))).astype(np.uint16),
    )
    with MapStore.open(spec.store).writer(map_product(spec), run_id="made") as writer:
        for tile in spec.map_grid.tiles():
            fork = writer.fork()
            sha = write_tile(fork, product=map_product(spec), tile=tile, arrays=arrays)
            writer.add(fork, make_record(tile, sha=sha))
        writer.commit()
    return spec


def copy_map(spec, copy, threads):
    """Read every tile and write it again, elsewhere."""
    MapStore.create(copy.store, map_product(copy))
    store, grid = MapStore.open(spec.store).zarr, spec.map_grid
    with (
        MapStore.open(copy.store).writer(map_product(copy), run_id="copy") as writer,
        ThreadPoolExecutor(threads) as pool,
    ):

        def move(tile):
            fork = writer.fork()
            bands = read_tile(store, grid=grid, target=spec.target, tile=tile)
            return fork, make_record(tile, sha=write_encoded(fork, grid=grid, tile=tile, bands=bands))

        for done in pool.map(move, grid.tiles()):
            writer.add(*done)
        writer.commit()


if __name__ == "__main__":
    main()
