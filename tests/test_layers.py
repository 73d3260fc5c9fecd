"""Imports point down the list of the house, and heavy libraries have one home each."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mapper"

FLOORS = [
    "callable_package", "redaction",
    "errors", "registry", "arrays", "noise", "text", "events", "grid", "markup", "description",
    "presets", "spec", "access", "execute", "catalog", "cluster", "cube", "models", "predict", "store", "plan", "cost",
    "monitor", "run", "export", "report", "serve", "synthetic", "evaluation", "training", "benchmark", "api", "demo",
    "cli",
]  # fmt: skip

HOMES = {
    "torch": {"models", "predict", "training", "benchmark.speed"},
    "safetensors": {"models", "training.checkpoint", "training.opensr_test"},
    "distributed": {"execute", "cluster"},
    "dask": {"cube.open", "execute", "cluster", "run.sharpen"},
    "icechunk": {"store"},
    "zarr": {"store"},
    "pystac_client": {"catalog.pages", "catalog.search"},
    "stackstac": {"cube"},
    "odc.stac": {"cube"},
    "matplotlib": {
        "evaluation.attribution_plot",
        "evaluation.overview",
        "evaluation.plots",
        "evaluation.search_plot",
        "evaluation.date_plots",
        "evaluation.terrain_plots",
        "training.curves",
        "synthetic",
    },
    "rich": {"monitor.progress", "training.progress", "cli", "demo"},
    "typer": {"cli"},
    "fastapi": {"serve"},
    "starlette": {"serve"},
    "uvicorn": {"serve"},
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path):
    floor = name_of(path).split(".")[0]
    if floor in ("__init__", ""):
        return
    for module in imports_of(path):
        if module.startswith("mapper."):
            target = module.split(".")[1]
            if target not in FLOORS:
                continue
            assert FLOORS.index(target) <= FLOORS.index(floor), f"{path.name} imports {module}, which is above it"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_libraries_have_one_home(path):
    name = name_of(path)
    for module in imports_of(path):
        for library, homes in HOMES.items():
            if module == library or module.startswith(f"{library}."):
                assert any(name == home or name.startswith(f"{home}.") for home in homes), f"{name} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_stay_readable(path):
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_stay_readable(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < 60, f"{node.name} is too long"


def test_every_module_belongs_to_a_floor():
    assert {name_of(path).split(".")[0] for path in MODULES} <= {*FLOORS, "__init__"}


def test_no_cycle_between_modules():
    graph = {name_of(p): {m.removeprefix("mapper.") for m in imports_of(p) if m.startswith("mapper.")} for p in MODULES}
    graph = {name: {m for m in targets if m in graph and m != name} for name, targets in graph.items()}
    done, path = set(), []

    def visit(name):
        assert name not in path, f"import cycle: {' -> '.join([*path, name])}"
        if name in done:
            return
        path.append(name)
        for target in sorted(graph[name]):
            visit(target)
        path.pop()
        done.add(name)

    for name in graph:
        visit(name)
