"""A stack of dates: each pixel keeps its clearest dates, one a day, however the map is tiled and items come."""

import random
import zlib
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from odc.geo.geobox import GeoBox
from rasterio import Affine
from scenes import S2, box_at, write_item

from mapper.catalog.items import freeze_items
from mapper.catalog.provider import Provider
from mapper.cube.stack import read_stack
from mapper.spec import parse_spec

CRS = "EPSG:32633"
SIZE = 48
ORIGIN = 500_000, 5_600_000
PROVIDER = Provider(
    name="test", title="", kind="static", licence="", attribution="", collections={"sentinel-2-l2a": S2}
)
CLEAR, CLOUD = 4, 9


def spec_of(kind="native", **source):
    content = {
        "preset": "sentinel2-multi",
        "name": "test",
        "area": {"bbox": [15.0, 50.5, 15.01, 50.51]},
        "period": {"start": "2024-06-01", "end": "2024-07-31"},
        "grid": {"kind": kind, "crs": CRS, "resolution": 5},
        "catalog": {"provider": "demo"},
        "source": {"bands": ["B02", "B04"], "dates": 3, "cloud_limit": 100, **source},
        "model": {"name": "bicubic"},
        "store": "map.icechunk",
    }
    return parse_spec(content, base=Path())


def window(top=0, left=0, bottom=SIZE, right=SIZE, crs=CRS):
    x, y = ORIGIN
    return GeoBox((bottom - top, right - left), Affine(10, 0, x + 10 * left, 0, -10, y - 10 * top), crs)


