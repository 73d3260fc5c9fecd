"""Granules of several dates on disk: their lattice, numbers, masks, and the truth they were made from."""

import json

import numpy as np
import pytest
import rasterio
import yaml

from mapper.predict.operators import block_mean
from mapper.spec import read_spec
from mapper.synthetic.bursts import degrade
from mapper.synthetic.revisits import COARSE, FINE, write_revisits

SIZE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("revisits")
    write_revisits(folder / "catalog", seed=5003, size_px=SIZE, tile_px=64, chunk_px=32, margin_px=12)
    return folder


def items_of(folder, collection):
    paths = (folder / "catalog" / collection).glob("*/*.json")
    items = [(path.parent, json.loads(path.read_text())) for path in sorted(paths) if path.stem == path.parent.name]
    return sorted(items, key=lambda item: item[1]["properties"]["eo:cloud_cover"] if "S2" in item[1]["id"] else 0)


def read(place, item, key):
    with rasterio.open(place / item["assets"][key]["href"]) as file:
        return file.read(1), file.transform


def calibrate(numbers, item):
    offset = 1000 if item["properties"]["s2:processing_baseline"] == "05.10" else 0
    return (numbers.astype(np.float64) - offset) / 1e4


def test_the_clearest_date_sees_the_truth_and_others_are_beside_it(folder):
    (truth,) = items_of(folder, "truth-5m")
    granules = items_of(folder, "sentinel-2-l2a")
    assert len(granules) == 8
    assert len({granule[1]["properties"]["s2:processing_baseline"] for granule in granules}) == 2
    fine = np.stack([read(*truth, band)[0] for band in FINE])
    seen = degrade(fine, 2, psf_sd=0.5)
    spread = fine.std((1, 2))
    errors = [
        [np.std(calibrate(read(*granule, band)[0], granule[1]) - image) for band, image in zip(FINE, seen, strict=True)]
        for granule in granules
    ]
    assert (errors[0] < 0.025 * spread + 1e-4).all()
    assert (np.array(errors[1:]) > 0.05 * spread).all()


def test_one_date_at_a_quarter_of_the_pixel_has_its_truth(tmp_path):
    write_revisits(tmp_path / "catalog", seed=5003, scale=4, size_px=SIZE, tile_px=64, chunk_px=32, margin_px=12)
    (truth,) = items_of(tmp_path, "truth-2.5m")
    clearest, *_ = items_of(tmp_path, "sentinel-2-l2a")
    (fine, at_truth), (seen, at_seen) = read(*truth, "B08"), read(*clearest, "B08")
    assert (at_truth.a, at_seen.a) == (2.5, 10)
    assert (at_truth.c, at_truth.f) == (at_seen.c, at_seen.f)
    assert np.std(calibrate(seen, clearest[1]) - degrade(fine[None], 4, psf_sd=0.5)[0]) < 0.025 * fine.std() + 1e-4
    spec = read_spec(tmp_path / "map.yaml")
    assert (spec.grid.resolution, spec.source.resolution, spec.model.samples) == (2.5, 10, 4)
    with pytest.raises(ValueError, match="a scale of 2 or 4; got 3"):
        write_revisits(tmp_path / "other", seed=0, scale=3)


def test_bands_lie_on_one_lattice_and_masks_say_what_the_items_say(folder):
    for place, item in items_of(folder, "sentinel-2-l2a"):
        fine, ten = read(place, item, "B08")
        coarse, twenty = read(place, item, "B11")
        classes, same = read(place, item, "SCL")
        assert set(FINE) | set(COARSE) | {"SCL"} == set(item["assets"])
        assert (ten.a, twenty.a, twenty) == (10, 20, same)
        assert (ten.c, ten.f) == (twenty.c, twenty.f)
        assert (ten.c % 60, ten.f % 60) == (0, 0)
        assert fine.shape == tuple(2 * edge for edge in coarse.shape)
        assert min(fine.min(), coarse.min()) > 0
        assert item["properties"]["eo:cloud_cover"] == pytest.approx(100 * (classes == 9).mean())
    assert item["properties"]["eo:cloud_cover"] > 5


def test_bands_of_20_m_have_a_truth_of_10_m(folder):
    (truth,) = items_of(folder, "truth-10m")
    clearest = items_of(folder, "sentinel-2-l2a")[0]
    for band in COARSE:
        fine, where = read(*truth, band)
        numbers, same = read(*clearest, band)
        assert (where.a, where.c, where.f) == (10, same.c, same.f)
        seen = calibrate(numbers, clearest[1])
        assert np.corrcoef(block_mean(fine, 2).ravel(), seen.ravel())[0, 1] > 0.9


def test_both_descriptions_are_what_a_newcomer_writes(folder):
    keys = {"preset", "name", "area", "period", "grid", "catalog", "model", "store"}
    assert set(yaml.safe_load((folder / "map.yaml").read_text())) == keys | {"source", "target"}
    assert set(yaml.safe_load((folder / "bands.yaml").read_text())) == keys
    spec, bands = (read_spec(folder / f"{name}.yaml") for name in ("map", "bands"))
    assert (spec.scale, bands.scale, float(spec.grid.resolution), float(bands.grid.resolution)) == (2, 2, 5, 10)
    assert spec.area.geometry.equals(bands.area.geometry)
    left, bottom, right, top = spec.map_grid.area.boundingbox.bbox
    assert (right - left, top - bottom) == pytest.approx((5 * SIZE, 5 * SIZE), abs=10)


def test_a_map_of_a_few_pixels_is_refused(tmp_path):
    with pytest.raises(ValueError, match="needs at least 32 px, got 20 px"):
        write_revisits(tmp_path / "catalog", seed=0, size_px=20)
