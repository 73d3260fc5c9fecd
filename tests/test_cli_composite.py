"""`mapper composite`, `run --guide` and the comparison in `mapper plan`, from end to end."""

from region import JULY, JULY_CHANNELS, run_json, run_mapper, write_weights

from mapper.store.map_store import MapStore


def checksums(location):
    return {record.tile: record.content_sha256 for record in MapStore.open(str(location)).ledger.records(items=False)}


def test_a_guide_is_written_and_a_map_made_from_it(region):
    weights = write_weights(region.folder, channels=JULY_CHANNELS)
    region.change(grid__tile=256, guide=JULY, model={"name": "tiny", "weights": str(weights)})
    guide = region.folder / "map.guide.icechunk"
    code, listed = run_mapper("composite", region.map, "--dry-run")
    assert code == 0
    assert not guide.exists()
    done = run_json("composite", region.map)
    assert done["store"] == str(guide)
    assert done["failed"] == 0
    assert len(listed.splitlines()) == done["tiles"]
    assert run_mapper("composite", region.map, "--halo", 500)[0] == 2
    assert run_mapper("verify", guide)[0] == 0
    assert run_mapper("status", guide)[0] == 0
    plan = run_json("plan", region.map, "--guide", guide)
    assert plan["two_phases"]["composed"] == 1
    assert plan["two_phases"]["cheaper"] == "two phases"
    assert "two phases" in run_mapper("plan", region.map)[1]
    run_json("run", region.map, "--guide", guide)
    made = checksums(region.store)
    region.change(store=str(region.folder / "fused.icechunk"))
    run_json("run", region.map)
    assert checksums(region.folder / "fused.icechunk") == made
    assert run_mapper("run", region.map, "--guide", region.store)[0] == 2
