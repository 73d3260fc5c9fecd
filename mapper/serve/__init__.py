"""HTTP for analysts, read-only: the store as plain Zarr, pixels with their record, STAC."""
