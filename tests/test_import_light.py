"""Importing mapper is light; planning works without torch."""

import subprocess
import sys

HEAVY = ("torch", "distributed", "dask", "zarr", "icechunk", "stackstac", "odc.stac", "matplotlib", "pystac_client")


def loaded_by(statement):
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(answer.stdout.split())


def test_importing_mapper_loads_nothing_heavy():
    assert not loaded_by("import mapper") & set(HEAVY)


def test_reading_a_description_loads_little():
    allowed = {"dask"}  # odc-geo looks whether it is there
    assert not loaded_by("from mapper import read_spec, MapSpec") & set(HEAVY) - allowed


def test_planning_loads_no_torch():
    assert "torch" not in loaded_by("import mapper.plan.plan")


def test_reading_a_store_loads_neither_torch_nor_dask():
    assert not loaded_by("import mapper.store.ledger, mapper.store.why") & {"torch", "distributed"}


def test_serving_loads_neither_torch_nor_graphs_of_dask():
    assert not loaded_by("import mapper.serve.app, mapper.serve.server") & {"torch", "distributed", "dask.array"}


def test_only_serving_loads_a_web_framework():
    assert not loaded_by("import mapper.cli, mapper.plan.plan, mapper.store.why") & {"fastapi", "starlette", "uvicorn"}
