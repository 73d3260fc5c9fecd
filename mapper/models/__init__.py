"""Guided super-resolution networks, one file each, and the contract they sign."""
