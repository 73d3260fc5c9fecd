"""Polygons with long outlines for their size, as GeoJSON: what costs most of an algorithm that walks along edges.

Each fills a box (west, south, east, north) and has about as many vertices as are asked for.
"""

import numpy as np


def make_comb(box, vertices):
    """A polygon of teeth as high as the box."""
    west, south, east, north = box
    teeth = max(1, vertices // 4)
    left = west + (east - west) * np.arange(teeth) / teeth
    right = left + 0.6 * (east - west) / teeth
    back = south + 0.05 * (north - south)
    up = np.stack([left, left, right, right], axis=1)
    down = np.broadcast_to([back, north, north, back], up.shape)
    points = np.stack([up.ravel(), down.ravel()], axis=1)
    return _polygon([[west, south], *points.tolist(), [right[-1], south]])


def make_spiral(box, vertices):
    """A polygon along a spiral of many turns."""
    west, south, east, north = box
    half = vertices // 2
    turns = half / 40
    share = np.linspace(0.02, 1, half)
    angle = share * turns * 2 * np.pi
    inner, outer = share, share + 0.5 * 0.98 / turns
    rays = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    points = np.concatenate([rays * outer[:, None], (rays * inner[:, None])[::-1]])
    points = points / np.abs(points).max()
    middle = np.array([west + east, south + north]) / 2
    return _polygon((middle + points * np.array([east - west, north - south]) / 2).tolist())


def make_holes(box, vertices):
    """A box with holes in rows."""
    west, south, east, north = box
    squares = [_square(*corner) for corner in _lattice(box, vertices // 5)]
    return {"type": "Polygon", "coordinates": [_square(west, south, east, north), *squares]}


def make_parts(box, vertices):
    """Squares in rows, each a part of its own."""
    return {"type": "MultiPolygon", "coordinates": [[_square(*corner)] for corner in _lattice(box, vertices // 5)]}


def _lattice(box, count):
    west, south, east, north = box
    edge = max(1, int(count**0.5))
    across, up = (east - west) / edge, (north - south) / edge
    for row in range(edge):
        for col in range(edge):
            left, bottom = west + across * (col + 0.25), south + up * (row + 0.25)
            yield left, bottom, left + across / 2, bottom + up / 2


def _square(west, south, east, north):
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def _polygon(points):
    return {"type": "Polygon", "coordinates": [[*points, points[0]]]}
