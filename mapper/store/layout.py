"""Arrays of a new store: names, dtypes, chunks and attributes.

At the root, all (y, x): of a map ``<target>``, ``<target>_sd``, ``qa``, ``n_valid``, of a guide one for each channel,
``n_valid`` and ``gaps``; a shard is a tile, a chunk is what a reader fetches. Beside them the coordinates ``x``, ``y``
(pixel centres) and ``spatial_ref``.
"""

from fractions import Fraction

import numpy as np
import zarr

from mapper.grid import MapGrid
from mapper.store.encoding import make_codecs, make_small_codecs
from mapper.store.geozarr import (
    AXES,
    GRID_MAPPING,
    coordinate_attributes,
    coordinate_values,
    grid_mapping_attributes,
    spatial_attributes,
)
from mapper.store.product import Band, Product


def create_arrays(root: zarr.Group, product: Product) -> None:
    """Make the coordinates and the empty arrays of a product."""
    root.attrs.update(spatial_attributes(product.grid.geobox))
    create_coordinates(root, product.grid)
    for band in product.bands:
        _create_band(root, band, product.grid)


def create_coordinates(
    group: zarr.Group, grid: MapGrid, *, lattice: Fraction | None = None, axes: tuple[str, str] = AXES
) -> None:
    """Make the coordinates and the grid mapping of a group.

    Args:
        group: The root, or a level of a pyramid.
        grid: Of its arrays.
        lattice: See :func:`mapper.store.geozarr.coordinate_values`.
        axes: Names of the coordinates of y and x.
    """
    attributes, names = coordinate_attributes(grid.geobox), dict(zip(AXES, axes, strict=True))
    for axis, values in coordinate_values(grid, lattice=lattice).items():
        name = names[axis]
        array = group.create_array(
            name,
            shape=values.shape,
            chunks=values.shape,
            dtype="float64",
            fill_value=np.nan,
            compressors=make_small_codecs(),
            dimension_names=(name,),
            attributes=attributes[axis],
        )
        array[:] = values
    if GRID_MAPPING not in group:
        group.create_array(
            GRID_MAPPING,
            shape=(),
            dtype="int32",
            fill_value=0,
            compressors=make_small_codecs(),
            attributes=grid_mapping_attributes(grid.geobox),
        )


def _create_band(root: zarr.Group, band: Band, grid: MapGrid) -> None:
    root.create_array(
        band.name,
        shape=grid.shape,
        chunks=(grid.chunk_px, grid.chunk_px),
        shards=(grid.tile_px, grid.tile_px),
        dtype=band.dtype,
        fill_value=band.fill,
        compressors=make_codecs(band.dtype),
        dimension_names=AXES,
        attributes={**band.attributes, "grid_mapping": GRID_MAPPING, **spatial_attributes(grid.geobox)},
    )
