"""Cubes: items become arrays in physical units, lazy for people, eager for tasks."""
