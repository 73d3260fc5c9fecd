"""Sums, means and their uncertainty over polygons."""
