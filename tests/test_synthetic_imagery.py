import numpy as np
import pytest

from mapper.synthetic.imagery import make_image


@pytest.fixture(scope="module")
def image():
    return make_image(3, size_px=64, bands=3)


def test_an_image_is_a_function_of_its_seed(image):
    np.testing.assert_array_equal(make_image(3, size_px=64, bands=3), image)
    assert np.abs(make_image(4, size_px=64, bands=3) - image).mean() > 0.3


def test_an_image_has_unit_spread_and_bands_that_are_alike(image):
    assert image.shape == (3, 64, 64)
    assert image.dtype == np.float32
    assert abs(float(image.mean())) < 1e-3
    assert float(image.std()) == pytest.approx(1, abs=1e-3)
    assert np.corrcoef(image.reshape(3, -1))[0, 1:].min() > 0.2


def test_power_falls_as_in_natural_scenes():
    slopes = []
    for seed in range(3):
        power = np.abs(np.fft.rfft2(make_image(seed, size_px=96, bands=1)[0])) ** 2
        frequency = np.hypot(np.fft.fftfreq(96)[:, None], np.fft.rfftfreq(96)[None])
        rings = [(frequency > low) & (frequency <= 1.5 * low) for low in 0.02 * 1.5 ** np.arange(6)]
        logs = [np.log(power[ring].mean()) for ring in rings]
        slopes.append(np.polyfit(np.log(0.025 * 1.5 ** np.arange(6)), logs, 1)[0])
    assert -3.5 < np.mean(slopes) < -1.5  # -2 for images of edges
