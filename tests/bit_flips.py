"""Single flipped bits in the shards of a store, and what every reader makes of them."""

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import zarr
from fastapi.testclient import TestClient
from pyproj import Transformer
from store_maps import make_spec, write_tiles
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from mapper.errors import StoreError
from mapper.execute.executors import SerialExecutor
from mapper.export.geotiff import export_geotiff
from mapper.export.zarr_copy import copy_zarr
from mapper.grid import Tile
from mapper.run.pyramid import build_pyramid
from mapper.serve.app import make_app
from mapper.store.levels import LevelTile, read_pyramid
from mapper.store.map_store import MapStore, open_map
from mapper.store.product import map_product
from mapper.store.pyramid import make_level_tile
from mapper.store.verify import verify_store
from mapper.store.why import why

ZOOM = 17
RING = ((-9, -9), (9, -9), (9, 9), (-9, 9), (-9, -9))
VALUES = {"agb", "agb_sd"}


@dataclass(frozen=True)
class Flip:
    """One bit of the shard of one band and tile, and a pixel of the chunk that it lies in."""

    path: Path
    bit: int
    band: str
    tile: Tile
    row: int
    col: int

    @contextmanager
    def done(self):
        """Flip the bit for the length of a block."""
        whole = self.path.read_bytes()
        broken = bytearray(whole)
        broken[self.bit // 8] ^= 1 << self.bit % 8
        self.path.write_bytes(broken)
        try:
            yield
        finally:
            self.path.write_bytes(whole)


def make_little_map(folder):
    """2 x 2 tiles, no two of them alike, and one above them."""
    spec = make_spec(folder / "map.icechunk", area={"bbox": [12.0, 50.0, 12.012, 50.008]})
    MapStore.create(spec.store, map_product(spec))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        write_tiles(writer, spec, list(spec.map_grid.tiles()))
    build_pyramid(spec.store, SerialExecutor())
    return spec


def find_shards(spec):
    """File, band and tile of every shard of the map."""
    store = MapStore.open(spec.store)
    files = {path.read_bytes(): path for path in (Path(spec.store) / "chunks").iterdir()}
    for band in store.description.band_names:
        for tile in spec.map_grid.tiles():
            raw = sync(store.zarr.get(f"{band}/c/{tile.row}/{tile.col}", default_buffer_prototype()))
            if raw is not None and raw.to_bytes() in files:  # else it is small, and lies in a manifest
                yield files[raw.to_bytes()], band, tile


def draw_flips(spec, count, *, seed=0, bands=None):
    """Flips at random places of random shards: in chunks, in their checksums, and in indexes."""
    dice = np.random.default_rng(seed)
    shards = [shard for shard in find_shards(spec) if bands is None or shard[1] in bands]
    for _ in range(count):
        path, band, tile = shards[dice.integers(len(shards))]
        content = path.read_bytes()
        bit = int(dice.integers(8 * len(content)))
        row, col = _find_pixel(spec.map_grid, content, bit // 8)
        yield Flip(
            path, bit, band, tile, tile.row * spec.map_grid.tile_px + row, tile.col * spec.map_grid.tile_px + col
        )


def _find_pixel(grid, content, at):
    """A pixel inside of a tile whose reading reads a byte of its shard."""
    across, middle = grid.tile_px // grid.chunk_px, grid.chunk_px // 2
    index = np.frombuffer(content[-16 * across**2 - 4 : -4], "<u8").reshape(-1, 2)
    for number, (start, length) in enumerate(index.tolist()):
        if start <= at < start + length:
            row, col = divmod(number, across)
            return row * grid.chunk_px + middle, col * grid.chunk_px + middle
    return middle, middle


class Readers:
    """Every way to read a store: each raises StoreError, or returns what it read."""

    def __init__(self, spec, folder):
        self._spec = spec
        self._grid = spec.map_grid
        self._folder = folder
        self._to_degrees = Transformer.from_crs(self._grid.crs, "EPSG:4326", always_xy=True)
        self.renew()

    def renew(self):
        """Ask a new server from now on, which remembers nothing."""
        self._client = None

    def of(self, flip):
        """The readers that read the band of a flip, by name."""
        names = [name for name in vars(Readers) if name.startswith(("read_", "ask_", "export_"))]
        values_only = {"ask_tile", "ask_stats"}
        return {name: getattr(self, name) for name in names if flip.band in VALUES or name not in values_only}

    def read_window(self, flip):
        return self._open().rasters.find(flip.band).read(*self._window(flip))

    def read_chunks(self, flip):
        at = flip.row // self._grid.chunk_px, flip.col // self._grid.chunk_px
        return self._open().rasters.find(flip.band).read_chunks([at])[at]

    def read_dataset(self, flip):
        rows, cols = self._window(flip)
        with _raised_by_zarr():
            return open_map(self._spec.store)[flip.band].isel(y=rows, x=cols).to_numpy()

    def read_served_zarr(self, flip):
        memory = MemoryStore()
        for key in (f"{flip.band}/zarr.json", f"{flip.band}/c/{flip.tile.row}/{flip.tile.col}"):
            sync(memory.set(key, cpu.Buffer.from_bytes(self._ask("get", f"/zarr/main/{key}"))))
        with _raised_by_zarr():
            return zarr.open_array(memory, path=flip.band, mode="r")[self._window(flip)]

    def read_why(self, flip):
        return str(why(self._spec.store, *self._locate(flip), crs=self._grid.crs).to_dict())

    def read_level(self, flip):
        store = self._open()
        fork = store.repository.writable_session("main").fork()
        return make_level_tile(fork, read_pyramid(store.zarr), LevelTile(0, flip.tile).parent)

    def read_verify(self, flip):
        report = verify_store(self._spec.store)
        if flip.tile in report.corrupt:
            raise StoreError(f"tile {flip.tile}: {report.corrupt[flip.tile]}")
        return report.snapshot

    def ask_pixel(self, flip):
        x, y = self._locate(flip)
        return self._ask("get", "/pixel", params={"x": x, "y": y, "crs": "map"})

    def ask_tile(self, flip):
        col, row = find_tile(*self._to_degrees.transform(*self._locate(flip)))
        return self._ask("get", f"/tiles/main/{flip.band}/{ZOOM}/{col}/{row}.npy")

    def ask_stats(self, flip):
        x, y = self._locate(flip)
        ring = [self._to_degrees.transform(x + dx, y + dy) for dx, dy in RING]
        return self._ask("post", "/stats", json={"type": "Polygon", "coordinates": [ring]})

    def export_geotiff(self, flip):
        out = self._folder / "out.tif"
        out.unlink(missing_ok=True)
        export_geotiff(self._spec.store, out, variable=flip.band)
        with rasterio.open(out) as file:
            return file.read()

    def export_zarr(self, flip):
        for name in ("out.zarr", "out.zarr.part"):
            shutil.rmtree(self._folder / name, ignore_errors=True)
        copy_zarr(self._spec.store, self._folder / "out.zarr")
        return zarr.open_array(self._folder / "out.zarr" / flip.band, mode="r")[self._window(flip)]

    def _open(self):
        return MapStore.open(self._spec.store)

    def _window(self, flip):
        return self._grid.window(flip.tile).slices

    def _locate(self, flip):
        return self._grid.geobox.transform * (flip.col + 0.5, flip.row + 0.5)

    def _ask(self, method, path, **options):
        self._client = self._client or TestClient(make_app(self._spec.store))
        answer = getattr(self._client, method)(path, **options)
        if answer.status_code == 503:
            raise StoreError(answer.json()["detail"])
        assert answer.status_code == 200, answer.text
        return answer.content


@contextmanager
def _raised_by_zarr():
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise StoreError(str(error)) from error


def find_tile(lon, lat):
    """Column and row of the web tile that holds a point."""
    count = 2**ZOOM
    y = (1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * count
    return int((lon + 180) / 360 * count), int(y)
