"""STAC: a query becomes items, frozen and digested."""
