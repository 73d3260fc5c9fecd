"""Rasters: chunks read straight from their shards are those that Zarr reads, for fewer requests."""

import asyncio

import numpy as np
import pytest
import zarr
from pyramids import write_field
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.codecs import ZstdCodec
from zarr.storage import MemoryStore

from mapper.errors import StoreError
from mapper.store.chunk_reader import open_shards
from mapper.store.description import read_description
from mapper.store.encoding import Encoding, make_codecs
from mapper.store.map_store import MapStore
from mapper.store.product import Band
from mapper.store.rasters import Raster, Rasters

EDGE = 16
SHARD = 64
CHUNKS = 2 * SHARD // EDGE


class CountingStore(MemoryStore):
    """Notes what is asked for."""

    def __init__(self):
        super().__init__()
        self.asked = []

    async def get(self, key, prototype=None, byte_range=None):
        self.asked.append((key, byte_range))
        return await super().get(key, prototype, byte_range)


def make_array(store, dtype="uint16", fill=65535, **changes):
    """2 x 2 shards of 4 x 4 chunks: the first is full, the second lacks some chunks, the last two are not there."""
    layout = {"shards": (SHARD, SHARD), "compressors": make_codecs(dtype)} | changes
    array = zarr.create_array(
        store, name="agb", shape=(2 * SHARD, 2 * SHARD), chunks=(EDGE, EDGE), dtype=dtype, fill_value=fill, **layout
    )
    values = np.random.default_rng(1).integers(0, 2000, (SHARD, SHARD)).astype(dtype)
    array[:SHARD, :SHARD] = values
    values[EDGE : 2 * EDGE, :EDGE] = values[:, -EDGE:] = fill
    array[:SHARD, SHARD:] = values
    return array


def raster_of(array):
    encoding = Encoding(dtype=str(array.dtype))
    band = Band(
        name="agb", role="value", dtype=encoding.dtype, fill=0, encoding=encoding, reduction="mean", attributes={}
    )
    return Raster(band=band, level=0, array=array)


def slices_of(row, col, edge=EDGE):
    return slice(row * edge, (row + 1) * edge), slice(col * edge, (col + 1) * edge)


@pytest.mark.parametrize(("dtype", "fill"), [("uint16", 65535), ("float32", np.nan), ("uint8", 0)])
def test_chunks_are_those_that_zarr_reads(dtype, fill):
    array = make_array(CountingStore(), dtype, fill)
    raster, dice = raster_of(array), np.random.default_rng(2)
    for count in (1, 2, 7, CHUNKS**2):
        places = [divmod(int(place), CHUNKS) for place in dice.choice(CHUNKS**2, count, replace=False)]
        found = raster.read_chunks(places)
        assert set(found) == set(places)
        for place, chunk in found.items():
            assert chunk.dtype == dtype
            np.testing.assert_array_equal(chunk, array[slices_of(*place)])


@pytest.mark.parametrize(
    "layout", [{"shards": None}, {"compressors": [ZstdCodec()]}, {"compressors": None}], ids=["flat", "zstd", "none"]
)
def test_an_array_of_another_layout_is_read_by_zarr(layout):
    array = make_array(CountingStore(), **layout)
    raster = raster_of(array)
    assert open_shards(raster.array) is None
    for place, chunk in raster.read_chunks([(0, 0), (1, 4), (7, 7)]).items():
        np.testing.assert_array_equal(chunk, array[slices_of(*place)])


def test_an_index_is_read_once_and_neighbours_by_one_request():
    store = CountingStore()
    raster = raster_of(make_array(store))
    store.asked.clear()
    raster.read_chunks([(0, 0), (0, 1), (1, 0), (1, 1)])
    assert [type(span) for _, span in store.asked] == [SuffixByteRequest, RangeByteRequest]
    store.asked.clear()
    raster.read_chunks([(2, 2), (3, 3)])
    assert [(key, type(span)) for key, span in store.asked] == [("agb/c/0/0", RangeByteRequest)]
    store.asked.clear()
    raster.read_chunks([(5, 0), (7, 7)])
    raster.read_chunks([(5, 1), (6, 6)])
    assert sorted(key for key, _ in store.asked) == ["agb/c/1/0", "agb/c/1/1"]  # that they are not there is known


def test_chunks_that_lie_far_apart_are_read_each_by_itself():
    store = CountingStore()
    edge = 512
    array = zarr.create_array(
        store, name="agb", shape=(2 * edge, 2 * edge), chunks=(edge, edge), shards=(2 * edge, 2 * edge), dtype="uint16",
        fill_value=65535, compressors=make_codecs("uint16"),
    )  # fmt: skip
    array[:] = np.random.default_rng(1).integers(0, 65535, array.shape).astype(np.uint16)
    store.asked.clear()
    found = raster_of(array).read_chunks([(0, 0), (1, 1)])
    ranges = [span for _, span in store.asked if isinstance(span, RangeByteRequest)]
    assert len(ranges) == 2
    assert sum(span.end - span.start for span in ranges) < 2.2 * edge * edge * 2
    for place, chunk in found.items():
        np.testing.assert_array_equal(chunk, array[slices_of(*place, edge)])


@pytest.mark.parametrize("where", ["chunk", "index"])
def test_damage_is_said(where):
    store = CountingStore()
    raster = raster_of(make_array(store))
    whole = bytearray(asyncio.run(store.get("agb/c/0/0", zarr.core.buffer.default_buffer_prototype())).to_bytes())
    place = 0 if where == "chunk" else len(whole) - 30
    whole[place : place + 16] = bytes(255 - byte for byte in whole[place : place + 16])
    asyncio.run(store.set("agb/c/0/0", zarr.core.buffer.cpu.Buffer.from_bytes(bytes(whole))))
    with pytest.raises(StoreError, match=r"agb is damaged.*mapper verify"):
        raster.read_chunks([divmod(number, 4) for number in range(16)])


def test_the_arrays_of_a_map_and_of_its_levels_are_laid_out_so(tmp_path):
    spec = write_field(tmp_path / "map.icechunk", skip=1)
    store = MapStore.open(spec.store).zarr
    rasters = Rasters(store, read_description(store))
    assert rasters.levels > 1
    for level in range(rasters.levels):
        for name in rasters.names:
            raster = rasters.find(name, level)
            assert open_shards(raster.array) is not None
            rows, cols = (count // raster.chunk_px for count in raster.shape)
            found = raster.read_chunks([(row, col) for row in range(rows) for col in range(cols)])
            whole = np.block([[found[row, col] for col in range(cols)] for row in range(rows)])
            np.testing.assert_array_equal(whole, raster.read(slice(None), slice(None)))
