"""A procedural landscape as COGs and STAC, for the demo, tests and benchmarks."""
