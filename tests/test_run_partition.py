"""A host that is cut off without a word does not stop a run."""

import pytest
from chaos import make_region
from network_hosts import BEFORE, can_have_hosts, cut_off_a_host
from region import JULY, run_json, run_mapper

from mapper.store.map_store import MapStore


@pytest.mark.skipif(not can_have_hosts(), reason="network namespaces cannot be made here: root or user namespaces")
def test_a_host_that_falls_silent_delays_the_map_and_changes_nothing(tmp_path):
    region = make_region(tmp_path / "calm").change(guide=JULY)
    other = region.copy(tmp_path / "cut")
    assert run_mapper("run", region.map)[0] == 0

    cut = cut_off_a_host(other.folder)

    assert cut.exit == 0
    assert cut.far_alive
    assert BEFORE <= cut.cut_after < run_json("status", region.store)["ok"]
    records, expected = (
        list(MapStore.open(other.store).ledger.records()),
        list(MapStore.open(region.store).ledger.records()),
    )
    assert {r.tile: r.content_sha256 for r in records} == {r.tile: r.content_sha256 for r in expected}
    made = {int(record.worker.rpartition(":")[2]) for record in records}
    assert made == set(cut.pids.values()), "both hosts made tiles"
    assert run_json("verify", other.store)["complete"]
