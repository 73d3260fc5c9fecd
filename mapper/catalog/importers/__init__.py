"""Archives without STAC, described as STAC catalogues."""
