import numpy as np
import pytest

from mapper.noise import derive_key, hash_uniform
from mapper.synthetic.noise import Raster, cut_cells, fractal_noise, smooth_noise


def raster(rows=200, cols=240, *, east=4_460_000.0, north=3_147_000.0, step=5.0):
    return Raster(east=east + step * (np.arange(cols) + 0.5), north=north - step * (np.arange(rows) + 0.5))


def cropped(at, rows, cols):
    return Raster(east=at.east[cols], north=at.north[rows])


def test_keys_depend_on_every_part():
    keys = {derive_key(1, "a", 2), derive_key(1, "a", 3), derive_key(1, "b", 2), derive_key(2, "a", 2)}
    assert len(keys) == 4
    assert derive_key(1, "a", 2) == derive_key(1, "a", 2)


def test_hashing_is_uniform_and_knows_negative_integers():
    values = hash_uniform(5, np.arange(-300, 300)[:, None], np.arange(-300, 300)[None, :])
    assert values.min() >= 0
    assert values.max() < 1
    assert values.mean() == pytest.approx(0.5, abs=0.003)
    assert values.var() == pytest.approx(1 / 12, abs=0.002)
    assert abs(np.corrcoef(values[:-1].ravel(), values[1:].ravel())[0, 1]) < 0.01


def test_noise_is_standardised():
    values = np.stack([smooth_noise(key, raster(), 12.0) for key in range(4)])
    assert values.mean() == pytest.approx(0, abs=0.05)
    assert values.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("make", [smooth_noise, lambda key, at, grain: fractal_noise(key, at, grain, octaves=3)])
def test_noise_does_not_know_its_window(make):
    at, rows, cols = raster(), slice(37, 150), slice(11, 90)
    part = make(3, cropped(at, rows, cols), 70.0)
    assert np.array_equal(make(3, at, 70.0)[rows, cols], part)


def test_cells_do_not_know_their_window():
    at, rows, cols = raster(), slice(37, 150), slice(11, 90)
    whole, part = (cut_cells(3, a, 80, warp_m=12, warp_grain_m=40) for a in (at, cropped(at, rows, cols)))
    assert np.array_equal(whole.draw("age")[rows, cols], part.draw("age"))
    assert np.array_equal(whole.border[rows, cols], part.border)


def test_the_border_of_a_cell_is_near_where_the_cell_changes():
    cells = cut_cells(3, raster(), 80, warp_m=0, warp_grain_m=40)
    age = cells.draw("age")
    changes = age[:, 1:] != age[:, :-1]
    assert cells.border[:, 1:][changes].max() < 6
    assert cells.border.max() > 20
