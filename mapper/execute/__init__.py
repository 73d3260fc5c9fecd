"""Tasks run serially, on threads or on Dask: a bounded window of them, lost and late ones submitted again.

Knows nothing of maps.
"""
