"""`mapper verify --repair`, `mapper store gc` and `mapper store expire`, as one calls them."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import typer
from region import run_json, run_mapper
from store_maps import read_tile

from mapper.cli.storage import parse_age
from mapper.grid import Tile
from mapper.spec import read_spec
from mapper.store.location import parse_location
from mapper.store.lock import hold_lock
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from mapper.store.tiles import digest_bands, write_bands
from mapper.store.verify import verify_store


@pytest.fixture(scope="module")
def made_map(made_region, tmp_path_factory):
    """A finished map of 4 x 4 tiles, without a guide; read only."""
    region = made_region.copy(tmp_path_factory.mktemp("made") / "region")
    region.change(model={"name": "bicubic"}, grid__tile=60, grid__chunk=60)
    assert run_mapper("run", region.map, "--workers", 1)[0] == 0
    return region


@pytest.fixture
def made(made_map, tmp_path):
    """A copy of it that a test may change."""
    return made_map.copy(tmp_path)


def records_of(region):
    return {record.tile: record for record in MapStore.open(region.store).ledger.records()}


def chunks_of(region):
    return set((region.store / "chunks").iterdir())


def make_anew(region, tile, damage, **record):
    """Commit a tile as it is, with changes to its record, and then damage one of its shards."""
    spec = read_spec(region.map)
    before = chunks_of(region)
    bands = read_tile(MapStore.open(spec.store).zarr, grid=spec.map_grid, target=spec.target, tile=tile)
    old = records_of(region)[tile]
    with MapStore.open(spec.store).writer(map_product(spec), run_id="by-hand") as writer:
        fork = writer.fork()
        write_bands(fork.store, grid=spec.map_grid, tile=tile, bands=bands)
        shards = sorted(chunks_of(region) - before, key=lambda path: path.stat().st_size)
        assert digest_bands(bands) == old.content_sha256
        writer.add(fork, replace(old, run_id="by-hand", **record))
        writer.commit()
    damage(shards[-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


def repaired(region, before, tiles):
    """Check that a repair made these tiles again, in one run, and no other."""
    after = records_of(region)
    assert {tile for tile in after if before.get(tile) != after[tile]} == set(tiles)
    (run_id,) = {after[tile].run_id for tile in tiles}
    assert run_id not in {record.run_id for record in before.values()}


def test_repair_makes_missing_stale_and_corrupt_tiles_again_and_no_other(region):
    region.change(model={"name": "bicubic"}, grid__tile=60, grid__chunk=60)
    assert run_mapper("run", region.map, "--workers", 1, "--only", "0-2,0-3 3,0-2")[0] == 0
    whole = records_of(region)
    gone, flipped, stale, missing = Tile(0, 1), Tile(1, 2), Tile(2, 0), Tile(3, 3)
    make_anew(region, gone, Path.unlink)
    make_anew(region, flipped, flip)
    make_anew(region, stale, lambda _: None, task_id="6ba7b810-9dad-11d1-80b4-00c04fd430c8", model_digest="f" * 64)
    before = records_of(region)
    code, found = run_mapper("verify", region.map)
    assert code == 1
    assert found.startswith("12 ok, 0 empty, 0 failed, 1 missing, 1 stale, 2 corrupt")
    assert records_of(region) == before
    code, text = run_mapper("verify", region.map, "--repair", "--cluster", "serial")
    assert code == 0, text
    assert f"stale {stale}: model changed" in text
    assert "4 tiles done, 0 empty, 0 failed, 0 were up to date" in text
    assert "16 ok, 0 empty, 0 failed, 0 missing, 0 stale, 0 corrupt" in text
    repaired(region, before, (gone, flipped, stale, missing))
    after = records_of(region)
    assert all(after[tile].content_sha256 == record.content_sha256 for tile, record in whole.items())
    assert after[stale].task_id == whole[stale].task_id
    snapshot = MapStore.open(region.store).snapshot
    code, text = run_mapper("verify", region.map, "--repair")
    assert code == 0
    assert "nothing to repair" in text
    assert MapStore.open(region.store).snapshot == snapshot


def test_repair_tells_of_itself_as_json(made):
    make_anew(made, Tile(0, 0), lambda path: path.write_bytes(path.read_bytes()[:100]))
    report = run_json("verify", made.map, "--repair")
    assert report["complete"]
    assert report["repair"]["done"] == 1
    assert report["before"]["corrupt"].keys() == {"0,0"}
    again = run_json("verify", made.map, "--repair")
    assert again["repair"] is None


def test_a_tile_whose_record_is_damaged_is_made_again_though_it_is_stale_as_well(made):
    tile = Tile(1, 1)
    make_anew(made, tile, lambda _: None, task_id="6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    before = {each: record for each, record in records_of(made).items() if each != tile}
    blob = max((made.store / "chunks").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    blob.write_bytes(b"")
    report = verify_store(made.store)
    assert report.corrupt == {tile: "its record cannot be read"}
    code, text = run_mapper("verify", made.map, "--repair", "--cluster", "serial")
    assert code == 0, text
    after = records_of(made)
    assert {each for each in after if before.get(each) != after[each]} == {tile}


def test_failed_tiles_are_left_to_a_run(region):
    region.change(model={"name": "bicubic"}, grid__tile=60, grid__chunk=60)
    assert run_mapper("run", region.map, "--workers", 1, "--only", "0-2,0-3 3,0-2")[0] == 0
    failed = replace(records_of(region)[Tile(0, 0)], tile=Tile(3, 3), status="failed", reason="out of luck")
    with MapStore.open(region.store).writer(map_product(read_spec(region.map)), run_id="by-hand") as writer:
        writer.add(None, replace(failed, content_sha256=""))
        writer.commit()
    before = records_of(region)
    code, text = run_mapper("verify", region.map, "--repair", "--cluster", "serial")
    assert code == 1
    assert "nothing to repair" in text
    assert "failed 3,3: out of luck" in text
    assert records_of(region) == before


def test_a_store_alone_is_not_repaired(made):
    code, text = run_mapper("verify", made.store, "--repair")
    assert code == 2
    assert "needs the MAP.yaml" in " ".join(text.split())
    assert run_mapper("verify", made.store)[0] == 0


def test_gc_and_expire_are_refused_while_a_run_is_on(made):
    with hold_lock(parse_location(made.store)):
        for command in (("gc",), ("gc", "--dry-run"), ("expire", "--older-than", "30d")):
            code, line = run_mapper("store", *command, made.map)
            assert code == 1
            assert "is being written by process" in line


def test_gc_frees_what_expired(made):
    repository = MapStore.open(made.store).repository
    repository.create_tag("v1", snapshot_id=repository.lookup_branch("main"))
    for _ in range(2):
        make_anew(made, Tile(0, 0), lambda _: None)
    assert run_json("store", "gc", made.map)["objects"] == 0
    assert run_json("store", "expire", made.map, "--older-than", "1h")["expired"] == 0
    expired = run_json("store", "expire", made.store, "--older-than", "0")
    assert (expired["tags"], expired["versions"]) == (["v1"], 2)
    told = run_json("store", "gc", made.store, "--dry-run")
    files = len(chunks_of(made))
    done = run_json("store", "gc", made.store, "--older-than", "0s")
    assert told["objects"] == done["objects"] > 4
    assert files - len(chunks_of(made)) == done["chunks"]
    assert run_mapper("verify", made.map)[0] == 0
    place = made_place(made)
    assert run_json("why", made.store, *place, "--ref", "v1")["snapshot"]


def made_place(region):
    grid = read_spec(region.map).map_grid
    ((x, y),) = grid.geobox_of(grid.window(Tile(1, 1))).extent.centroid.coords
    return x, y, "--crs", grid.crs


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("7d", timedelta(days=7)),
        ("1.5h", timedelta(minutes=90)),
        ("30m", timedelta(minutes=30)),
        ("2w", timedelta(days=14)),
        ("90s", timedelta(seconds=90)),
        ("0", timedelta(0)),
    ],
)
def test_ages_are_numbers_with_a_unit(text, age):
    assert parse_age(text) == age


@pytest.mark.parametrize("text", ["7", "d", "-1d", "7 days", "9" * 30 + "d", ""])
def test_other_ages_are_refused(text):
    with pytest.raises(typer.BadParameter):
        parse_age(text)
