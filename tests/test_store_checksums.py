"""Checksums: one flipped bit of a shard is an error in every reader; without them, wherever pixels leave the store."""

import numpy as np
import pytest
import zarr
from bit_flips import Readers, draw_flips, make_little_map
from hypothesis import given, settings
from hypothesis import strategies as st
from store_maps import write_tiles
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec
from zarr.storage import MemoryStore

from mapper.errors import StoreError
from mapper.store import encoding, layout, levels
from mapper.store.checksums import check_object, has_checksums, read_pixels
from mapper.store.encoding import make_codecs, make_small_codecs
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from mapper.store.zarr_keys import open_plain

SAMPLE = 12
"""Flips, each read in another way."""
CHECKED_AGAINST_THE_LEDGER = ("read_level", "read_verify", "export_geotiff", "export_zarr")


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return make_little_map(tmp_path_factory.mktemp("map"))


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """The same as an older mapper made it: no checksum around any chunk."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (layout, levels):
            patch.setattr(module, "make_codecs", lambda dtype: encoding.make_codecs(dtype)[:1])
        return make_little_map(tmp_path_factory.mktemp("old"))


def test_every_array_that_is_made_ends_in_a_checksum(spec):
    root = zarr.open_group(MapStore.open(spec.store).zarr, mode="r")
    arrays = [node for _, node in root.members(max_depth=None) if isinstance(node, zarr.Array)]
    assert len(arrays) > 20
    assert all(has_checksums(array) for array in arrays)
    for path in ("agb", "pyramid/1/qa"):
        (sharding,) = root[path].metadata.codecs
        assert isinstance(sharding, ShardingCodec)
        assert [type(codec) for codec in sharding.codecs] == [BytesCodec, BloscCodec, Crc32cCodec]


def test_a_flipped_bit_is_found_by_every_reader(spec, tmp_path):
    readers, tried = Readers(spec, tmp_path), set()
    for number, flip in enumerate(draw_flips(spec, SAMPLE, bands={"agb", "agb_sd"})):
        names = list(readers.of(flip))
        name = names[number % len(names)]
        readers.renew()
        with flip.done(), pytest.raises(StoreError):
            readers.of(flip)[name](flip)
        tried.add(name)
    assert tried == readers.of(flip).keys()


def test_flags_and_counts_are_covered_too_and_the_tile_is_named(spec, tmp_path):
    readers = Readers(spec, tmp_path)
    for flip in draw_flips(spec, 6, seed=1, bands={"qa", "n_valid"}):
        for read in (readers.read_window, readers.read_chunks, readers.read_why, readers.read_level):
            with flip.done(), pytest.raises(StoreError, match=f"tile {flip.tile} of {flip.band} is damaged"):
                read(flip)
            read(flip)


def test_nothing_leaves_a_store_without_checksums_that_is_not_what_was_written(old, tmp_path):
    readers, silent = Readers(old, tmp_path), 0
    for number, flip in enumerate(draw_flips(old, 12)):
        whole = readers.read_window(flip)
        with flip.done():
            try:
                if np.array_equal(readers.read_window(flip), whole):
                    continue  # a bit that decodes to nothing
                silent += 1
            except StoreError:
                pass
            name = CHECKED_AGAINST_THE_LEDGER[number % 4]
            with pytest.raises(StoreError, match=f"tile {flip.tile}"):
                getattr(readers, name)(flip)
    assert silent > 3


def test_levels_of_a_store_without_checksums_are_checked_before_they_are_copied(old, tmp_path):
    before = MapStore.open(old.store).snapshot
    session = MapStore.open(old.store).repository.writable_session("main")
    zarr.open_array(session.store, path="pyramid/1/agb", mode="r+")[5, 5] = 1
    session.commit("as if the disk had done it")
    with pytest.raises(StoreError, match="tile 1/0,0 is damaged"):
        Readers(old, tmp_path).export_zarr(next(draw_flips(old, 1)))
    MapStore.open(old.store).repository.reset_branch("main", snapshot_id=before)


def test_arrays_of_a_store_keep_the_codecs_that_they_have(old):
    with MapStore.open(old.store).writer(map_product(old), run_id="r") as writer:
        write_tiles(writer, old, list(old.map_grid.tiles())[:1], seed=0)
    assert not has_checksums(zarr.open_array(MapStore.open(old.store).zarr, path="agb", mode="r"))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_bit_of_any_object_of_a_store_is_covered(spec, data):
    plain = open_plain(MapStore.open(spec.store).session)
    path = data.draw(st.sampled_from(sorted(plain.chunk_grids)))
    key = "/".join([path, "c", *("0" for _ in plain.chunk_grids[path])])
    size = zarr.core.sync.sync(plain.size_of(key))
    if not size:  # the grid mapping has no value of its own
        assert path.endswith("spatial_ref")
        return
    content = bytearray(zarr.core.sync.sync(plain.read(key, 0, size)))
    plain.check(key, bytes(content))
    bit = data.draw(st.integers(0, 8 * size - 1))
    content[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StoreError, match="is damaged"):
        plain.check(key, bytes(content))
    with pytest.raises(StoreError, match="is damaged"):
        plain.check(key, bytes(content)[: bit // 8])


@pytest.mark.parametrize("codecs", [make_codecs("uint16"), make_small_codecs()], ids=["sharded", "flat"])
def test_objects_are_checked_as_zarr_checks_them(codecs):
    store, sharded = MemoryStore(), isinstance(codecs[0], BloscCodec)
    array = zarr.create_array(
        store, name="a", shape=(32, 32), chunks=(8, 8), shards=(32, 32) if sharded else None, dtype="uint16",
        fill_value=0, compressors=codecs,
    )  # fmt: skip
    array[:8, :24] = np.random.default_rng(1).integers(1, 999, (8, 24))
    document = array.metadata.to_dict()
    key = next(key for key in store._store_dict if "/c/" in key)
    whole = store._store_dict[key].to_bytes()
    check_object(whole, document)
    for byte in np.linspace(0, len(whole) - 1, 23).astype(int):
        broken = whole[:byte] + bytes([whole[byte] ^ 16]) + whole[byte + 1 :]
        with pytest.raises((ValueError, RuntimeError)):
            check_object(broken, document)


def test_the_first_damaged_tile_of_a_window_is_named():
    store = MemoryStore()
    array = zarr.create_array(
        store, name="agb", shape=(64, 64), chunks=(8, 8), shards=(32, 32), dtype="uint8", fill_value=0,
        compressors=make_codecs("uint8"),
    )  # fmt: skip
    array[:] = 7
    key = "agb/c/1/0"
    broken = bytearray(store._store_dict[key].to_bytes())
    broken[len(broken) // 3] ^= 1
    store._store_dict[key] = zarr.core.buffer.cpu.Buffer.from_bytes(bytes(broken))
    assert read_pixels(array, slice(0, 32), slice(None)).shape == (32, 64)
    with pytest.raises(StoreError, match="tile 1,0 of agb is damaged"):
        read_pixels(array, slice(None), slice(None))
