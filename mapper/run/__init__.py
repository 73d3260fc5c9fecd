"""Tiles of maps, guides and levels computed and committed, with their records."""
