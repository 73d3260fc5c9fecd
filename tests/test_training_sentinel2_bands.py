"""Crops of Sentinel-2 as samples of its 20 m bands, and what is reached without a network."""

import numpy as np
import pytest
from shared import SHARED, needs_shared

from mapper.benchmark.sites import read_sites
from mapper.errors import InputError
from mapper.models.weights import load_model
from mapper.spec import ModelSpec
from mapper.training.band_methods import find_detail, inject_detail, interpolate_bands, keep_block_means, score_bands
from mapper.training.scene_config import Sentinel2BandsData
from mapper.training.sentinel2_bands import GUIDE, TARGETS, read_band_crops
from mapper.training.trainer import predict_sample
from mapper.training.wald import degrade


def write_crop(folder, name, *, rows=16, cols=20, hole=False, fine=None):
    rng = np.random.default_rng(len(name))
    b10 = rng.integers(900, 4000, (4, 2 * rows, 2 * cols)) if fine is None else fine
    b20 = rng.integers(900, 4000, (6, rows, cols))
    if hole:
        b20[:, :2, :2] = 0
    np.savez(folder / f"{name}.npz", b10=b10.astype(np.uint16), b20=b20.astype(np.uint16))
    return b10, b20


def test_a_crop_is_a_sample_one_scale_coarser(tmp_path):
    b10, b20 = write_crop(tmp_path, "here", hole=True)
    (sample,) = read_band_crops(Sentinel2BandsData(folder=tmp_path))
    assert (sample.scale, sample.targets, sample.place) == (2, TARGETS, "here")
    assert [name for name, _ in sample.bands] == list(GUIDE)
    np.testing.assert_allclose(sample.guide[1, 3, 4], b10[1, 6:8, 8:10].mean() / 1e4, rtol=1e-6)
    np.testing.assert_allclose(sample.source[2, 5, 6], b20[2, 10:12, 12:14].mean() / 1e4, rtol=1e-6)
    assert np.isnan(sample.source[:, 0, 0]).all()
    assert np.isnan(sample.truth[:, :4]).all()
    np.testing.assert_allclose(sample.truth[:, 4:-4, 4:-4], b20[:, 4:-4, 4:-4] / 1e4, rtol=1e-6)
    assert all(sample.source_transfers)
    assert all(each.block == 2 for each in sample.guide_transfers)


def test_what_is_learnt_of_a_crop_has_no_pixel_of_its_truth(tmp_path):
    write_crop(tmp_path, "here")
    (site,) = read_sites([Sentinel2BandsData(folder=tmp_path)])
    coarser = degrade(site.blind)
    assert coarser.truth.shape == site.sample.source.shape
    assert np.isfinite(coarser.truth).all()


def test_a_suite_leaves_each_crop_out(tmp_path):
    for name in ("east", "north", "south"):
        write_crop(tmp_path, name)
    sites = read_sites([Sentinel2BandsData(folder=tmp_path, leave_out=("north",))])
    assert [site.name for site in sites] == ["east", "south"]
    assert [site.data.crops for site in sites] == [("east",), ("south",)]


