"""Small maps, tiles and records for the tests of the store."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid5

import numpy as np

from mapper.catalog.uses import ItemUse
from mapper.spec import parse_spec
from mapper.store import lease
from mapper.store.map_store import MapStore
from mapper.store.product import NOT_WRITTEN, map_product
from mapper.store.record import Record
from mapper.store.tiles import read_bands
from mapper.store.writer import write_tile

PROJECTED = {"kind": "projected", "crs": "EPSG:3035", "resolution": 10, "tile": 64, "chunk": 32}
NATIVE = {"kind": "native", "crs": "EPSG:4326", "resolution": "1/11250", "tile": 64, "chunk": 32}
TASKS = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")


def make_spec(store, *, grid=PROJECTED, **changes):
    """About 3 x 3 tiles of 64 px."""
    content = {
        "name": "little-map",
        "area": {"bbox": [12.0, 50.0, 12.02, 50.012] if grid["kind"] == "projected" else [12.0, 50.0, 12.014, 50.014]},
        "period": {"start": "2021-01-01", "end": "2021-12-31"},
        "grid": grid,
        "catalog": {"provider": "demo"},
        "guide": {"layers": [{"collection": "sentinel-2-l2a", "bands": ["B04"]}], "seasons": {"summer": [6, 7, 8]}},
        "source": {
            "collection": "esa-cci-biomass",
            "variable": "agb",
            "sd": "agb_sd",
            "resolution": 100 if grid["kind"] == "projected" else "1/1125",
        },
        "model": {"name": "bicubic"},
        "store": str(store),
    }
    return parse_spec(content | changes, base=Path(store).parent)


def task_id(tile, version=0):
    return str(uuid5(TASKS, f"{tile} {version}"))


def make_arrays(grid, tile, seed=0):
    rng = np.random.default_rng([seed, tile.row, tile.col])
    shape = (grid.tile_px, grid.tile_px)
    value = rng.gamma(2, 60, shape).astype(np.float32)
    value[:3, :5] = np.nan
    return name_bands(
        value=value,
        sd=(value * np.float32(0.3)).astype(np.float32),
        qa=rng.integers(0, 64, shape).astype(np.uint16),
        n_valid=rng.integers(0, 30, shape).astype(np.uint16),
    )


def name_bands(*, value, sd, qa, n_valid, target="agb"):
    """The arrays of a tile by name of the band."""
    return {target: value, f"{target}_sd": sd, "qa": qa, "n_valid": n_valid}


def names_of(target):
    """Arrays of a map of one target band, in the order of checksums."""
    return target.name, f"{target.name}_sd", "qa", "n_valid"


def read_tile(store, *, grid, target, tile):
    """The arrays of a tile as they are stored."""
    return read_bands(store, grid=grid, names=names_of(target), tile=tile)


def fill_tile(grid, target):
    """What a tile holds that was never written."""
    fills = {"uint8": 255, "uint16": 65535, "int16": -32768, "float32": np.nan}
    dtype = target.encoding.dtype
    sd = "float32" if dtype == "float32" else "uint16"
    stored = ((fills[dtype], dtype), (fills[sd], sd), (NOT_WRITTEN, "uint16"), (0, "uint16"))
    shape = (grid.tile_px, grid.tile_px)
    return {name: np.full(shape, *what) for name, what in zip(names_of(target), stored, strict=True)}


def make_items(version=0):
    return tuple(
        ItemUse(
            id=f"S2_{k}",
            collection="sentinel-2-l2a",
            role="guide",
            datetime=datetime(2021, 6, 1 + k, 10, 30, tzinfo=UTC),
            digest=f"{version if k == 0 else 0:x}" * 64,
            hrefs=(f"https://example.org/S2_{k}/B04.tif",),
            calibration="(DN - 1000) / 10000: processing baseline 05.10",
            dropped="truncated" if k == 2 else "",
        )
        for k in range(3)
    )


def make_record(tile, *, status="ok", sha="", version=0, **changes):
    facts = {
        "run_id": "run-1",
        "items": make_items(version),
        "model": "bicubic",
        "model_digest": "b" * 64,
        "spec_digest": "5" * 64,
        "grid_digest": "6" * 64,
        "items_digest": "7" * 64,
        "code_version": "0.1.0",
        "environment": "python==3.11.7 numpy==2.4.6",
        "worker": "host:1",
        "device": "cpu",
        "started_at": datetime(2026, 11, 21, 10, 0, 0, 123456, tzinfo=UTC),
        "seconds": {"read": 1.5, "predict": 0.25, "write": 0.125},
        "valid_px": 4081,
        "value_min": 0.5,
        "value_mean": 120.25,
        "value_max": 700.0,
        "consistency_residual": 0.001,
    }
    return Record(tile=tile, task_id=task_id(tile, version), status=status, content_sha256=sha, **(facts | changes))


def make_tile(fork, spec, tile, *, seed=0, version=0):
    """What a worker does: write a tile, give back its fork and record."""
    grid = spec.map_grid
    sha = write_tile(fork, product=map_product(spec), tile=tile, arrays=make_arrays(grid, tile, seed))
    return fork, make_record(tile, sha=sha, version=version)


def write_tiles(writer, spec, tiles, *, seed=0, version=0):
    for tile in tiles:
        writer.add(*make_tile(writer.fork(), spec, tile, seed=seed, version=version))
    return writer.commit()


def _say(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def keep_writing(store):
    """A driver in a process of its own: commits every second tile, says what it did, waits to be killed."""
    spec = make_spec(store)
    todo = [tile for tile in spec.map_grid.tiles() if tile not in MapStore.open(store).ledger.entries]
    with MapStore.open(store).writer(map_product(spec), run_id="killed") as writer:
        _say("open")
        for tile in todo:
            writer.add(*make_tile(writer.fork(), spec, tile))
            _say("added")
            if writer.pending == 2:
                _say(f"committed {writer.commit()}")
        _say("waiting")
        time.sleep(60)


if __name__ == "__main__":
    lease.TERM_S = float(sys.argv[2]) if sys.argv[2:] else lease.TERM_S
    keep_writing(sys.argv[1])
