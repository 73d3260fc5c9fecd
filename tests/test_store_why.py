"""Why: values, flags, record and version of one pixel."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pyproj import Transformer
from store_maps import NATIVE, PROJECTED, make_arrays, make_record, make_spec, write_tiles

from mapper.errors import GridError, StoreError
from mapper.events import ReadRetry
from mapper.predict.quality import BITS
from mapper.store.ledger import read_ledger
from mapper.store.product import map_product
from mapper.store.repository import create_store
from mapper.store.why import why
from mapper.store.writer import open_writer


@pytest.fixture(params=[PROJECTED, NATIVE], ids=["projected", "native"])
def spec(tmp_path, request):
    spec = make_spec(tmp_path / "map.icechunk", grid=request.param)
    create_store(spec.store, product=map_product(spec))
    return spec


def centre_of(spec, tile, row, col):
    window = spec.map_grid.window(tile)
    return spec.map_grid.geobox.transform @ (window.left + col + 0.5, window.top + row + 0.5)


def test_a_pixel_tells_its_values_record_and_version(spec):
    tiles = list(spec.map_grid.tiles())
    with open_writer(spec.store, product=map_product(spec), run_id="run-1") as writer:
        snapshots = [write_tiles(writer, spec, tiles[:2]), write_tiles(writer, spec, tiles[2:4])]
    arrays = make_arrays(spec.map_grid, tiles[2])
    x, y = centre_of(spec, tiles[2], 20, 33)
    answer = why(spec.store, x, y, crs=spec.grid.crs)
    window = spec.map_grid.window(tiles[2])
    assert (answer.row, answer.col, answer.tile) == (window.top + 20, window.left + 33, tiles[2])
    assert answer.value == pytest.approx(arrays["agb"][20, 33], abs=0.0501)
    assert answer.sd == pytest.approx(arrays["agb_sd"][20, 33], abs=0.0501)
    assert answer.qa == arrays["qa"][20, 33]
    assert answer.flags == tuple(bit.name for bit in BITS.values() if bit.mask & answer.qa)
    assert answer.n_valid == arrays["n_valid"][20, 33]
    assert answer.units == "Mg ha-1"
    assert answer.snapshot == snapshots[1]
    assert answer.record == read_ledger(spec.store).record_at(tiles[2])


def test_points_may_be_given_in_longitude_and_latitude(spec):
    x, y = centre_of(spec, next(iter(spec.map_grid.tiles())), 5, 60)
    lon, lat = Transformer.from_crs(spec.grid.crs, "EPSG:4326", always_xy=True).transform(x, y)
    here, there = why(spec.store, lon, lat), why(spec.store, x, y, crs=spec.grid.crs)
    assert (here.row, here.col) == (there.row, there.col)


def test_a_tile_that_was_never_attempted_says_so(spec):
    answer = why(spec.store, *centre_of(spec, next(iter(spec.map_grid.tiles())), 0, 0), crs=spec.grid.crs)
    assert answer.record is None
    assert answer.value is None
    assert answer.flags == ("not_written",)
    assert "never attempted" in answer.to_text()
    assert json.loads(json.dumps(answer.to_dict()))["record"] is None


def test_a_failed_tile_says_why(spec):
    tile = next(iter(spec.map_grid.tiles()))
    with open_writer(spec.store, product=map_product(spec), run_id="r") as writer:
        writer.add(None, make_record(tile, status="failed", reason="no guide"))
        writer.commit()
    answer = why(spec.store, *centre_of(spec, tile, 0, 0), crs=spec.grid.crs)
    assert "failed: no guide" in answer.to_text()


def test_answers_read_well_and_as_json(spec):
    tile = next(iter(spec.map_grid.tiles()))
    with open_writer(spec.store, product=map_product(spec), run_id="run-1") as writer:
        snapshot = write_tiles(writer, spec, [tile])
    answer = why(spec.store, *centre_of(spec, tile, 20, 20), crs=spec.grid.crs)
    text = answer.to_text()
    for part in ("Mg ha-1 ±", snapshot, "run-1", "bicubic", "S2_1", "DROPPED: truncated", "processing baseline"):
        assert part in text
    content = json.loads(json.dumps(answer.to_dict()))
    assert content["record"]["items"][0]["hrefs"] == ["https://example.org/S2_0/B04.tif"]
    assert content["record"]["tile"] == {"row": tile.row, "col": tile.col}
    assert content["written_at"].startswith("20")


def test_what_reading_cost_is_told(spec):
    retries = [ReadRetry(host="h", item="i", asset="B04", reason=r, attempt=1, wait_s=0.5) for r in ("HTTP 429",) * 2]
    retries.append(replace(retries[0], reason="timed out"))
    first, second = list(spec.map_grid.tiles())[:2]
    with open_writer(spec.store, product=map_product(spec), run_id="run-1") as writer:
        cost = {"requests": 17, "bytes_read": 12_345_678, "retries": tuple(retries)}
        writer.add(None, make_record(first, status="failed", **cost))
        writer.add(None, make_record(second, status="failed", requests=2))
        writer.commit()
    answers = [why(spec.store, *centre_of(spec, tile, 0, 0), crs=spec.grid.crs) for tile in (first, second)]
    assert "17 requests, 12.3 MB; put again: 2 HTTP 429, 1 timed out" in answers[0].to_text()
    assert "2 requests, 0.0 MB; put again: none" in answers[1].to_text()
    assert answers[0].to_dict()["record"]["retries"][2]["reason"] == "timed out"


def test_missing_pixels_have_no_value(spec):
    tile = next(iter(spec.map_grid.tiles()))
    with open_writer(spec.store, product=map_product(spec), run_id="run-1") as writer:
        write_tiles(writer, spec, [tile])
    assert np.isnan(make_arrays(spec.map_grid, tile)["agb"][0, 0])
    answer = why(spec.store, *centre_of(spec, tile, 0, 0), crs=spec.grid.crs)
    assert answer.value is None
    assert answer.to_text().startswith("agb no value")


def test_points_outside_and_stores_that_are_not_there_are_errors(spec, tmp_path):
    with pytest.raises(GridError, match="outside the map"):
        why(spec.store, 100, 0)
    with pytest.raises(StoreError, match="does not exist"):
        why(tmp_path / "nowhere", 12, 50)
