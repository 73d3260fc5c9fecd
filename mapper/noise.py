"""Random numbers that are functions of a key and of integers, not of a stream: the same in every window.

A key stands for a purpose and what belongs to it (a seed, a sample, a step); the integers are rows and columns.
"""

import hashlib

import numpy as np
from scipy.special import ndtri

from mapper.arrays import Float32Array, IntArray

_HALF_STEP = 2.0**-25
"""Half the distance of two neighbouring uniform numbers: keeps normal numbers finite and their mean at 0."""


def derive_key(seed: int, *names: str | int) -> int:
    """Return a 64-bit key for one purpose."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def hash_uniform(key: int, first: IntArray, second: IntArray) -> Float32Array:
    """Return uniform numbers on [0, 1) for pairs of integers; the arrays broadcast."""
    with np.errstate(over="ignore"):
        mixed = first.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(key)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = mixed + second.astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)


def node_uniform(key: int, rows: IntArray, cols: IntArray) -> Float32Array:
    """Return uniform numbers on [0, 1) at integer nodes; dims (row, col)."""
    return hash_uniform(key, rows[:, None], cols[None, :])


def node_normal(key: int, rows: IntArray, cols: IntArray) -> Float32Array:
    """Return standard normal numbers at integer nodes; dims (row, col)."""
    normal: Float32Array = ndtri(node_uniform(key, rows, cols).astype(np.float64) + _HALF_STEP).astype(np.float32)
    return normal
