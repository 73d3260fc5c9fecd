"""Every reader holds files against what is said of them; several bands of one file are decoded once; records say it."""

from pathlib import Path

import numpy as np
import pytest
from headers import PLAIN, item_of, items_of, write_file
from scenes import HERE, box_at

from mapper.access.files import Access
from mapper.catalog.provider import CollectionRule, Provider
from mapper.cube import witness
from mapper.cube.composite import read_guide
from mapper.cube.open import open_cube
from mapper.cube.read import read_block
from mapper.cube.source import read_source
from mapper.cube.stack import read_stack
from mapper.cube.witness import Witness
from mapper.spec import parse_spec

NAMES = ("blue", "green", "nir")
SCENES = CollectionRule(
    bands={"blue": "img", "green": "img", "nir": {"asset": "img", "band": 4}},
    units="1",
    calibration="identity",
    dtype="uint8",
    nodata=None,
    resampling="nearest",
)
MAPS = CollectionRule(
    bands={"agb": {"asset": "map", "band": "mean"}, "agb_sd": {"asset": "map", "band": 2}},
    units="Mg ha-1",
    calibration="identity",
    dtype="uint16",
    nodata=None,
    resampling="nearest",
)
PROVIDER = Provider(
    name="test",
    title="",
    kind="static",
    licence="",
    attribution="",
    collections={"scenes": SCENES, "maps": MAPS, "still": PLAIN},
)
COARSE = box_at("EPSG:32633", 300000, 5700000, size=16, step=40.0)
HOLE = np.zeros(HERE.shape, bool)
HOLE[:, 30:] = True


def write_scene(path, item_id="scene", when="2020-06-01T10:00:00Z", **more):
    """Four bands of bytes, the last of which GDAL marks as alpha; the item names three, the collection numbers one."""
    pixels = np.stack([np.full(HERE.shape, value, np.uint8) for value in (10, 20, 30, 40)])
    write_file(path, pixels, mask=np.where(HOLE, 0, 255).astype(np.uint8), interleave="pixel", **more)
    listed = {"eo:bands": [{"name": name} for name in ("blue", "green", "red", "infrared")]}
    return item_of(path, ("img",), item_id=item_id, collection="scenes", asset=listed, datetime=when)


def write_map(path):
    """Mean and standard deviation in one file that names them; where nothing is known is in its header only."""
    pixels = np.stack([np.full(HERE.shape, 120, np.int16), np.full(HERE.shape, 15, np.int16)])
    pixels[:, HOLE] = -1
    write_file(path, pixels, nodata=-1, names=("mean", "spread"))
    return item_of(path, ("map",), item_id="map", collection="maps")


def spec_of(**source):
    content = {
        "name": "test",
        "area": {"bbox": [11, 51, 12, 52]},
        "period": {"start": "2020-01-01", "end": "2020-12-31"},
        "grid": {"crs": "EPSG:32633", "resolution": 10},
        "catalog": {"provider": "demo"},
        "guide": {
            "layers": [
                {"collection": "scenes", "bands": list(NAMES), "reducer": "mean"},
                {"collection": "still", "bands": ["agb"], "static": True},
            ],
            "seasons": {"summer": [6, 7, 8]},
        },
        "source": {"collection": "maps", "variable": "agb", "sd": "agb_sd", "resolution": 40, "year": 2020, **source},
        "model": {"name": "bicubic"},
        "store": "map.icechunk",
    }
    return parse_spec(content, base=Path())


def values_of(found):
    """Values of a band that is known where there is no hole."""
    np.testing.assert_array_equal(np.isnan(found), HOLE)
    (value,) = np.unique(found[~HOLE])
    return value


@pytest.fixture
def opened(monkeypatch):
    """Files in the order in which they were opened."""
    names = []
    read = Access.read
    monkeypatch.setattr(Access, "read", lambda self, name, *rest: (names.append(name.item), read(self, name, *rest))[1])
    return names


def test_bands_of_one_file_are_told_apart_and_decoded_once(tmp_path, opened):
    items = items_of(write_scene(tmp_path / "a.tif"))
    block = read_block(items, HERE, bands=NAMES, rule=SCENES)
    assert [values_of(block[name].values[0]) for name in NAMES] == [10, 20, 40]
    assert opened == ["scene"]
    cube = open_cube(items, HERE, bands=NAMES, rule=SCENES).compute(scheduler="synchronous")
    assert [values_of(cube[name].values[0]) for name in NAMES] == [10, 20, 40]
    assert len(opened) == 2


