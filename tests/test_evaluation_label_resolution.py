"""A label drawn by nearest neighbour is brought back to its own cells, whatever its phase and crop."""

from fractions import Fraction

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from shared import SHARED, needs_shared

from mapper.evaluation.label_resolution import drop_repeats, find_cells

CHIPS = sorted((SHARED / "biomassters").glob("*/*_agbm.tif"))


def draw(cells, shape, phase=(0, 0), cell_px=1.6):
    """Cells drawn on finer pixels by nearest neighbour."""
    rows, cols = (
        ((np.arange(size) + shift + 0.5) / cell_px).astype(int) for size, shift in zip(shape, phase, strict=True)
    )
    return cells[np.ix_(rows, cols)], rows - rows[0], cols - cols[0]


@given(st.integers(0, 7), st.integers(0, 7), st.integers(20, 60), st.integers(20, 60))
def test_cells_are_found_for_every_phase(row, col, height, width):
    cells = np.random.default_rng(1).uniform(0, 300, (60, 60))
    label, rows, cols = draw(cells, (height, width), (row, col))
    found = find_cells(label)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.cols, cols)
    np.testing.assert_allclose(found.average(label)[np.ix_(rows, cols)], label)


def test_the_map_is_averaged_over_the_pixels_that_show_a_cell():
    cells = np.random.default_rng(2).uniform(0, 300, (10, 10))
    label, rows, cols = draw(cells, (12, 14))
    value = np.random.default_rng(3).uniform(0, 300, label.shape)
    means, truth = drop_repeats(value, label)
    assert means.shape == (rows[-1] + 1, cols[-1] + 1)
    for row, col in np.ndindex(means.shape):
        assert means[row, col] == pytest.approx(value[np.ix_(rows == row, cols == col)].mean())
        assert truth[row, col] == pytest.approx(cells[row, col])


def test_labels_with_uniform_areas_keep_cells_of_the_right_size():
    cells = np.random.default_rng(4).uniform(0, 300, (42, 42))
    cells[5:20] = 0
    label, rows, _ = draw(cells, (64, 64), (3, 0))
    np.testing.assert_array_equal(find_cells(label).rows, rows)
    assert find_cells(np.zeros((64, 64))).shape == (40, 40)


def test_gaps_leave_their_cells_out_and_do_not_hide_the_others():
    cells = np.random.default_rng(4).uniform(0, 300, (40, 40))
    label, rows, cols = draw(cells, (64, 64))
    label[10:20, 10:20] = np.nan
    means, truth = drop_repeats(np.ones(label.shape), label)
    hit = np.zeros(means.shape, bool)
    hit[np.ix_(np.unique(rows[10:20]), np.unique(cols[10:20]))] = True
    np.testing.assert_array_equal(np.isnan(truth), hit)
    assert np.isfinite(means).all()


def test_a_label_that_does_not_repeat_is_refused():
    noise = np.random.default_rng(5).uniform(0, 300, (20, 30))
    with pytest.raises(ValueError, match="rows and columns"):
        find_cells(noise)
    with pytest.raises(ValueError, match="the columns of"):
        find_cells(draw(noise, (16, 16))[0].repeat(5, axis=1), cell_px=Fraction(8, 5))


def test_other_cells_are_found_when_their_size_is_given():
    cells = np.random.default_rng(6).uniform(0, 300, (12, 12))
    assert find_cells(cells.repeat(3, axis=0).repeat(3, axis=1), cell_px=Fraction(3)).shape == (12, 12)


def test_arrays_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(5, 5\)"):
        drop_repeats(np.zeros((5, 5)), np.zeros((8, 8)))


@needs_shared
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("path", CHIPS, ids=lambda path: path.stem)
def test_real_labels_have_cells_of_16_m(path):
    with rasterio.open(path) as dataset:
        label = dataset.read(1)[:250, :250]
    cells = find_cells(label)
    assert set(cells.shape) <= {156, 157}
    truth = cells.average(label)
    np.testing.assert_array_equal(truth[np.ix_(cells.rows, cells.cols)].astype(np.float32), label)
    assert not (np.diff(truth, axis=0) == 0).all(axis=1).any(), "a row of cells is still there twice"
    assert not (np.diff(truth, axis=1) == 0).all(axis=0).any()
