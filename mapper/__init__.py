"""From a STAC query to a continental, guided-super-resolved Zarr map with provenance.

The public names are loaded when they are first used, so that ``import mapper`` stays light::

    from mapper import read_spec, search, make_plan, run_plan

    spec = read_spec("map.yaml")
    items = search(spec)
    plan = make_plan(spec, items)
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "Items": "mapper.catalog.items",
    "MapGrid": "mapper.grid",
    "MapSpec": "mapper.spec",
    "MapperError": "mapper.errors",
    "build_pyramid": "mapper.run.pyramid",
    "load_provider": "mapper.catalog.provider",
    "make_plan": "mapper.plan.plan",
    "open_cluster": "mapper.cluster.notebook",
    "open_cube": "mapper.cube.open",
    "open_map": "mapper.store.map_store",
    "read_block": "mapper.cube.read",
    "read_guide": "mapper.cube.composite",
    "read_source": "mapper.cube.source",
    "read_spec": "mapper.spec",
    "run_plan": "mapper.run.runner",
    "search": "mapper.catalog.search",
    "verify_store": "mapper.store.verify",
    "why": "mapper.store.why",
}

__all__ = [
    "Items",
    "MapGrid",
    "MapSpec",
    "MapperError",
    "build_pyramid",
    "load_provider",
    "make_plan",
    "open_cluster",
    "open_cube",
    "open_map",
    "read_block",
    "read_guide",
    "read_source",
    "read_spec",
    "run_plan",
    "search",
    "verify_store",
    "why",
]


def __getattr__(name: str) -> object:
    """Load a public name from its home on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mapper' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Offer the public names to completion."""
    return [*__all__, "__version__"]
