"""Over the edge of two UTM zones there is no seam: scenes of either zone give the same surface.

The surface is a smooth function of the place on the map, written into scenes of both zones. How far a composite may be
from it is known: stored numbers are rounded (0.5), and bilinear interpolation between pixels of h metres is off by at
most h^2 / 8 times the second derivative along each axis. Scenes of two zones may differ by twice that, no more.
In the outermost half pixel of a scene neighbours are missing, and its last pixel counts alone: there, a value may be
that of a place half a pixel away.
A mask is read from the nearest pixel, whose centre is at most half its diagonal away: beside that of a cloud's edge,
masks of both zones are equal.
"""

import numpy as np
import pytest
from pyproj import Transformer
from scenes import NEW, OLD, S2, ZONE_BORDER, box_at, write_item
from scipy import ndimage

from mapper.catalog.items import freeze_items
from mapper.cube.composite import compose
from mapper.cube.read import read_block

ZONES = ("EPSG:32632", "EPSG:32633")
WAVE = 1600.0
CURVATURE = 1000 * (2 * np.pi / WAVE) ** 2
"""Largest second derivative of the surface along an axis, in stored numbers per square metre."""
SLOPE = 1000 * 2 * np.pi / WAVE
"""Steepest slope, in stored numbers per metre."""
CENTRE = ZONE_BORDER.extent.centroid.coords[0]
CLOUD = 400.0
"""Radius in metres of the cloud in the centre."""


def tolerance(step):
    """How far a composite of pixels of a size in metres may be from the surface, in reflectance."""
    return (0.5 + 2 * CURVATURE * step**2 / 8 + 0.01) * 1e-4


def surface(x, y):
    """Stored numbers at places of the map."""
    return 3000 + 1000 * np.sin(2 * np.pi * x / WAVE) * np.cos(2 * np.pi * y / WAVE)


def places_of(geobox):
    """Centres of the pixels of a geobox, in the CRS of the map."""
    size, corner = geobox.shape, geobox.transform
    step = abs(corner.a)
    x, y = np.meshgrid(
        corner.c + step * (np.arange(size[1]) + 0.5),
        corner.f - step * (np.arange(size[0]) + 0.5),
    )
    if geobox.crs == "EPSG:3035":
        return x, y
    return Transformer.from_crs(str(geobox.crs), "EPSG:3035", always_xy=True).transform(x, y)


def from_cloud(geobox):
    """Distance in metres of each pixel from the edge of the cloud, negative inside."""
    x, y = places_of(geobox)
    return np.hypot(x - CENTRE[0], y - CENTRE[1]) - CLOUD


def write_scene(folder, crs, *, when="2020-06-10T10:00:00Z", side="both", cloudy=False, **properties):
    """A scene in one zone of the whole place, or of its west or east up to 200 m beyond the middle."""
    east, north = Transformer.from_crs("EPSG:3035", crs, always_xy=True).transform(*CENTRE)
    left = {"both": -1800, "west": -1800, "east": -200}[side]
    width = 360 if side == "both" else 200
    fine = box_at(crs, round(east / 20) * 20 + left, round(north / 20) * 20 + 1800, size=(360, width))
    coarse = fine.zoom_out(2)
    shift = 1000 if properties.get("s2:processing_baseline") == NEW["s2:processing_baseline"] else 0
    bands = {
        band: (np.rint(surface(*places_of(box)) + shift).astype(np.uint16), box)
        for band, box in (("B02", fine), ("B11", coarse))
    }
    scl = np.where(cloudy & (from_cloud(coarse) < 0), np.uint8(9), np.uint8(4))
    name = f"{when[:13]}-{crs[-2:]}-{side}"
    return write_item(folder, name, when, bands | {"SCL": (scl, coarse)}, **(OLD | properties))


def composite(*items):
    """Median of the dates, {band: (y, x)}."""
    bands = ("B02", "B11")
    values, _ = compose(read_block(freeze_items(items), ZONE_BORDER, bands=bands, rule=S2), "median")
    return dict(zip(bands, values, strict=True))


@pytest.mark.parametrize(("band", "step"), [("B02", 10), ("B11", 20)])
def test_scenes_of_either_zone_give_the_same_surface(tmp_path, band, step):
    first, second = (composite(write_scene(tmp_path, crs))[band] for crs in ZONES)
    expected = surface(*places_of(ZONE_BORDER)) * 1e-4
    assert np.abs(first - expected).max() < tolerance(step)
    assert np.abs(first - second).max() < 2 * tolerance(step)
    # no shift either: the part of the difference that follows the slope is a thousandth of a pixel
    slope = np.gradient(expected, axis=1)
    assert abs((slope * (first - second)).mean() / (slope**2).mean()) < 2e-3


def test_masks_of_either_zone_differ_at_the_edge_of_a_cloud_only(tmp_path):
    first, second = (np.isnan(composite(write_scene(tmp_path, crs, cloudy=True))["B02"]) for crs in ZONES)
    distance = from_cloud(ZONE_BORDER)
    far = np.abs(distance) > 20 / np.sqrt(2) + 0.1
    np.testing.assert_array_equal(first[far], distance[far] < 0)
    np.testing.assert_array_equal(first[far], second[far])


@pytest.mark.parametrize(
    ("when", "baseline"),
    [("2020-06-10T10:00:10Z", OLD), ("2020-06-12T10:00:00Z", NEW)],
    ids=["one pass", "another date and baseline"],
)
def test_the_composite_of_both_zones_has_no_step_where_one_ends(tmp_path, when, baseline):
    west = write_scene(tmp_path, ZONES[0], side="west")
    east = write_scene(tmp_path, ZONES[1], side="east", when=when, **baseline)
    parts = [np.isfinite(composite(item)["B02"]) for item in (west, east)]
    assert all(0.5 < part.mean() < 0.7 for part in parts)
    assert np.logical_and(*parts).any()
    both = composite(west, east)
    expected = surface(*places_of(ZONE_BORDER)) * 1e-4
    for band, step in (("B02", 10), ("B11", 20)):
        error = np.abs(both[band] - expected)
        inner = [ndimage.binary_erosion(part, iterations=step // 10, border_value=True) for part in parts]
        beside_an_end = np.logical_or.reduce([part & ~kept for part, kept in zip(parts, inner, strict=True)])
        assert error[~beside_an_end].max() < tolerance(step)
        assert error[beside_an_end].max() < tolerance(step) + SLOPE * step / 2 * 1e-4
