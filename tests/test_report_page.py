"""The page of a run: what it tells, that it is one safe file, and what its pictures show."""

import io
import re
from datetime import UTC, datetime

import numpy as np
import pytest
from html_pages import read_html
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from region import run_mapper
from store_maps import make_arrays, make_record, make_spec

from mapper.errors import InputError, StoreError
from mapper.report.charts import draw_timeline, find_ticks
from mapper.report.contents import read_contents
from mapper.report.page import write_report
from mapper.report.pixel_sample import sample_pixels
from mapper.report.quicklook import blend, draw_quicklook, make_png
from mapper.store.description import read_description
from mapper.store.map_store import MapStore, open_map
from mapper.store.product import guide_product, map_product
from mapper.store.rasters import Rasters
from mapper.store.writer import write_tile

NASTY = "<script>alert('x')</script> & \"more\""
PRICES = """
currency: EUR
date: 2026-11-01
source: made up
vcpu_hour: 100
gpu_hour: 2
read_gib: 0
requests_1000: 0
stored_gib_month: 1
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A map with a failed, an empty and a missing tile."""
    spec = make_spec(tmp_path_factory.mktemp("store") / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    *tiles, empty, failed, _ = spec.map_grid.tiles()
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        for tile in tiles:
            arrays, fork = make_arrays(spec.map_grid, tile), writer.fork()
            sha = write_tile(fork, product=map_product(spec), tile=tile, arrays=arrays)
            writer.add(fork, make_record(tile, sha=sha, value_mean=float(np.nanmean(arrays["agb"]))))
        writer.add(None, make_record(empty, status="empty", reason="no land"))
        writer.add(None, make_record(failed, status="failed", reason=NASTY))
        writer.commit()
    return spec, len(tiles)


def test_the_page_tells_all_there_is_to_tell(made, tmp_path):
    spec, tiles = made
    (tmp_path / "prices.yaml").write_text(PRICES)
    out = tmp_path / "report.html"
    code, _ = run_mapper("report", spec.store, "--out", out, "--prices", tmp_path / "prices.yaml")
    assert code == 0
    text = read_html(out.read_text())[1]
    for words in (
        "little-map: above-ground biomass",
        f"{tiles + 2} of {tiles + 3} tiles done",
        f"1 missing {tiles:,} ok 1 empty 1 failed",
        "Bottleneck lately: read",
        "sentinel-2-l2a guide 3 2021-06-01 2021-06-03",
        f"truncated {tiles + 2}",
        NASTY,
        "EUR",
        f"bicubic {tiles + 2} {'b' * 64}",
        MapStore.open(spec.store).ledger.session.snapshot_id,
        spec.digest,
        "few observations",
        "scale_factor: 0.1",
    ):
        assert " ".join(words.split()) in text, words


def test_the_page_is_one_file_that_runs_nothing_and_asks_nobody(made, tmp_path):
    out = write_report(made[0].store, tmp_path / "report.html")
    reader, _ = read_html(out.read_text())
    assert not set(reader.tags) & {"link", "iframe", "object", "embed", "base", "form"}
    assert reader.links
    assert all(link.startswith("data:image/png;base64,") for link in reader.links)
    content = out.read_text()
    assert not re.search(r"@import|url\((?!#)", content)
    assert set(re.findall(r"https?://[^\s\"<]+", content.partition("Map description")[0])) == {
        "http://www.w3.org/2000/svg"
    }
    assert "default-src 'none'" in content
    assert len(content) < 3e6


def test_a_store_without_a_tile_has_a_page_too(tmp_path):
    spec = make_spec(tmp_path / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    text = read_html(write_report(spec.store, tmp_path / "report.html").read_text())[1]
    assert "No pixel has a value yet" in text
    assert "0 of 9 tiles done" in text


def test_a_page_that_is_there_is_replaced_and_nothing_else_is_left(made, tmp_path):
    (tmp_path / "report.html").write_text("old")
    write_report(made[0].store, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert "old" not in (tmp_path / "report.html").read_text()[:100]


def test_a_missing_store_is_said_and_no_page_is_written(tmp_path):
    with pytest.raises(StoreError, match="does not exist"):
        write_report(tmp_path / "none", tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_means_and_counts_are_those_of_the_map(made):
    contents = read_contents(made[0].store)
    (band,) = contents.bands
    there = open_map(made[0].store).load()
    value = there[made[0].target.name].to_numpy()
    assert band.summary.mean == pytest.approx(float(np.nanmean(value)), rel=1e-3)
    assert contents.sample.is_whole
    assert contents.sample.pixels == made[1] * 64 * 64
    assert band.values.counts.sum() == np.isfinite(value).sum()
    assert band.values.median == pytest.approx(float(np.nanmedian(value)), abs=0.1)
    qa = there["qa"].to_numpy()
    assert contents.sample.flags["few_observations"] == ((qa & 32 > 0) & (qa < 32768)).sum()
    assert contents.sample.unflagged == (qa == 0).sum()


def read_png(content):
    """Places in its palette."""
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "P"
        return np.asarray(image)


def open_rasters(spec):
    store = MapStore.open(spec.store).ledger.session.store
    return Rasters(store, read_description(store))


@pytest.mark.parametrize("limit", ["_ALL_PX", "_ALL_TILES"])
def test_a_sample_of_a_large_map_is_of_whole_blocks_and_near_the_truth(made, monkeypatch, limit):
    monkeypatch.setattr(f"mapper.report.pixel_sample.{limit}", 1)
    tiles = [tile for tile, entry in MapStore.open(made[0].store).ledger.entries.items() if entry.status == "ok"]
    found = sample_pixels(open_rasters(made[0]), tiles)
    assert not found.is_whole
    assert found.pixels == len(tiles) * 32 * 32
    assert found.histograms["agb"].mean == pytest.approx(120, rel=0.05)


def test_a_picture_has_the_means_of_its_blocks(made):
    rasters = open_rasters(made[0])
    picture = draw_quicklook(rasters, "agb", ramp="value", edge=max(rasters.grid.shape) // 4)
    value = open_map(made[0].store)["agb"].to_numpy()
    rows, cols = (size // 4 for size in value.shape)
    blocks = value.reshape(rows, 4, cols, 4)
    with np.errstate(invalid="ignore"):
        means = np.nansum(blocks, (1, 3)) / np.isfinite(blocks).sum((1, 3))
    indices = read_png(picture.png)
    assert picture.shape == indices.shape == means.shape
    np.testing.assert_array_equal(indices == 0, np.isnan(means))
    inside = (means > picture.low) & (means < picture.high)
    shown = picture.low + (indices[inside] - 1.0) / 254 * (picture.high - picture.low)
    np.testing.assert_allclose(shown, means[inside], atol=(picture.high - picture.low) / 254)


def test_too_large_a_map_without_a_pyramid_is_drawn_from_the_means_of_tiles(made, monkeypatch):
    monkeypatch.setattr("mapper.report.quicklook._ALL_PX", 1)
    (band,) = read_contents(made[0].store).bands
    assert band.picture.origin == "the means of its tiles"
    assert band.picture.shape == made[0].map_grid.tile_shape
    assert band.sd_picture is None


def test_a_picture_is_taken_from_the_pyramid_where_there_is_one(made):
    spec = made[0]
    plain = draw_quicklook(open_rasters(spec), "agb", ramp="value", edge=48)
    assert run_mapper("pyramid", spec.store)[0] == 0
    picture = draw_quicklook(open_rasters(spec), "agb", ramp="value", edge=48)
    assert "pyramid" in picture.origin
    assert picture.shape == plain.shape
    assert picture.low == pytest.approx(plain.low, rel=0.03)


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 5),
)
def test_any_png_is_read_as_it_was_written(shape, seed):
    indices = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    png = make_png(indices, blend(("000000", "ffffff")))
    np.testing.assert_array_equal(read_png(png), indices)
    with Image.open(io.BytesIO(png)) as image:
        assert (np.asarray(image.convert("RGBA"))[..., 3] == np.where(indices, 255, 0)).all()


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 8))
def test_ticks_are_few_and_inside(low, span, count):
    ticks = find_ticks(low, low + span, count=count)
    assert len(ticks) <= 2 * count + 1
    assert all(low - 1e-6 * span - 1e-6 <= tick <= low + span * (1 + 1e-6) + 1e-6 for tick in ticks)


def test_a_time_line_of_many_dates_stays_small():
    moments = [datetime(2015 + k // 9000, 1 + k % 12, 1 + k % 28, k % 24, k % 60, tzinfo=UTC) for k in range(50_000)]
    drawn = str(draw_timeline({"one": (moments, moments[::3]), "<two>": (moments, [])}))
    assert len(drawn) < 100_000
    assert "&lt;two&gt;" in drawn


def test_a_guide_has_no_report(tmp_path):
    spec = make_spec(tmp_path / "map.icechunk")
    guide = guide_product(spec, grid=spec.map_grid, units={each.name: "1" for each in spec.guide.channels}, halo_px=64)
    MapStore.create(spec.store, guide)
    with pytest.raises(InputError, match="holds a guide"):
        read_contents(spec.store)
