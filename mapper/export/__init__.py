"""Pieces of a store as files that anybody can open: GeoTIFF, plain Zarr, and the ledger as a table of STAC items."""
