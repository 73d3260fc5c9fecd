"""From a STAC query to a continental, guided-super-resolved Zarr map with provenance.

The public names are loaded when they are first used, so that ``import mapper`` stays light::

    import mapper

    mapper.search("map.yaml")  # freeze what the archive has
    mapper.plan("map.yaml")  # what a run would do and take
    mapper.run("map.yaml")  # make the map, or go on with it
    mapper.open_map("map.yaml")  # the map, as xarray
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mapper.api import evaluate, open_map, plan, run, search, serve, train
    from mapper.catalog.items import Items
    from mapper.catalog.provider import load_provider
    from mapper.cluster.open_executor import open_cluster
    from mapper.cube.composite import read_guide
    from mapper.cube.open import open_cube
    from mapper.cube.read import read_block
    from mapper.cube.source import read_source
    from mapper.errors import MapperError
    from mapper.grid import MapGrid
    from mapper.plan.plan import make_plan
    from mapper.run.explainer import explain
    from mapper.run.pyramid import build_pyramid
    from mapper.run.runner import run_plan
    from mapper.run.sharpen import open_inputs, sharpen
    from mapper.spec import MapSpec, read_spec
    from mapper.store.verify import verify_store
    from mapper.store.why import why

__version__ = "0.1.0"

_HOMES = {
    "Items": "mapper.catalog.items",
    "MapGrid": "mapper.grid",
    "MapSpec": "mapper.spec",
    "MapperError": "mapper.errors",
    "build_pyramid": "mapper.run.pyramid",
    "evaluate": "mapper.api",
    "explain": "mapper.run.explainer",
    "load_provider": "mapper.catalog.provider",
    "make_plan": "mapper.plan.plan",
    "open_cluster": "mapper.cluster.open_executor",
    "open_cube": "mapper.cube.open",
    "open_inputs": "mapper.run.sharpen",
    "open_map": "mapper.api",
    "read_block": "mapper.cube.read",
    "read_guide": "mapper.cube.composite",
    "read_source": "mapper.cube.source",
    "read_spec": "mapper.spec",
    "run_plan": "mapper.run.runner",
    "search": "mapper.api",
    "sharpen": "mapper.run.sharpen",
    "train": "mapper.api",
    "verify_store": "mapper.store.verify",
    "why": "mapper.store.why",
}
_CALLABLE_PACKAGES = ("plan", "run", "serve")
"""Folders that can be called, see :mod:`mapper.callable_package`."""

__all__ = [
    "Items",
    "MapGrid",
    "MapSpec",
    "MapperError",
    "build_pyramid",
    "evaluate",
    "explain",
    "load_provider",
    "make_plan",
    "open_cluster",
    "open_cube",
    "open_inputs",
    "open_map",
    "plan",
    "read_block",
    "read_guide",
    "read_source",
    "read_spec",
    "run",
    "run_plan",
    "search",
    "serve",
    "sharpen",
    "train",
    "verify_store",
    "why",
]

if not TYPE_CHECKING:  # a type checker sees the real names above, and that there are no others

    def __getattr__(name: str) -> object:
        """Load a public name from its home on first use."""
        if name in _CALLABLE_PACKAGES:
            return import_module(f"mapper.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module 'mapper' has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Offer the public names to completion."""
    return [*__all__, "__version__"]
