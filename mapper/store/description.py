"""Description that a store gives of itself: map or guide, grid, bands, and the digests that tell it from other maps.

It lives in the attributes of the root group, so that a store can be read, checked and continued without the files of
the map description. The area, which may be long, is an array (WKB). Roles of bands are listed in ``mapper:roles``, in
the order of the bands; everything else of a band is read from its array.
"""

from collections.abc import Mapping, Sequence
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
from mapper.store.encoding import Encoding, make_small_codecs
from mapper.store.geozarr import GRID_MAPPING
from mapper.store.identity import Identity
from mapper.store.product import Band, Banded, Kind, Product, Role, choose_reduction

_KINDS: Mapping[int, Kind] = MappingProxyType({1: "map", 2: "guide", 3: "map", 4: "map"})
"""Kind of a store by the version of its arrangement; another number where an older mapper could not read it: maps of
several target bands, or without a standard deviation, have 3, those with ancillary bands 4."""
_AREA = "ledger/area"


@dataclass(frozen=True, kw_only=True)
class Description(Banded):
    """Map or guide that a store holds."""

    kind: Kind
    name: str
    spec_yaml: str
    spec_digest: str
    grid: MapGrid
    extra: Mapping[str, Any]
    """Attributes of the root group."""


def describe(product: Product) -> dict[str, Any]:
    """Return the attributes of the root group: CF for people, ``mapper:*`` for :func:`read_description`."""
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
        "mapper:layout": _choose_layout(product),
        "mapper:name": product.name,
        "mapper:spec": spec.to_yaml(public=True),
        "mapper:spec_digest": product.digest,
        "mapper:grid_digest": grid.digest,
        **product.extra,
        "mapper:roles": [_describe_role(band) for band in product.bands],
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


def _choose_layout(product: Product) -> int:
    if product.kind == "guide":
        return 2
    roles = [band.role for band in product.bands]
    if product.ancillary:
        return 4
    return 1 if roles == ["value", "sd", "quality", "count"] else 3


def _describe_role(band: Band) -> dict[str, Any]:
    about = {"name": band.name, "role": band.role, "of": band.of, "reduction": band.reduction}
    return about | {"bounds": list(band.bounds), "value_range": band.value_range} if band.role == "value" else about


def write_description(root: zarr.Group, product: Product) -> None:
    """Write the description of a product to its new store."""
    root.attrs.update(describe(product))
    area = np.frombuffer(shapely.to_wkb(product.grid.area.geom), np.uint8)
    array = root.create_array(
        _AREA, shape=area.shape, chunks=area.shape, dtype="uint8", fill_value=0, compressors=make_small_codecs()
    )
    array[:] = area


def read_description(store: Store) -> Description:
    """Read the description of a store.

    Raises:
        StoreError: If it is no store of ours, or of a newer mapper.
    """
    root = zarr.open_group(store, mode="r")
    attributes: dict[str, Any] = dict(root.attrs)
    layout = attributes.get("mapper:layout")
    kind = _KINDS.get(layout) if isinstance(layout, int) else None
    if kind is None:
        raise StoreError(
            "the store was not made by mapper"
            if layout is None
            else f"the store has layout {layout}, this mapper reads up to {max(_KINDS)}; update mapper"
        )
    return Description(
        kind=kind,
        name=attributes["mapper:name"],
        spec_yaml=attributes["mapper:spec"],
        spec_digest=attributes["mapper:spec_digest"],
        grid=_read_grid(store, attributes["mapper:grid"]),
        bands=_read_bands(root, attributes.get("mapper:roles") or _derive_roles(root, attributes)),
        extra=attributes,
    )


def _read_bands(root: zarr.Group, roles: Sequence[Mapping[str, Any]]) -> tuple[Band, ...]:
    """Return the bands of a store, from their roles and their arrays."""
    return tuple(_read_band(root[about["name"]], about) for about in roles)  # type: ignore[arg-type]


def _read_band(array: "zarr.Array[Any]", about: Mapping[str, Any]) -> Band:
    dtype, attributes = str(array.dtype), dict(array.attrs)
    is_encoded = about["role"] in ("value", "sd", "sample", "channel", "ancillary") and "_FillValue" in attributes
    low, high = about.get("bounds", (None, None))
    return Band(
        **(dict(about) | {"bounds": (low, high)}),
        dtype=dtype,
        fill=array.fill_value.item(),
        encoding=Encoding.of_attributes(dtype, attributes) if is_encoded else None,
        attributes=attributes,
    )


def _derive_roles(root: zarr.Group, attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the roles of the bands of a store that lists none: they followed from its names and their order.

    A map held ``<target>``, ``<target>_sd``, ``qa`` and ``n_valid``; a guide its channels, ``n_valid`` and ``gaps``.
    """
    roles: dict[str, tuple[Role, str]] = {}
    target = attributes.get("mapper:target", {})
    low = 0 if target.get("non_negative") else None
    if target:
        name = target["name"]
        roles = {name: ("value", ""), f"{name}_sd": ("sd", name), "qa": ("quality", ""), "n_valid": ("count", "")}
    else:
        roles = dict.fromkeys(attributes["mapper:bands"], ("channel", ""))
        roles |= {"n_valid": ("count", ""), "gaps": ("quality", "")}
    return [
        {
            "name": name,
            "role": role,
            "of": of,
            "bounds": (low if role == "value" else None, None),
            "reduction": choose_reduction(role, str(root[name].attrs.get("units", "1"))),
        }
        for name, (role, of) in roles.items()
    ]


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
        differences.append(f"grid {_describe_grid(description.grid)}, expected {_describe_grid(product.grid)}")
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


def _describe_grid(grid: MapGrid) -> str:
    rows, cols = grid.shape
    return f"{grid.crs} {rows} x {cols} px of {grid.resolution}, tiles of {grid.tile_px} px ({grid.digest[:12]})"
