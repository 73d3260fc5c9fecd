"""The target store: pixels and their provenance in one transaction."""
