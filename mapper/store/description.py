"""What a store says of itself: the map or guide it holds, its grid, and the digests that tell it from other maps.

It lives in the attributes of the root group, so that a store can be read, checked and continued without the files of
the map description. The area, which may be long, is an array (WKB).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np
import shapely
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from zarr.abc.store import Store

from mapper import __version__
from mapper.errors import StoreError, StoreMismatchError
from mapper.grid import MapGrid
from mapper.spec import MapSpec, TargetSpec
from mapper.store.geozarr import GRID_MAPPING
from mapper.store.identity import Identity
from mapper.store.product import Kind, Product, product_of
from mapper.store.tiles import band_names

_LAYOUTS: Mapping[Kind, int] = MappingProxyType({"map": 1, "guide": 2})
"""Version of the arrangement of a store; another number where an older mapper could not read a newer store."""
_AREA = "ledger/area"


@dataclass(frozen=True, kw_only=True)
class Description:
    """The map or guide a store holds."""

    kind: Kind
    name: str
    spec_yaml: str
    spec_digest: str
    grid: MapGrid
    bands: tuple[str, ...]
    """Its arrays of pixels, in the order of the checksums of tiles."""
    target: TargetSpec | None
    """None for a guide."""
    extra: Mapping[str, Any]
    """Further attributes of a guide."""


def describe(spec: MapSpec | Product) -> dict[str, Any]:
    """Attributes of the root group: CF for people, ``mapper:*`` for :func:`read_description`."""
    product = product_of(spec)
    grid, spec = product.grid, product.spec
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "Conventions": "CF-1.11",
        "title": product.title,
        "source": product.source,
        "history": f"{now}: created by mapper {__version__}",
        "time_coverage_start": spec.period.start.isoformat(),
        "time_coverage_end": spec.period.end.isoformat(),
        "coordinates": GRID_MAPPING,  # so that the CRS comes along with every array, whatever xarray is told
        "mapper:layout": _LAYOUTS[product.kind],
        "mapper:name": product.name,
        "mapper:spec": spec.to_yaml(),
        "mapper:spec_digest": product.digest,
        "mapper:grid_digest": grid.digest,
        **product.extra,
        "mapper:grid": {
            "crs": grid.crs,
            "transform": list(grid.geobox.transform)[:6],
            "shape": list(grid.shape),
            "resolution": str(grid.resolution),
            "scale": grid.scale,
            "tile_px": grid.tile_px,
            "chunk_px": grid.chunk_px,
        },
    }


def write_description(root: zarr.Group, product: Product) -> None:
    """Write the description of a new store."""
    root.attrs.update(describe(product))
    area = np.frombuffer(shapely.to_wkb(product.grid.area.geom), np.uint8)
    root.create_array(_AREA, shape=area.shape, chunks=area.shape, dtype="uint8", fill_value=0)[:] = area


def read_description(store: Store) -> Description:
    """Read what a store says of itself.

    Raises:
        StoreError: If it is no store of ours, or of a newer mapper.
    """
    attributes: dict[str, Any] = dict(zarr.open_group(store, mode="r").attrs)
    layout = attributes.get("mapper:layout")
    kind = next((kind for kind, number in _LAYOUTS.items() if number == layout), None)
    if kind is None:
        raise StoreError(
            "the store was not made by mapper"
            if layout is None
            else f"the store has layout {layout}, this mapper reads {max(_LAYOUTS.values())}; update mapper"
        )
    target = TargetSpec.model_validate(attributes["mapper:target"]) if kind == "map" else None
    return Description(
        kind=kind,
        name=attributes["mapper:name"],
        spec_yaml=attributes["mapper:spec"],
        spec_digest=attributes["mapper:spec_digest"],
        grid=_read_grid(store, attributes["mapper:grid"]),
        bands=band_names(target) if target else tuple(attributes["mapper:bands"]),
        target=target,
        extra=attributes,
    )


def check_same(description: Description, product: Product, location: str) -> None:
    """Check that a store holds a product.

    Raises:
        StoreMismatchError: Naming what differs and what to do.
    """
    differences = []
    if description.kind != product.kind:
        differences.append(f"a {description.kind}, expected a {product.kind}")
    made = Identity(spec=description.spec_digest, grid=description.grid.digest)
    changed = made.differences(Identity(spec=product.digest, grid=product.grid.digest))
    if "grid" in changed:
        differences.append(f"grid {_say_grid(description.grid)}, expected {_say_grid(product.grid)}")
    if "spec" in changed:
        found, expected = changed["spec"]
        differences.append(f"spec digest {found[:12]}, expected {expected[:12]}")
    if differences:
        raise StoreMismatchError(
            f"{location} holds another {product.kind} ({description.name}): {'; '.join(differences)}; "
            "choose another store, or restore the map description it was made from (it is in the store's attributes)"
        )


def _read_grid(store: Store, content: dict[str, Any]) -> MapGrid:
    wkb = np.asarray(zarr.open_array(store, path=_AREA, mode="r")[:]).tobytes()
    return MapGrid(
        geobox=GeoBox(tuple(content["shape"]), Affine(*content["transform"]), content["crs"]),
        area=Geometry(shapely.from_wkb(wkb), content["crs"]),
        resolution=Fraction(content["resolution"]),
        scale=content["scale"],
        tile_px=content["tile_px"],
        chunk_px=content["chunk_px"],
    )


def _say_grid(grid: MapGrid) -> str:
    rows, cols = grid.shape
    return f"{grid.crs} {rows} x {cols} px of {grid.resolution}, tiles of {grid.tile_px} px ({grid.digest[:12]})"