def test_what_is_no_crop_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="has no crop, an"):
        read_band_crops(Sentinel2BandsData(folder=tmp_path))
    write_crop(tmp_path, "odd", fine=np.ones((4, 30, 40)))
    with pytest.raises(InputError, match=r"odd.npz has b10 \(4, 30, 40\) and b20 \(6, 16, 20\)"):
        read_band_crops(Sentinel2BandsData(folder=tmp_path))
    with pytest.raises(InputError, match="no crop there; it has odd"):
        read_band_crops(Sentinel2BandsData(folder=tmp_path, crops=("there",)))
    (tmp_path / "odd.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="cannot be read"):
        read_band_crops(Sentinel2BandsData(folder=tmp_path))


def test_injected_detail_is_what_the_guide_tells(tmp_path):
    """Bands that are sums of the guide come back but for what interpolation does at the edge."""
    rng = np.random.default_rng(0)
    fine = rng.integers(900, 4000, (4, 64, 64)).astype(float)
    coarse = np.tensordot(rng.uniform(0.1, 0.4, (6, 4)), fine.reshape(4, 32, 2, 32, 2).mean((2, 4)), axes=1)
    np.savez(tmp_path / "sum.npz", b10=fine, b20=coarse)
    (sample,) = read_band_crops(Sentinel2BandsData(folder=tmp_path))
    plain, injected = (score_bands(each, sample).mean for each in (interpolate_bands(sample), inject_detail(sample)))
    assert injected < 0.02 * plain
    kept = keep_block_means(injected_image := inject_detail(sample), sample)
    np.testing.assert_allclose(kept.reshape(6, 16, 2, 16, 2).mean((2, 4)), sample.source, atol=1e-6)
    assert score_bands(kept, sample).mean <= score_bands(injected_image, sample).mean * 1.01
    assert find_detail(np.full((1, 8, 8), 3, np.float32), 2).std() < 1e-6


@needs_shared
def test_the_published_baselines_of_the_shared_crop_come_back():
    (sample,) = read_band_crops(Sentinel2BandsData(folder=SHARED / "super_resolution" / "s2_l1c"))
    injected = inject_detail(sample)
    found = [interpolate_bands(sample), injected, keep_block_means(injected, sample)]
    scores = [1e4 * score_bands(each, sample).mean for each in found]
    assert scores == pytest.approx([133.5, 72.9, 71.4], abs=0.1)


@pytest.mark.parametrize("block", [1, 2])
def test_a_scene_of_no_place_has_its_truth_at_the_finer_pixel(block):
    data = Sentinel2BandsData(seeds=(7,), size_px=64, block=block, noise=(0, 0))
    (sample,) = read_band_crops(data)
    edge = 64 // block
    assert (sample.truth.shape, sample.source.shape) == ((6, edge, edge), (6, edge // 2, edge // 2))
    assert np.isnan(sample.truth[:, :4]).all()
    truth = sample.truth[:, 8:-8, 8:-8].reshape(6, edge // 2 - 8, 2, -1, 2).mean((2, 4))
    inner = sample.source[:, 4:-4, 4:-4]
    share = np.std(truth - inner, axis=(1, 2)) / np.std(inner, axis=(1, 2))
    assert (share < (0.02 if block == 2 else 0.5)).all()
    assert (share > 0.02).all() == (block == 1)  # a mean is sharper than what an instrument sees
    assert all(each.block == block for each in sample.source_transfers)


def test_scenes_of_a_suite_are_sites_by_their_seed():
    sites = read_sites([Sentinel2BandsData(seeds=(7, 8), size_px=32)])
    assert [site.data.seeds for site in sites] == [(7,), (8,)]
    found = [score_bands(interpolate_bands(site.sample), site.sample).mean for site in sites]
    assert len(set(found)) == 2


@pytest.mark.parametrize("both", [{}, {"folder": "crops", "seeds": [1]}, {"seeds": [1], "crops": ["a"]}])
def test_bands_are_of_crops_or_of_scenes(both):
    with pytest.raises(ValueError, match="crops"):
        Sentinel2BandsData(**both)


def find_methods(sample):
    """Mean RMSE of bicubic, and of the network that ships, which learnt from no real scene."""
    shipped = predict_sample(load_model(ModelSpec(name="band-fusion-20m")), sample).mean
    return [score_bands(values, sample).mean for values in (interpolate_bands(sample), shipped)]


@pytest.mark.parametrize("block", [1, 2])
def test_what_ships_is_better_than_bicubic_on_scenes_held_out(block):
    (sample,) = read_band_crops(Sentinel2BandsData(seeds=(1210,), size_px=64, block=block))
    bicubic, shipped = find_methods(sample)
    assert shipped < 0.6 * bicubic


@needs_shared
def test_what_ships_is_better_than_bicubic_on_a_real_crop():
    folder = SHARED / "super_resolution" / "s2_l1c"
    bicubic, shipped = find_methods(read_band_crops(Sentinel2BandsData(folder=folder))[0])
    assert shipped < 0.7 * bicubic
