"""The public face makes, opens, scores and serves a small map in one call each."""

import json
from urllib.request import ProxyHandler, build_opener

import numpy as np
import pytest
import xarray as xr
from region import run_json

import mapper
from mapper import api
from mapper.errors import InputError, SpecError
from mapper.execute.executors import SerialExecutor
from mapper.training.config import read_config


@pytest.fixture(scope="module")
def made(made_region, tmp_path_factory):
    """A region with its map, made by `mapper.run`; read only."""
    region = made_region.copy(tmp_path_factory.mktemp("face") / "region").change(model={"name": "bicubic"})
    report = mapper.run(region.map, cluster="serial", progress=False)
    assert (report.exit_code, report.failed) == (0, 0)
    return region


def test_a_search_is_kept_beside_the_file_of_a_map(region):
    items = mapper.search(region.map)
    kept = region.folder / "map.items.parquet"
    before = kept.stat().st_mtime_ns
    assert mapper.search(str(region.map)).digest == items.digest
    assert kept.stat().st_mtime_ns == before
    assert mapper.search(region.map, refresh=True).digest == items.digest
    assert kept.stat().st_mtime_ns > before
    assert mapper.search(mapper.read_spec(region.map)).digest == items.digest


def test_a_plan_says_what_the_command_says(region):
    region.change(model={"name": "bicubic"})
    planned = mapper.plan(region.map, only="::2")
    assert (region.folder / "map.plan.parquet").exists()
    assert not region.store.exists()
    assert json.loads(json.dumps(planned.to_dict())) == run_json("plan", region.map, "--only", "::2")
    assert len(planned) == planned.summary.tiles < len(mapper.plan(region.map))
    for words in ("tiles  ", "due 2", "not calibrated"):
        assert words in str(planned)
        assert words in planned._repr_html_()
    with pytest.raises(InputError, match="device is cpu, cuda or None, got 'tpu'"):
        mapper.plan(region.map, device="tpu")


def test_a_plan_is_run_and_a_run_resumes(region):
    region.change(model={"name": "bicubic"})
    events = []
    planned = mapper.plan(region.map, only="0,0")
    first = mapper.run(planned, cluster=SerialExecutor(), progress=False, callbacks=[events.append])
    assert (first.tiles, first.done) == (1, 1)
    assert type(events[-1]).__name__ == "RunFinished"
    rest = mapper.run(region.map, workers=1, progress=False)
    assert (rest.tiles, rest.skipped) == (3, 1)
    assert mapper.run(region.map, progress=False).tiles == 0
    with pytest.raises(InputError, match="belong to the plan"):
        mapper.run(planned, only="0,1")


def test_a_description_without_a_file_keeps_nothing_but_the_map(made, tmp_path):
    spec = mapper.read_spec(made.map).model_copy(update={"store": str(tmp_path / "other.icechunk")})
    assert mapper.run(spec, cluster="serial", progress=False).exit_code == 0
    assert {path.name for path in tmp_path.iterdir()} <= {"other.icechunk", "other.icechunk.lock"}
    xr.testing.assert_equal(mapper.open_map(spec).load(), mapper.open_map(made.map).load())
    assert len(mapper.plan(spec).pending.done) == 4


@pytest.mark.parametrize("way", [str, lambda path: path, mapper.read_spec, lambda path: path.parent / "map.icechunk"])
def test_a_map_is_opened_by_its_file_its_description_or_its_location(made, way):
    found = mapper.open_map(way(made.map), chunks=64)
    assert found["agb"].chunks == ((64,) * (found.sizes["y"] // 64), (64,) * (found.sizes["x"] // 64))
    assert np.isfinite(found["agb"].isel(y=slice(0, 64), x=slice(0, 64)).values).any()
    assert mapper.open_map(way(made.map))["agb"].chunks is None


def test_the_cube_of_a_map_is_lazy(made):
    cube = mapper.open_cube(made.map, bands="B08", chunks={"y": 64, "x": 64})
    assert cube["B08"].sizes["time"] > 1
    assert np.isfinite(cube["B08"].isel(y=slice(0, 64), x=slice(0, 64)).max().compute(scheduler="sync"))


def test_a_map_is_scored(made, tmp_path):
    comparison = mapper.evaluate(made.map, "truth:agb", plots=tmp_path / "plots", overview=tmp_path / "overview.png")
    by_command = run_json("evaluate", made.map, "--truth", "truth:agb")
    assert json.loads(json.dumps(comparison.to_dict(), default=str)) == by_command
    assert (tmp_path / "overview.png").exists()
    assert list((tmp_path / "plots").iterdir())


def test_a_model_is_trained(made, tmp_path):
    card = mapper.train(wald=[str(made.map)], steps=2, out=tmp_path, name="own", progress=False)
    assert (tmp_path / "own.safetensors").exists()
    assert card.name == "own"
    assert mapper.train(wald=[made.map], steps=2, out=tmp_path, name="own", progress=False).sha256 == card.sha256
    with pytest.raises(SpecError, match="say what to train"):
        mapper.train()


def test_a_description_that_is_read_is_not_changed(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{name: m, out: ., data: [{kind: synthetic, folder: ., seeds: [1]}]}")
    with pytest.raises(InputError, match="trained as it is"):
        mapper.train(read_config(recipe), steps=2)


def test_a_map_is_served_in_the_background_until_it_is_stopped(made):
    said = []
    with mapper.serve(made.map, port=0, background=True, notify=said.append) as server:
        assert said == [server.url]
        with build_opener(ProxyHandler({})).open(f"{server.url}/health", timeout=30) as answer:
            assert json.load(answer)["status"] == "ok"
        assert repr(server) == f"server at {server.url}, serving"
    assert repr(server).endswith("stopped")
    with pytest.raises(OSError, match="refused"):
        build_opener(ProxyHandler({})).open(f"{server.url}/health", timeout=30)


def test_locations_are_told_from_maps(made):
    spec = mapper.read_spec(made.map)
    assert {api.location_of(each) for each in (spec, made.map, str(made.map), spec.store)} == {spec.store}
    assert api.location_of("s3://maps/agb") == "s3://maps/agb"
