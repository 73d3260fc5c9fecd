"""The public names of mapper are a contract: complete, typed, and the same for people and for type checkers."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import mapper
from mapper import api

ROOT = Path(__file__).parents[1]
FACE = {
    "evaluate", "open_cluster", "open_cube", "open_map", "plan", "read_spec", "run", "search", "serve", "train",
}  # fmt: skip
SCRIPT = """\
from pathlib import Path

import xarray as xr

import mapper
from mapper import plan, run, serve

spec: mapper.MapSpec = mapper.read_spec("map.yaml")
for each in (spec, Path("map.yaml"), "map.yaml"):
    items: mapper.Items = mapper.search(each, refresh=True)
    planned = mapper.plan(each, only="::10", device="cpu")
    print(len(planned), planned.summary.tiles, planned.forecast.summary())
    report = mapper.run(planned)
    code: int = run(each, cluster="local", workers=2, progress=False).exit_code
    dataset: xr.Dataset = mapper.open_map(each, level=1, chunks={"y": 512, "x": 512})
    cube: xr.Dataset = mapper.open_cube(each, bands="B02", chunks=512, dtype="float64", resampling={"B02": "cubic"})
    scores = mapper.evaluate(each, "truth:agb", overview="overview.png").scores
    with mapper.serve(each, port=0, background=True) as server:
        url: str = server.url
card = mapper.train("recipe.yaml", steps=10, out="weights")
print(card.sha256, mapper.why("map.icechunk", 12.0, 50.0).to_text())
with mapper.open_cluster("local", workers=2) as client:
    mapper.run(spec, cluster=client)
print(mapper.__version__)
mapper.run(spec, workers="two")  # wrong
mapper.plan(3)  # wrong
plan(spec, device="tpu")  # wrong
mapper.search(spec, refesh=True)  # wrong
mapper.open_map("map.icechunk", level="1")  # wrong
mapper.open_cube(spec, resampling="lanczos")  # wrong
mapper.open_cube(spec, groupby="month")  # wrong
mapper.train(steps="many")  # wrong
mapper.evaluate(spec)  # wrong
serve(spec, port="8080")  # wrong
mapper.serve(spec).stop()  # wrong
mapper.read_spec(None)  # wrong
mapper.open_cluster(workers="two")  # wrong
mapper.nothing_of_that_name  # wrong
planned.nothing_of_that_name  # wrong
"""


def test_all_is_sorted_and_complete():
    assert list(mapper.__all__) == sorted(mapper.__all__)
    assert set(mapper.__all__) >= FACE
    for name in mapper.__all__:
        assert getattr(mapper, name) is not None


def test_functions_are_verbs_documented_and_typed():
    for name in mapper.__all__:
        public = getattr(mapper, name)
        if not inspect.isclass(public):
            assert inspect.getdoc(public), f"{name} has no docstring"
            assert inspect.signature(public).return_annotation is not inspect.Signature.empty, (
                f"{name} has no return type"
            )


def test_the_face_shows_an_example():
    for name in FACE:
        function = getattr(api, name, None) or getattr(mapper, name)
        assert f"mapper.{name}(" in inspect.getdoc(function), name


def test_a_type_checker_sees_the_names_where_they_come_from():
    tree = ast.parse((ROOT / "mapper" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == mapper._HOMES | dict.fromkeys(mapper._CALLABLE_PACKAGES, "mapper.api")
    assert sorted(seen) == mapper.__all__


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(mapper, "nothing_of_that_name")


def test_mypy_checks_the_script_of_a_user(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", str(script)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = {int(line.split(":")[1]) for line in answer.stdout.splitlines() if ": error:" in line}
    wrong = {number for number, line in enumerate(SCRIPT.splitlines(), start=1) if line.endswith("# wrong")}
    assert found == wrong, answer.stdout + answer.stderr
