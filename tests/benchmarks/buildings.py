"""Buildings from one date, several, a sharpened image, fused features and the fine image: the table, over seeds.

Some hours of one free core; ``pytest -s -m benchmark tests/benchmarks/buildings.py``. Chips 01 and 05 are of one town.
"""

import pytest
from shared import SHARED, needs_shared

from mapper.benchmark.buildings import (
    BuildingSettings,
    compare_inputs,
    leave_chips_out,
    leave_half_out,
    leave_towns_out,
    read_chips,
    tabulate_scores,
)

TOWNS = {"01": "town", "05": "town", "03": "country"}


@pytest.mark.benchmark
@pytest.mark.timeout(0)
@needs_shared
def test_what_segmentation_is_given():
    chips = read_chips(SHARED / "super_resolution" / "spacenet7", TOWNS)
    folds = [leave_half_out(chips), *leave_chips_out(chips), leave_towns_out(chips)[0]]

    def report(score):
        counts = f"IoU {score.pixels.iou:.3f}, F1 at .25 {score.quarter.f1:.3f}"
        print(f"{score.fold}, {score.method}, seed {score.seed}: {counts}", flush=True)  # noqa: T201

    scores = compare_inputs(folds, BuildingSettings(), report=report)
    print(tabulate_scores(scores))  # noqa: T201
    assert len(scores) == len(folds) * 6 * 3
