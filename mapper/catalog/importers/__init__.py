"""Importers: archives without STAC, described as STAC catalogues."""