def write_scene(folder, name, day, cloud, *, clear=None, value=None, hour=10, crs=CRS, origin=ORIGIN):
    """One date: digital numbers, a mask, and the cloud cover that the scene states."""
    rng = np.random.default_rng(zlib.crc32(f"{name}{day}".encode()))
    box = box_at(crs, *origin, size=SIZE)
    numbers = rng.integers(1200, 4000, (2, SIZE, SIZE)).astype(np.uint16)
    if value is not None:
        numbers[:] = value
    mask = np.full((SIZE, SIZE), CLEAR, np.uint8) if clear is None else np.where(clear, CLEAR, CLOUD).astype(np.uint8)
    assets = {"B02": (numbers[0], box), "B04": (numbers[1], box), "SCL": (mask, box)}
    properties = {"eo:cloud_cover": cloud, "s2:processing_baseline": "05.10", "platform": "sentinel-2a"}
    return write_item(folder, name, f"{day}T{hour:02d}:00:00Z", assets, **properties), numbers


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Six dates with random clouds, two of them on one day."""
    folder, rng = tmp_path_factory.mktemp("scenes"), np.random.default_rng(3)
    days = ["2024-06-03", "2024-06-08", "2024-06-08", "2024-06-20", "2024-07-01", "2024-07-11"]
    found = []
    for number, day in enumerate(days):
        clear = rng.random((SIZE, SIZE)) < 0.6
        item, numbers = write_scene(
            folder, f"s{number}", day, float(rng.integers(5, 90)), clear=clear, hour=10 + number
        )
        found.append((item, numbers, clear, day))
    return found


def read(items, geobox=None, spec=None):
    return read_stack(freeze_items(items), geobox or window(), spec=spec or spec_of(), provider=PROVIDER)


def pick_by_hand(scenes, dates):
    """The plain definition: for each pixel the clearest scenes in which it is clear, one a day."""
    ranked = sorted(scenes, key=lambda scene: (scene[0]["properties"]["eo:cloud_cover"], scene[3], scene[0]["id"]))
    kept = {}
    for row in range(SIZE):
        for col in range(SIZE):
            taken = {}
            for _, numbers, clear, day in ranked:
                if clear[row, col] and day not in taken and len(taken) < dates:
                    taken[day] = numbers[:, row, col]
            kept[row, col] = taken
    return kept


def test_each_pixel_keeps_its_clearest_dates_one_a_day(scenes):
    stack, kept = read([scene[0] for scene in scenes]), pick_by_hand(scenes, 3)
    assert stack.dates == tuple(sorted(stack.dates))
    for (row, col), taken in kept.items():
        days = [str(day) for day, clear in zip(stack.dates, stack.clear[:, row, col], strict=True) if clear]
        assert days == sorted(taken)
        assert stack.n_valid[row, col] == len(taken)
        for number, day in enumerate(stack.dates):
            wanted = taken.get(str(day))
            wanted = np.full(2, np.nan, np.float32) if wanted is None else (wanted - np.float32(1000)) / 10000
            np.testing.assert_allclose(stack.values[number, :, row, col], wanted, rtol=1e-6)


def test_the_order_of_the_items_changes_no_bit(scenes):
    items = [scene[0] for scene in scenes]
    first = read(items)
    for seed in range(5):
        shuffled = random.Random(seed).sample(items, len(items))
        other = read(shuffled)
        assert other.dates == first.dates
        for name in ("values", "clear", "image", "n_valid", "days"):
            np.testing.assert_array_equal(getattr(other, name), getattr(first, name))
        assert {use.id: use.dropped for use in other.uses} == {use.id: use.dropped for use in first.uses}


@pytest.mark.parametrize("anchor", ["clearest", "median", "2024-06-18"])
def test_a_window_is_a_part_of_any_larger_one(scenes, anchor):
    items, spec = [scene[0] for scene in scenes], spec_of(anchor=anchor)
    whole = read(items, spec=spec)
    for edges in ((0, 0, 20, 48), (20, 0, 48, 31), (13, 7, 14, 8), (40, 40, 48, 48)):
        part = read(items, window(*edges), spec)
        inside = np.s_[..., edges[0] : edges[2], edges[1] : edges[3]]
        np.testing.assert_array_equal(part.image, whole.image[inside])
        np.testing.assert_array_equal(part.n_valid, whole.n_valid[inside])
        for number, day in enumerate(part.dates):
            np.testing.assert_array_equal(part.values[number], whole.values[whole.dates.index(day)][inside])
        for day in set(whole.dates) - set(part.dates):
            assert not whole.clear[whole.dates.index(day)][inside].any()


def test_a_native_grid_copies_the_numbers_of_the_files(tmp_path):
    item, numbers = write_scene(tmp_path, "one", "2024-06-03", 0.0)
    stack = read([item])
    exact = ((numbers.astype(np.float64) - 1000) / 10000).astype(np.float32)
    np.testing.assert_allclose(stack.values[0], exact, rtol=0, atol=1e-7)
    assert len(np.unique(stack.values[0])) == len(np.unique(numbers))


def test_the_anchor_is_what_is_shown(tmp_path):
    found = [
        write_scene(tmp_path, f"a{k}", day, cloud, value=value)[0]
        for k, (day, cloud, value) in enumerate(
            [("2024-06-03", 40, 2000), ("2024-06-20", 10, 3000), ("2024-07-11", 20, 5000)]
        )
    ]
    shown = {
        anchor: float(read(found, spec=spec_of(anchor=anchor)).image[0, 0, 0])
        for anchor in ("clearest", "median", "2024-06-04", "2024-07-31")
    }
    assert shown == pytest.approx({"clearest": 0.2, "median": 0.2, "2024-06-04": 0.1, "2024-07-31": 0.4})
    days = read(found, spec=spec_of(anchor="2024-06-04")).days
    np.testing.assert_array_equal(days, [-1, 16, 37])


def test_dates_that_no_pixel_needs_are_not_read_and_said_so(tmp_path):
    found = [write_scene(tmp_path, f"d{day}", f"2024-06-{day:02d}", float(day))[0] for day in range(1, 12)]
    stack = read(found)
    assert stack.dates == (date(2024, 6, 1), date(2024, 6, 2), date(2024, 6, 3))
    left_out = {use.id: use.dropped for use in stack.uses if use.dropped}
    assert set(left_out) == {f"d{day}" for day in range(4, 12)}
    assert all("clearer dates" in reason for reason in left_out.values())


def test_a_broken_file_takes_its_date_out(tmp_path):
    found = [write_scene(tmp_path, f"b{day}", f"2024-06-{day:02d}", float(day))[0] for day in range(1, 6)]
    path = Path(found[1]["assets"]["B04"]["href"])
    path.write_bytes(path.read_bytes()[:200])
    stack = read(found)
    assert stack.dates == (date(2024, 6, 1), date(2024, 6, 3), date(2024, 6, 4))
    (broken,) = (use for use in stack.uses if use.id == "b2")
    assert broken.dropped
    assert "clearer" not in broken.dropped


def test_another_lattice_is_left_out_by_name(tmp_path):
    near = write_scene(tmp_path, "here", "2024-06-03", 50.0)[0]
    shifted = write_scene(tmp_path, "shifted", "2024-06-05", 0.0, origin=(ORIGIN[0] + 4, ORIGIN[1]))[0]
    stack = read([near, shifted])
    assert stack.dates == (date(2024, 6, 3),)
    (left_out,) = (use for use in stack.uses if use.id == "shifted")
    assert "another grid" in left_out.dropped
    projected = read([near, shifted], spec=spec_of(kind="projected"))
    assert len(projected.dates) == 2


def test_without_items_nothing_is_known():
    stack = read([])
    assert stack.values.shape == (0, 2, SIZE, SIZE)
    assert np.isnan(stack.image).all()
    assert not stack.n_valid.any()


def test_items_beyond_the_cloud_limit_or_period_are_no_dates(tmp_path):
    found = [
        write_scene(tmp_path, "clear", "2024-06-03", 10.0)[0],
        write_scene(tmp_path, "cloudy", "2024-06-05", 70.0)[0],
        write_scene(tmp_path, "late", "2024-08-01", 0.0)[0],
    ]
    stack = read(found, spec=spec_of(cloud_limit=60))
    assert [use.id for use in stack.uses] == ["clear"]
