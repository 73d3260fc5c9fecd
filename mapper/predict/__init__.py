"""Patches through a model on a device, and what the result is worth."""
