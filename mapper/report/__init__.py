"""Page of a run: its map, the work and acquisitions behind it, its faults and its cost."""
