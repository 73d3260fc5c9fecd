"""A grid that cannot be meant is refused, in one line, with what probably was."""

import time
from fractions import Fraction
from pathlib import Path

import pyproj
import pytest
import shapely

from mapper.errors import GridError, MapperError
from mapper.spec import parse_spec
from mapper.spec.plausibility import describe_grid, doubt_box, measure_km2

HARZ = [10.3, 51.6, 10.5, 51.8]


def describe(bbox=HARZ, *, crs="EPSG:3035", resolution=10, source=None, **grid):
    source = source or str(Fraction(str(resolution)) * 10)
    return {
        "name": "harz",
        "area": {"bbox": bbox},
        "period": {"start": "2021-01-01", "end": "2021-12-31"},
        "grid": {"crs": crs, "resolution": resolution, **({"tile": 512} | grid)},
        "catalog": {"provider": "demo"},
        "guide": {"layers": []},
        "source": {"collection": "c", "variable": "agb", "sd": None, "resolution": source},
        "model": {"name": "bicubic"},
        "store": "out",
    }  # fmt: skip


def grid_of(*args, **changes):
    return parse_spec(describe(*args, **changes), base=Path("/nowhere")).map_grid


ABSURD = {
    "degrees for metres": ({"resolution": "1/9000"}, ["metres", "degrees were meant", "12.4 m"]),
    "metres for degrees": ({"crs": "EPSG:4326", "resolution": 30}, ["degrees", "1/3711", "EPSG:32632"]),
    "unknown code": ({"crs": "EPSG:12345678"}, ["not known to PROJ", "EPSG:32632"]),
    "no CRS": ({"crs": "metres please"}, ["not known to PROJ"]),
    "heights": ({"crs": "EPSG:3855"}, ["no CRS of a map"]),
    "earth-centred": ({"crs": "EPSG:4936"}, ["no CRS of a map"]),
    "one pixel": ({"resolution": 50_000}, ["larger than the area"]),
    "latitude first": ({"bbox": [51.6, 10.3, 51.8, 10.5]}, ["each other's place", "[10.3, 51.6, 10.5, 51.8]"]),
    "latitude first in UTM": (
        {"bbox": [-12.5, -77.2, -12.3, -77], "crs": "EPSG:32718"},
        ["each other's place", "[-77.2, -12.5, -77, -12.3]"],
    ),
    "upside down": ({"bbox": [10.3, 51.8, 10.5, 51.6]}, ["[10.3, 51.6, 10.5, 51.8] if it was written west, north"]),
    "beyond the poles": ({"bbox": [50, 100, 51, 101]}, ["[100, 50, 101, 51] if it was written south, west"]),
    "a trillion tiles": ({"bbox": [-10, 36, 30, 70], "resolution": 0.02, "tile": 256}, ["tiles", "km2", "coarser"]),
    "fine degrees": ({"bbox": [-10, 36, 30, 70], "crs": "EPSG:4326", "resolution": "1/400000"}, ["tiles", "coarser"]),
    "pairs": ({"bbox": [10, 10.5, 51, 51.5], "resolution": 1, "tile": 256}, ["[10, 51, 10.5, 51.5]"]),
    "one tile for all": ({"tile": 2**20}, ["more than a worker holds"]),
    "pixels for chunks": ({"tile": 4096, "chunk": 4}, ["grid.chunk"]),
}


@pytest.mark.parametrize(("changes", "words"), ABSURD.values(), ids=ABSURD)
def test_what_cannot_be_meant_is_refused_at_once(changes, words):
    began = time.process_time()
    with pytest.raises(MapperError) as refused:
        grid_of(**changes)
    assert time.process_time() - began < 2
    assert refused.value.exit_code == 2
    for word in words:
        assert word in str(refused.value), refused.value
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"crs": "EPSG:4326", "resolution": "1/11250"},
        {"bbox": [-10, 36, 30, 70]},
        {"bbox": [-180, -60, 0, 80], "crs": "EPSG:6933", "tile": 1024},
        {"bbox": [-73.5, -53, -66, -17.5], "crs": "EPSG:32719", "resolution": 20},
        {"bbox": [-74.1, 40.6, -73.9, 40.8], "crs": "EPSG:2263", "resolution": 32},
        {"bbox": [-50, 60, -20, 83], "crs": "EPSG:3413", "resolution": 25},
        {"bbox": [11.9, 50, 12.1, 50.1], "crs": "EPSG:32632"},
    ],
)
def test_what_can_be_meant_is_made(changes):
    grid = grid_of(**changes)
    assert grid.shape[0] * grid.shape[1] > 0


def test_square_kilometres_are_those_of_the_ellipsoid():
    """The area of a box between parallels is known in closed form: here by PROJ's equal-area projection."""
    area = shapely.box(-3, 40, 5, 47)
    project = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:6933", always_xy=True)
    (west, east), (south, north) = project.transform([-3, 5], [40, 47])
    assert measure_km2(area) == pytest.approx((east - west) * (north - south) / 1e6, rel=1e-3)


def test_area_and_tiles_are_described():
    spec = parse_spec(describe(), base=Path("/nowhere"))
    text = describe_grid(spec.area.geometry, spec.map_grid)
    assert f"{measure_km2(spec.area.geometry):,.1f} km2" in text
    assert f"{len(spec.map_grid.tile_indices()):,} tiles of 512 px" in text
    wide = parse_spec(describe([-10, 36, 30, 70], tile=256), base=Path("/nowhere"))
    assert "up to" in describe_grid(wide.area.geometry, wide.map_grid)


@pytest.mark.parametrize(
    ("box", "doubted"),
    [
        ((10, 10.5, 51, 51.5), True),
        ((-10, 36, 30, 70), False),
        ((10.3, 51.6, 10.5, 51.8), False),
        ((0, 0, 1, 1), False),
    ],
)
def test_a_box_is_doubted_only_where_another_order_is_a_hundred_times_smaller(box, doubted):
    assert bool(doubt_box(box)) is doubted


def test_the_error_is_that_of_a_grid():
    with pytest.raises(GridError):
        grid_of(crs="EPSG:99998")