def test_a_guide_reads_files_by_their_headers_and_notes_it(tmp_path, opened):
    still = item_of(
        write_file(tmp_path / "s.tif", np.where(HOLE, 9, 5).astype(np.uint8), nodata=9, scales=(0.5,)),
        item_id="still",
        collection="still",
    )
    scenes = [write_scene(tmp_path / f"{k}.tif", f"scene{k}", f"2020-06-0{k + 1}T10:00:00Z") for k in range(3)]
    guide = read_guide(items_of(*scenes, still), HERE, spec=spec_of(), provider=PROVIDER, threads=1)
    assert [values_of(channel) for channel in guide.values] == [10, 20, 40, 2.5]
    assert sorted(opened) == ["scene0", "scene1", "scene2", "still"]
    notes = {use.id: use.calibration for use in guide.uses}
    assert "blue is band 1 of 4; missing by the file's internal mask" in notes["scene0"]
    assert notes["still"].endswith("scale 0.5 by the file; no data 9 by the file")


def test_a_source_reads_mean_and_deviation_from_one_file(tmp_path, opened):
    items = items_of(write_map(tmp_path / "m.tif"))
    source = read_source(items, COARSE, spec=spec_of(), provider=PROVIDER)
    known = ~HOLE.reshape(16, 4, 16, 4).mean(axis=(1, 3)).astype(bool)
    assert np.unique(source.mean[known]) == 120
    assert np.unique(source.sd[known]) == 15
    assert np.isnan(source.mean[:, 8:]).all()
    assert opened == ["map"]
    assert "agb is band 1 of 2; no data -1 by the file; agb_sd is band 2 of 2" in source.uses[0].calibration


def test_a_stack_of_dates_reads_as_the_others(tmp_path):
    items = items_of(*(write_scene(tmp_path / f"{k}.tif", f"s{k}", f"2020-06-0{k + 1}T10:00:00Z") for k in range(2)))
    content = {
        "preset": "sentinel2-multi",
        "name": "test",
        "area": {"bbox": [11, 51, 12, 52]},
        "period": {"start": "2020-06-01", "end": "2020-06-30"},
        "grid": {"kind": "native", "crs": "EPSG:32633", "resolution": 5},
        "catalog": {"provider": "demo"},
        "source": {"collection": "scenes", "bands": list(NAMES), "resolution": 10, "dates": 2, "cloud_limit": 100},
        "model": {"name": "bicubic"},
        "store": "map.icechunk",
    }
    spec = parse_spec(content, base=Path())
    found = read_stack(items, HERE, spec=spec, provider=PROVIDER)
    assert [values_of(found.values[0, k]) for k in range(3)] == [10, 20, 40]
    assert found.n_valid[:, :30].min() == 2
    assert "nir is band 4 of 4" in found.uses[0].calibration


def test_an_item_that_its_file_contradicts_leaves_the_tile_with_the_reason(tmp_path):
    good = write_scene(tmp_path / "good.tif", "good", "2020-06-01T10:00:00Z")
    bad = write_scene(tmp_path / "bad.tif", "bad", "2020-06-02T10:00:00Z", scales=(0.5,) * 4)
    bad["assets"]["img"]["raster:bands"] = [{"scale": 0.25}] * 4
    spec = spec_of()
    guide = read_guide(items_of(good, bad), HERE, spec=spec, provider=PROVIDER)
    assert [values_of(channel) for channel in guide.values[:3]] == [10, 20, 40]
    dropped = {use.id: use.dropped for use in guide.uses}
    assert dropped["good"] == ""
    assert "its header has scale 0.5, item and collection say 0.25" in dropped["bad"]


@pytest.mark.parametrize("kept_bytes", [0, 20_000])
def test_what_does_not_fit_is_decoded_again(tmp_path, monkeypatch, opened, kept_bytes):
    monkeypatch.setattr(witness, "KEPT_BYTES", kept_bytes)
    items = items_of(write_scene(tmp_path / "a.tif"))
    block = read_block(items, HERE, bands=NAMES, rule=SCENES)
    assert [values_of(block[name].values[0]) for name in NAMES] == [10, 20, 40]
    assert len(opened) == (3 if kept_bytes == 0 else 2)


def test_bands_that_nobody_comes_for_make_room(monkeypatch):
    monkeypatch.setattr(witness, "KEPT_BYTES", 10)
    monkeypatch.setattr(witness, "_PATIENCE", 3)
    memory = Witness()
    memory.keep(("file", "first", HERE), "first", 8)
    memory.keep(("file", "second", HERE), "second", 8)
    assert memory.take(("file", "second", HERE)) is None
    for _ in range(3):
        memory.take(("file", "none", HERE))
    memory.keep(("file", "second", HERE), "second", 8)
    assert memory.take(("file", "first", HERE)) is None
    assert memory.take(("file", "second", HERE)) == "second"
