"""Checksums: one flipped bit of a shard is an error in every reader; without them, wherever pixels leave the store."""

import pytest
import zarr
from store_maps import make_spec, write_tiles
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec

from mapper.store import checksums, encoding, layout, levels
from mapper.store.map_store import MapStore
from mapper.store.product import map_product

AREA = {"area": {"bbox": [12.0, 50.0, 12.012, 50.008]}}


def make_little_map(folder):
    """2 x 2 tiles."""
    spec = make_spec(folder / "map.icechunk", **AREA)
    MapStore.create(spec.store, map_product(spec))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        write_tiles(writer, spec, list(spec.map_grid.tiles()))
    return spec


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
    assert len(arrays) > 12
    assert all(checksums.has_checksums(array) for array in arrays)
    (sharding,) = root["agb"].metadata.codecs
    assert isinstance(sharding, ShardingCodec)
    assert [type(codec) for codec in sharding.codecs] == [BytesCodec, BloscCodec, Crc32cCodec]
