"""Dask clusters on Kubernetes: manifests, launching, and the connection to them."""
