"""What can go wrong gives one clear line and an exit code, and loses nothing."""

import json
import sys
from contextlib import ExitStack

import pytest
from region import CHANNELS, SEEN, SEEN_CHANNELS, run_json, run_mapper, write_weights

from mapper.cli.program import main
from mapper.predict.quality import mask_of
from mapper.spec import read_spec
from mapper.store.location import parse_location
from mapper.store.lock import hold_lock
from mapper.store.map_store import MapStore, open_map


@pytest.fixture(scope="module")
def made_map(made_region, tmp_path_factory):
    """A finished map without a guide; read only."""
    region = made_region.copy(tmp_path_factory.mktemp("made") / "region").change(model={"name": "bicubic"})
    assert run_mapper("run", region.map)[0] == 0
    return region


@pytest.fixture
def finished(made_map, tmp_path):
    """A copy of the finished map, to see that nothing of it is lost."""
    return made_map.copy(tmp_path)


def fails(region, *words, code=2, command=("run",)):
    got, line = run_mapper(*command, region.map)
    assert got == code, line
    assert "\n" not in line.strip(), line
    for word in words:
        assert word in line, line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": "red"}, ["colour", "unknown key"]),
        ({"area": {"bbox": [179.9, 50, -179.9, 51]}}, ["antimeridian"]),
        ({"source__resolution": 95}, ["does not nest"]),
        ({"source__collection": "no-such-map"}, ["no-such-map", "esa-cci-biomass"]),
        ({"period": {"start": "1999-01-01", "end": "1999-12-31"}, "model": {"name": "msg-none"}}, ["msg-none"]),
        ({"catalog__href": "nowhere/catalog.json"}, ["nowhere/catalog.json"]),
        ({"catalog__provider": "atlantis"}, ["atlantis", "planetary-computer"]),
    ],
)
def test_a_wrong_description_is_refused_before_anything_is_started(finished, change, words):
    before = MapStore.open(finished.store).snapshot
    finished.change(**change)
    fails(finished, *words)
    assert MapStore.open(finished.store).snapshot == before


def test_a_search_that_finds_nothing_says_what_was_asked(region):
    region.change(period={"start": "1999-01-01", "end": "1999-12-31"}, model={"name": "bicubic"})
    fails(region, "sentinel-2-l2a", "1999")
    assert not region.store.exists()


def test_a_store_of_another_map_is_left_alone(finished):
    before = MapStore.open(finished.store).snapshot
    finished.change(consistency="hard")
    fails(finished, "another")
    assert MapStore.open(finished.store).snapshot == before


def test_a_locked_store_is_left_alone(region):
    region.change(model={"name": "bicubic"})
    with ExitStack() as stack:
        stack.enter_context(hold_lock(parse_location(read_spec(region.map).store)))
        fails(region, "is being written by process", code=1)
    assert run_mapper("run", region.map)[0] == 0


def test_missing_weights_are_named(region):
    region.change(model={"name": "tiny", "weights": "tiny.safetensors"})
    fails(region, "tiny")


def test_tampered_weights_are_refused(region):
    path = write_weights(region.folder)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    region.change(model={"name": "tiny", "weights": "tiny.safetensors"})
    fails(region, "sha256")


def test_a_model_that_wants_other_bands_is_refused(region):
    write_weights(region.folder, channels=CHANNELS | {"winter_B04": ("1", 0.1)})
    region.change(model={"name": "tiny", "weights": "tiny.safetensors"})
    fails(region, "winter_B04", "missing")


def test_a_model_of_another_scale_is_refused(region):
    write_weights(region.folder, scale=8)
    region.change(model={"name": "tiny", "weights": "tiny.safetensors"})
    fails(region, "scale")


def test_a_truncated_file_costs_its_item_and_is_recorded(region):
    write_weights(region.folder, channels=SEEN_CHANNELS)
    region.change(guide=SEEN, model={"name": "tiny", "weights": "tiny.safetensors"}, grid__tile=256)
    item = json.loads(region.items("S2")[0].read_text())
    path = region.items("S2")[0].parent / item["assets"]["B04"]["href"]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    code, _ = run_mapper("run", region.map)
    assert code == 0
    records = list(MapStore.open(region.store).ledger.records())
    dropped = {use.id: use.dropped for record in records for use in record.items if use.dropped}
    assert set(dropped) == {item["id"]}
    assert "B04" in dropped[item["id"]]
    flags = open_map(region.store)["qa"].to_numpy().astype(int)
    assert (flags & mask_of("item_dropped")).any()


def test_items_without_a_band_are_used_for_the_others(region):
    write_weights(region.folder, channels=SEEN_CHANNELS)
    region.change(guide=SEEN, model={"name": "tiny", "weights": "tiny.safetensors"}, grid__tile=256)
    for path in region.items("S2")[:2]:
        item = json.loads(path.read_text())
        del item["assets"]["B08"]
        path.write_text(json.dumps(item))
    code, said = run_mapper("run", region.map)
    assert code == 0, said
    assert run_json("verify", region.map)["complete"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("cluster", "render", "--out", "/dev/null/manifests"), "/dev/null"),
        (("demo", "/dev/null/demo", "--scenes-only"), "/dev/null"),
        (("run", "/proc/nowhere/map.yaml"), "cannot be read"),
    ],
)
def test_a_folder_that_cannot_be_written_is_one_line(monkeypatch, capsys, words, said):
    monkeypatch.setattr(sys, "argv", ["mapper", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (1, 2)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert said in line


@pytest.mark.parametrize("address", ["tcp://10.1.1.1", "tls://10.1.1.1:8786", "tcpp://10.1.1.1:8786", "10.1.1.1:8786"])
@pytest.mark.parametrize("command", ["run", "composite", "pyramid"])
def test_a_wrong_scheduler_ends_a_command_before_it_searches(region, command, address):
    code, line = run_mapper(command, region.map, "--cluster", address)
    assert code == 2
    assert "\n" not in line.strip()
    assert not list(region.folder.glob("*.parquet"))
