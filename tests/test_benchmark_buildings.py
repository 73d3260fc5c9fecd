"""The comparison of inputs for buildings scores what was left out, and its table adds up."""

import numpy as np
import pytest
import rasterio
import torch

from mapper.benchmark.buildings import (
    METHODS,
    BuildingScore,
    BuildingSettings,
    Chip,
    choose_threshold,
    compare_inputs,
    leave_chips_out,
    leave_half_out,
    leave_towns_out,
    read_chips,
    score_objects,
    score_pixels,
    tabulate_scores,
)
from mapper.errors import InputError
from mapper.evaluation.objects import ObjectCounts, PixelCounts
from mapper.training.segmentation import DateFusion, SegmentationSettings


def make_chip(name, town, edge=64):
    rng = np.random.default_rng(len(name))
    mask = np.kron(rng.random((edge // 8, edge // 8)) < 0.3, np.ones((8, 8))).astype(bool)
    image = np.where(mask, 180, 60) + rng.normal(0, 4, (3, edge, edge))
    return Chip(name=name, town=town, image=image.astype(np.float32), mask=mask)


def test_folds_say_what_was_seen():
    chips = [make_chip("01", "town"), make_chip("03", "country"), make_chip("05", "town")]
    by_chip = {fold.name: [chip.name for chip in fold.train] for fold in leave_chips_out(chips)}
    assert by_chip == {"chip 01": ["03", "05"], "chip 03": ["01", "05"], "chip 05": ["01", "03"]}
    by_town = {fold.name: [chip.name for chip in fold.train] for fold in leave_towns_out(chips)}
    assert by_town == {"town town": ["03"], "town country": ["01", "05"]}
    halves = leave_half_out(chips)
    for upper, lower, chip in zip(halves.train, halves.test, chips, strict=True):
        np.testing.assert_array_equal(np.concatenate([upper.image, lower.image], 1), chip.image)


def test_fusion_does_not_see_the_order_of_the_dates():
    torch.manual_seed(0)
    fusion, image = DateFusion(15).double(), torch.randn(2, 15, 16, 16).double()
    turned = torch.cat([image[:, :3], image[:, 9:], image[:, 3:9]], 1)
    torch.testing.assert_close(fusion(turned), fusion(image))
    assert fusion(image).shape == (2, fusion.features, 16, 16)


def test_every_input_is_trained_and_scored_on_what_was_left_out():
    chips = [make_chip("a", "a"), make_chip("bb", "b")]
    training = SegmentationSettings(steps=2, batch=1, patch_px=32, width=4, bf16=False)
    settings = BuildingSettings(seeds=(3,), dates=4, bursts=1, training=training)
    told = []
    scores = compare_inputs(leave_chips_out(chips)[:1], settings, report=told.append)
    assert told == scores
    assert [score.method for score in scores] == list(METHODS)
    for score in scores:
        pixels = score.pixels
        assert pixels.both + pixels.true == chips[0].mask.sum()
        assert pixels.predicted + pixels.neither == (~chips[0].mask).sum()
        assert score.quarter.found >= score.half.found
    again = compare_inputs(leave_chips_out(chips)[:1], settings, methods=[METHODS["fused"]])
    assert again == [score for score in scores if score.method == "fused"]


def test_the_table_has_mean_and_spread_over_seeds():
    def score(seed, both):
        counts = ObjectCounts(found=both, invented=2, missed=4)
        pixels = PixelCounts(both=both, predicted=5, true=5, neither=80)
        return BuildingScore(
            method="fine", fold="chip 01", seed=seed, thresholds=(0.3, 0.5), pixels=pixels, quarter=counts, half=counts
        )

    table = tabulate_scores([score(0, 10), score(1, 30)])
    ious = [10 / 20, 30 / 40]
    assert f"| chip 01 | fine | 2 | {np.mean(ious):.3f} ± {np.std(ious, ddof=1):.3f} |" in table
    assert "±" not in tabulate_scores([score(0, 10)])


def test_thresholds_are_those_with_the_best_score():
    mask = np.zeros((20, 20), bool)
    mask[2:9, 2:18] = mask[11:18, 2:18] = True
    value = np.where(mask, 0.58, 0.13).astype(np.float32)
    value[9:11, 8:12] = 0.42  # a bridge, by which two buildings become one
    value[9:11, :4] = 0.22
    values = [(value, mask), (value.T, mask.T)]
    assert choose_threshold(values, score_objects) == choose_threshold(values, score_pixels) == 0.45
    value[2:18, 3] = np.where(mask[2:18, 3], 0.33, 0.13)
    assert choose_threshold([(value, mask)], score_pixels) == 0.25, "pixels would rather have the bridge"
    nothing = np.zeros((2, 2), bool)
    assert choose_threshold([(np.zeros((2, 2), np.float32), nothing)], score_pixels) == 0.2


def write_png(path, pixels):
    with rasterio.open(
        path, "w", driver="PNG", count=len(pixels), height=pixels.shape[1], width=pixels.shape[2], dtype="uint8"
    ) as file:
        file.write(pixels)


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_chips_are_read_by_name_with_their_masks(tmp_path):
    with pytest.raises(InputError, match="has no chips"):
        read_chips(tmp_path)
    image = np.random.default_rng(0).integers(0, 255, (3, 8, 12), np.uint8)
    write_png(tmp_path / "7_rgb.png", image)
    with pytest.raises(InputError, match=r"7_gt\.png is missing"):
        read_chips(tmp_path)
    write_png(tmp_path / "7_gt.png", np.full((1, 8, 10), 255, np.uint8))
    with pytest.raises(InputError, match=r"mask of chip 7 has \(8, 10\) px, its image \(8, 12\)"):
        read_chips(tmp_path)
    (tmp_path / "7_gt.png").unlink()
    write_png(tmp_path / "7_gt.png", (image[:1] > 99).astype(np.uint8) * 255)
    (chip,) = read_chips(tmp_path, {"7": "elsewhere"})
    assert (chip.name, chip.town) == ("7", "elsewhere")
    np.testing.assert_array_equal(chip.image, image)
    np.testing.assert_array_equal(chip.mask, image[0] > 99)
