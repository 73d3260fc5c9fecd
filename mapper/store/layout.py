"""The arrays of a new store: names, dtypes, chunks and what their attributes say.

At the root, all (y, x): ``<target>``, ``<target>_sd``, ``qa``, ``n_valid``; a shard is a tile, a chunk is what a reader
fetches. Beside them the coordinates ``x``, ``y`` (pixel centres) and ``spatial_ref``.
"""

from typing import Any

import numpy as np
import zarr

from mapper.predict.quality import cf_attributes
from mapper.spec import MapSpec, TargetSpec
from mapper.store.encoding import Encoding, make_codec
from mapper.store.geozarr import (
    GRID_MAPPING,
    coordinate_attributes,
    coordinate_values,
    grid_mapping_attributes,
    spatial_attributes,
)
from mapper.store.tiles import NOT_WRITTEN, band_names

RESERVED = ("x", "y", "qa", "n_valid", "ledger", GRID_MAPPING)
"""Names that a target may not have."""


def create_arrays(root: zarr.Group, spec: MapSpec) -> None:
    """Make the coordinates and the empty arrays of a map."""
    root.attrs.update(spatial_attributes(spec.map_grid.geobox))
    _create_coordinates(root, spec)
    for name, (dtype, fill, attributes) in _describe_bands(spec.target).items():
        _create_band(root, name, spec, dtype=dtype, fill=fill, attributes=attributes)


def _describe_bands(target: TargetSpec) -> dict[str, tuple[str, float, dict[str, Any]]]:
    """Dtype, fill and CF attributes of each array of pixels."""
    value, sd = Encoding.of_value(target.encoding), Encoding.of_sd(target.encoding)
    names = band_names(target)
    flags = cf_attributes()
    flags.pop("valid_range", None)  # the flag of tiles that were never written lies outside it
    return {
        names[0]: (
            value.dtype,
            value.fill,
            {
                "long_name": target.long_name,
                "units": target.units,
                "ancillary_variables": " ".join(names[1:]),
                **value.attributes,
            },
        ),
        names[1]: (
            sd.dtype,
            sd.fill,
            {
                "long_name": f"standard deviation of {target.long_name}",
                "units": target.units,
                "comment": "of a model that gives one: the model's, calibrated on places it was not trained on, "
                "with that of the source in it; of any other model: that of the source pixel alone",
                **sd.attributes,
            },
        ),
        names[2]: (
            "uint16",
            NOT_WRITTEN,
            {
                **flags,
                "standard_name": "quality_flag",
                "flag_masks": [*flags["flag_masks"], NOT_WRITTEN],
                "flag_meanings": f"{flags['flag_meanings']} not_written",
            },
        ),
        names[3]: (
            "uint16",
            0,
            {"long_name": "valid observations in the guide", "standard_name": "number_of_observations", "units": "1"},
        ),
    }


def _create_band(
    root: zarr.Group, name: str, spec: MapSpec, *, dtype: str, fill: float, attributes: dict[str, Any]
) -> None:
    grid = spec.map_grid
    root.create_array(
        name,
        shape=grid.shape,
        chunks=(grid.chunk_px, grid.chunk_px),
        shards=(grid.tile_px, grid.tile_px),
        dtype=dtype,
        fill_value=fill,
        compressors=[make_codec(dtype)],
        dimension_names=("y", "x"),
        attributes={**attributes, "grid_mapping": GRID_MAPPING, **spatial_attributes(grid.geobox)},
    )


def _create_coordinates(root: zarr.Group, spec: MapSpec) -> None:
    grid = spec.map_grid
    attributes = coordinate_attributes(grid.geobox)
    for name, values in coordinate_values(grid).items():
        array = root.create_array(
            name,
            shape=values.shape,
            chunks=values.shape,
            dtype="float64",
            fill_value=np.nan,
            dimension_names=(name,),
            attributes=attributes[name],
        )
        array[:] = values
    root.create_array(
        GRID_MAPPING,
        shape=(),
        dtype="int32",
        fill_value=0,
        attributes=grid_mapping_attributes(grid.geobox),
    )
