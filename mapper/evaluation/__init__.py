"""Scores of maps: metrics, one definition each, their tables and pictures."""
