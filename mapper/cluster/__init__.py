"""Start and stop Dask clusters."""
