"""`mapper.plan`, `mapper.run` and `mapper.serve` are packages and functions, whatever was imported before."""

import copy
import inspect
import subprocess
import sys

import cloudpickle
import pytest

import mapper
from mapper import api

NAMES = ("plan", "run", "serve")
IMPORTS = {
    "face": "import mapper; face = mapper.run",
    "from": "from mapper import run; assert callable(run)",
    "module": "import mapper.run.runner as r; assert r.run_plan",
    "below": "from mapper.run import runner; assert runner.run_plan",
    "api": "import mapper.api",
}
CHECK = """
import mapper, mapper.api, mapper.run, mapper.plan, mapper.serve
from mapper import plan, run, serve
import mapper.run.runner
from mapper.errors import SpecError
assert sys.modules["mapper.run"].runner is mapper.run.runner
for call in (mapper.run, run, mapper.plan, plan):
    try:
        call("absent.yaml")
    except SpecError as error:
        assert "absent.yaml" in str(error)
    else:
        raise AssertionError(call)
"""


ORDERS = [("face", "module"), ("module", "from"), ("below", "face"), ("from", "below"), ("api", "module")]
WHOLE = "import mapper.plan.job, mapper.run.pyramid, mapper.serve.app, mapper.cli.program"
FORKS = """
import os, sys
import dask, distributed, fastapi, icechunk, pydantic, rasterio, torch, xarray, zarr  # once for all that follow
for code in sys.argv[1:]:
    if not (child := os.fork()):
        exec(code)
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, code
"""


def test_they_are_both_in_any_order_of_imports():
    orders = ["\n".join([*(IMPORTS[name] for name in order), CHECK]) for order in ORDERS]
    codes = [f"import sys\n{code}" for code in [*orders, f"{WHOLE}\n{CHECK}"]]
    answer = subprocess.run([sys.executable, "-c", FORKS, *codes], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_call_reaches_the_public_function(name, monkeypatch):
    monkeypatch.setattr(api, name, lambda *arguments, **options: (arguments, options))
    assert getattr(mapper, name)("map.yaml", only="3,7") == (("map.yaml",), {"only": "3,7"})


@pytest.mark.parametrize("name", NAMES)
def test_completion_sees_the_arguments_of_the_function(name):
    assert inspect.signature(getattr(mapper, name)) == inspect.signature(getattr(api, name))


def test_names_of_modules_below_can_be_replaced(monkeypatch):
    monkeypatch.setattr("mapper.run.runner.run_plan", "replaced")
    assert sys.modules["mapper.run.runner"].run_plan == "replaced"


@pytest.mark.parametrize("name", NAMES)
def test_they_are_sent_to_workers_by_name(name):
    package = getattr(mapper, name)
    assert cloudpickle.loads(cloudpickle.dumps(package)) is package
    assert cloudpickle.loads(cloudpickle.dumps(lambda: package))() is package
    assert copy.deepcopy({"key": package})["key"] is package
