"""Scenes of no place in the bands of Sentinel-2."""

import numpy as np
import pytest

from mapper.synthetic.imagery import FINER, make_image, paint_canvas
from mapper.synthetic.reflectance import BANDS, make_reflectance

SIZE = 40


def test_bands_of_a_scene_are_the_same_alone_and_together():
    whole = make_reflectance(3, size_px=SIZE)
    assert whole.shape == (len(BANDS), SIZE, SIZE)
    np.testing.assert_allclose(make_reflectance(3, size_px=SIZE, bands=("B8A", "B03")), whole[[7, 1]], rtol=1e-6)


@pytest.mark.parametrize("seed", [0, 11, 5000])
def test_reflectance_is_that_of_land(seed):
    scene = make_reflectance(seed, size_px=SIZE)
    assert scene.min() > 0
    assert scene.max() < 0.9
    by_band = scene.reshape(len(BANDS), -1)
    assert (by_band.std(1) > 0.005).all()
    alike = np.corrcoef(by_band)
    assert alike[BANDS.index("B08"), BANDS.index("B8A")] > 0.9
    assert np.abs(scene - make_reflectance(seed + 1, size_px=SIZE)).mean() > 0.01


def test_an_image_is_the_mean_of_its_canvas():
    canvas = paint_canvas(4, size_px=SIZE, bands=2)
    means = canvas.reshape(2, SIZE, FINER, SIZE, FINER).mean((2, 4))
    means -= means.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(make_image(4, size_px=SIZE, bands=2), means / means.std(), atol=1e-5)


def test_a_band_that_nobody_knows_is_refused_by_name():
    with pytest.raises(ValueError, match="no reflectance of B99: expected some of B02"):
        make_reflectance(0, size_px=SIZE, bands=("B02", "B99"))
