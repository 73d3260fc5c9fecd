"""A full disk: one clear error, nothing lost, and the writer goes on once there is space."""

import os
import subprocess

import icechunk
import pytest
from store_maps import make_spec, make_tile, write_tiles

from mapper.errors import StoreFullError
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from mapper.store.verify import verify_store


@pytest.fixture
def small_disk(tmp_path):
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def leave_free(disk, size):
    """Fill a disk up to some bytes."""
    state = os.statvfs(disk)
    ballast = disk / "ballast"
    ballast.write_bytes(b"\0" * max(0, state.f_bavail * state.f_bsize - size))
    return ballast


def test_a_full_disk_loses_nothing_wherever_it_strikes(small_disk):
    spec = make_spec(small_disk / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    tiles = list(spec.map_grid.tiles())
    struck = set()
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        write_tiles(writer, spec, tiles[:1])
        for pages in range(0, 32, 4):
            tile = tiles[1 + pages // 4 % (len(tiles) - 1)]
            before = verify_store(spec.store).ok
            ballast = leave_free(small_disk, pages * 4096)
            try:
                stage = "write"
                writer.add(*make_tile(writer.fork(), spec, tile, seed=pages))
                stage = "commit"
                writer.commit()
            except StoreFullError as error:
                assert "no space left" in str(error)  # noqa: PT017 - it may also fit
                struck.add(stage)
                report = verify_store(spec.store)
                assert report.ok == before
                assert not report.corrupt
            ballast.unlink()
            if writer.pending:  # the same forks and records, once more
                assert writer.commit()
                assert tile in verify_store(spec.store).ok
    assert struck == {"write", "commit"}
    assert not verify_store(spec.store).corrupt


def test_no_store_is_made_on_a_full_disk(small_disk):
    spec = make_spec(small_disk / "map.icechunk")
    ballast = leave_free(small_disk, 0)
    with pytest.raises(StoreFullError):
        MapStore.create(spec.store, map_product(spec))
    ballast.unlink()
    MapStore.create(spec.store, map_product(spec))
    assert {path.name for path in small_disk.iterdir()} == {"map.icechunk", "map.icechunk.lock"}


def test_a_commit_that_fails_keeps_its_tiles(tmp_path, monkeypatch):
    spec = make_spec(tmp_path / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    tile = next(iter(spec.map_grid.tiles()))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        writer.add(*make_tile(writer.fork(), spec, tile))

        def fail(*_, **__):
            raise icechunk.IcechunkError("x object store error: No space left on device (os error 28)")

        with monkeypatch.context() as patch:
            patch.setattr("mapper.store.writer.append_batch", fail)
            with pytest.raises(StoreFullError):
                writer.commit()
        assert writer.pending == 1
        assert writer.commit()
    assert verify_store(spec.store).ok == (tile,)
