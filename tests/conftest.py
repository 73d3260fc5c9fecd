"""Fixtures shared by all tests."""

import json
import os
import subprocess
import sys
from importlib.metadata import PathDistribution
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import pytest
import torch
from region import Region
from s3_server import make_location, serve_objects

from mapper.synthetic.scenes import write_scenes

LONGEST = (
    "test_cluster_operator", "test_run_chaos", "test_notebooks", "test_run_partition", "test_plan_guide_context",
    "test_run_object_store", "test_run_kill", "test_execute_dask_futures", "test_end_to_end", "test_run_runner",
    "test_serve_hostile", "test_catalog_pgstac", "test_execute_executors", "test_run_pyramid", "test_cli_composite",
    "test_run_losses", "test_run_sharpen", "test_run_memory", "test_kinds_of_maps", "test_example_package",
    "test_training_request", "test_serve_commits", "test_cluster_kubernetes_objects", "test_serve_schemas",
    "test_store_garbage", "test_store_errors", "test_training_distributed", "test_run_faults", "test_models_zoo",
)  # fmt: skip
"""Modules that take longest, to begin with: what is still to do when a process runs out of work is short."""

# most of what a process of a test does is to load modules: the first one leaves their bytecode, whatever the shell says
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# one commit, one verdict; `--hypothesis-profile=search` looks for other examples
hypothesis.settings.register_profile("repeat", derandomize=True, deadline=None)
hypothesis.settings.register_profile("search", print_blob=True, deadline=None)
hypothesis.settings.load_profile("repeat")


def pytest_collection_modifyitems(items):
    """Put the tests of some modules first; the order within modules stays."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Keep torch to one thread: threads that wait for each other on shared cores cost more than they give."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def made_region(tmp_path_factory):
    """Scenes of 2.4 km; read only."""
    folder = tmp_path_factory.mktemp("region")
    write_scenes(folder / "catalog", size_px=240, seed=11, tile_px=128, chunk_px=64, dates=4, margin_px=160)
    return Region(folder)


@pytest.fixture
def region(made_region, tmp_path):
    """A copy of the region that a test may change."""
    return made_region.copy(tmp_path)


@pytest.fixture(scope="session")
def object_server():
    """An object store on loopback, one for a test process."""
    with serve_objects() as server:
        yield server


@pytest.fixture
def bucket(object_server, monkeypatch):
    """The object store, without faults, and an environment that leads to it; leases are short."""
    for name, value in object_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("mapper.store.lease.TERM_S", 6.0)
    object_server.fail()
    return object_server


@pytest.fixture(params=["local", "s3"])
def location(request, tmp_path):
    """Where a store may be made: in a directory, and in an object store."""
    if request.param == "local":
        return str(tmp_path / "map.icechunk")
    request.getfixturevalue("bucket")
    return make_location()


@pytest.fixture
def stac_api(tmp_path, monkeypatch):
    """Start STAC API processes on loopback: ``stac_api(items, "--fail", "2")`` gives the address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    processes = []

    def start(items, *options):
        path = tmp_path / f"served-{len(processes)}.json"
        path.write_text(json.dumps(items))
        command = [sys.executable, str(Path(__file__).with_name("stac_server.py")), str(path), *options]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return processes[-1].stdout.readline().strip()

    yield start
    for process in processes:
        process.terminate()
        process.wait()
        process.stdout.close()


@pytest.fixture
def offer(tmp_path, monkeypatch):
    """Stand in for a package "toys" that offers objects as entry points of a registry, until the test ends."""
    read = []

    def install(registry, *, module="toys", **objects):
        info = tmp_path / "toys-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
        points = "\n".join(f"{name} = {module}:{name}" for name in objects)
        (info / "entry_points.txt").write_text(f"[{registry.group}]\n{points}\n")
        monkeypatch.setitem(sys.modules, "toys", SimpleNamespace(**objects))
        toys = PathDistribution(info).entry_points
        # beside what is installed: metadata that is found by a search of sys.path may be that of an earlier test
        monkeypatch.setattr("mapper.registry.entry_points", lambda group: toys.select(group=group))
        read.append(registry)
        vars(registry).pop("_entries", None)

    yield install
    for registry in read:
        vars(registry).pop("_entries", None)
