"""Overview sheets are drawn with and without a truth."""

import numpy as np
import pytest
from matplotlib.image import imread

from mapper.evaluation.overview import Sheet, plot_overview, stretch


@pytest.mark.parametrize("with_truth", [True, False])
def test_a_sheet_is_drawn(tmp_path, with_truth):
    rng = np.random.default_rng(1)
    fine = rng.uniform(0, 300, (60, 80))
    fine[:5, :5] = np.nan
    sheet = Sheet(
        title="test", label="agb (Mg ha-1)", extent=(0, 800, 0, 600), source=fine[::10, ::10],
        guide_rgb=stretch(rng.uniform(0, 0.4, (3, 60, 80))), target=fine,
        truth=fine + 1 if with_truth else None, n_valid=rng.integers(0, 9, (60, 80)) if with_truth else None,
    )  # fmt: skip
    image = imread(plot_overview(sheet, tmp_path / "overview.png"))
    assert image.shape[1] > 1500
    assert image[..., :3].std() > 0.1


def test_stretch_keeps_missing_pixels_grey():
    bands = np.linspace(0, 1, 300).reshape(3, 10, 10)
    bands[:, 0, 0] = np.nan
    assert (stretch(bands)[0, 0] == 0.5).all()
    assert stretch(bands).shape == (10, 10, 3)
