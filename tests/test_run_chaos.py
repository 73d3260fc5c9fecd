"""Driver, scheduler and workers killed at random: the map is the one of an undisturbed run, and nothing is left over.

``python tests/benchmarks/chaos.py`` does the same many times over.
"""

from pathlib import Path

import pytest
from chaos import KINDS, draw_kills, make_region, start_cluster
from chaos_checks import find_left_over, find_partial_tiles, find_recomputed
from region import JULY
from store_maps import make_spec, make_tile, write_tiles

from mapper.store.map_store import MapStore
from mapper.store.product import map_product

SEED = 3
"""Kills the driver, the scheduler and a worker."""


def test_three_kills_change_no_pixel_lose_no_committed_tile_and_leave_nothing_over(tmp_path):
    region = make_region(tmp_path / "region", size_px=330).change(guide=JULY)
    with start_cluster(tmp_path) as cluster:
        calm = cluster.rest(region)
        assert len(calm.checksums) >= 36
        report, _ = cluster.run(region, name="killed", kills=draw_kills(SEED, calm), calm=calm)
    assert not report.faults, report
    assert {victim.partition("-")[0] for victim, _, _ in report.killed} == set(KINDS)
    assert report.snapshots >= 2, "the reader saw the map grow"


@pytest.fixture
def spec(tmp_path):
    """A finished map."""
    spec = make_spec(tmp_path / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="first") as writer:
        write_tiles(writer, spec, list(spec.map_grid.tiles()))
    return spec


def test_a_map_without_faults_has_none(spec):
    ledger = MapStore.open(spec.store).ledger
    assert not [*find_partial_tiles(ledger), *find_recomputed(ledger), *find_left_over(spec.store)]


def test_the_checks_find_a_tile_made_twice_and_pixels_that_are_not_those_of_the_record(spec):
    first, second, *_ = spec.map_grid.tiles()
    with MapStore.open(spec.store).writer(map_product(spec), run_id="second") as writer:
        write_tiles(writer, spec, [first])
        fork, _ = make_tile(writer.fork(), spec, second, seed=1)
        writer.add(fork, make_tile(writer.fork(), spec, second, seed=2)[1])
        writer.commit()
    ledger = MapStore.open(spec.store).ledger
    again = [fault for fault in find_recomputed(ledger) if f"tile {first} " in fault]
    assert len(again) == 1
    (partial,) = find_partial_tiles(ledger)
    assert partial.startswith(f"tile {second} ")


def test_the_checks_find_what_nothing_refers_to_and_what_is_missing(spec):
    store = Path(spec.store)
    with MapStore.open(spec.store).writer(map_product(spec), run_id="lost") as writer:
        make_tile(writer.fork(), spec, next(iter(spec.map_grid.tiles())), seed=1)
    (store / "chunks" / "0123456789ABCDEFGHJK#1").touch()
    store.with_name(f"{store.name}.4711.new").mkdir()
    next((store / "manifests").iterdir()).unlink()
    kinds = [fault.partition("/")[0] for fault in find_left_over(spec.store)]
    assert kinds.count("manifests") == 1
    assert kinds.count("chunks") >= 4 + 1
    assert kinds.count(f"{store.name}.4711.new left over") == 1
