"""From a STAC query to a continental, guided-super-resolved Zarr map with provenance."""

__version__ = "0.1.0"
