"""Dask clusters: started and stopped here."""
