"""Chips read straight from their files: the numbers of a map of the chip, fill and clouds left out."""

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from shared import SHARED, needs_shared

from mapper.catalog.importers.biomassters import make_biomassters_catalog
from mapper.errors import InputError
from mapper.training.biomassters import read_chips
from mapper.training.config import BioMasstersData, MapsData, TruthConfig
from mapper.training.datasets import read_samples

SIZE = 26
"""A published chip has 256 pixels; what is said of its numbers holds for any."""
CLEAR, CLOUD, UNKNOWN = 40, 41, 255


@pytest.fixture
def folder(tmp_path):
    """Two chips: one of May and June with everything that is wrong in chips, and one with nothing but its label."""
    label = np.full((SIZE, SIZE), 100, np.float32)
    label[0, :4] = -3, 900, np.nan, np.inf
    write(tmp_path / "a" / "aa_agbm.tif", label[None])
    write(tmp_path / "bb_agbm.tif", np.full((1, SIZE, SIZE), 20, np.float32))
    may, june = (np.full((11, SIZE, SIZE), value, np.uint16) for value in (1000, 3000))
    may[10], june[10] = CLEAR, 0
    may[10, 1, 1], may[10, 1, 2], may[0, 1, 3] = CLOUD, UNKNOWN, 0
    write(tmp_path / "a" / "aa_S2_08.tif", may)
    write(tmp_path / "a" / "aa_S2_09.tif", june)
    radar = np.stack([np.full((SIZE, SIZE), value, np.float32) for value in (-10, -16, -9999, -9999)])
    radar[0, 2, :4] = -9999, 0, np.nan, -20
    write(tmp_path / "a" / "aa_S1_08.tif", radar)
    write(tmp_path / "a" / "aa_S1_09.tif", np.where(radar == -9999, radar, -10).astype(np.float32))
    return tmp_path


def write(path, bands):
    path.parent.mkdir(exist_ok=True)
    count, height, width = bands.shape
    with (
        pytest.warns(NotGeoreferencedWarning),
        rasterio.open(path, "w", "GTiff", width=width, height=height, count=count, dtype=bands.dtype) as file,
    ):
        file.write(bands)


def read(folder, **changes):
    return read_chips(BioMasstersData(**({"folder": folder, "chips": ["aa"], "limit": 500} | changes)))


def channel(sample, name):
    return sample.guide[[band for band, _ in sample.bands].index(name)]


def test_channels_are_those_of_a_map_of_the_chip(folder):
    (sample,) = read(folder)
    names, units = zip(*sample.bands, strict=True)
    assert len(names) == 4 * 14
    assert names[:2] == ("autumn_B02", "autumn_B03")
    assert names[9:15] == (
        "autumn_B12",
        "autumn_vv_ascending",
        "autumn_vh_ascending",
        "autumn_vv_descending",
        "autumn_vh_descending",
        "winter_B02",
    )
    assert units[:14] == ("1",) * 10 + ("dB",) * 4
    assert sample.dates == 4
    assert sample.name == "aa"
    assert sample.degradation == "block mean of the label, 10 x 10, limited to 500 Mg ha-1"


def test_reflectance_is_the_median_of_what_is_clear(folder):
    (sample,) = read(folder, seasons={"early": [5], "both": [6, 5]})
    early, both = channel(sample, "early_B02"), channel(sample, "both_B02")
    assert early[5, 5] == pytest.approx(0.1)
    assert np.isnan(early[1, 1:4]).all()
    assert np.isnan(channel(sample, "early_B03")[1, 1:3]).all()
    assert channel(sample, "early_B03")[1, 3] == pytest.approx(0.1)
    assert both[5, 5] == pytest.approx(0.2)
    np.testing.assert_allclose(both[1, 1:4], 0.3)


def test_backscatter_is_the_mean_power_of_what_was_measured(folder):
    (sample,) = read(folder, seasons={"early": [5], "both": [5, 6]})
    early, both = channel(sample, "early_vv_ascending"), channel(sample, "both_vv_ascending")
    np.testing.assert_allclose(early[2, :5], [np.nan, np.nan, np.nan, -20, -10], rtol=1e-5)
    np.testing.assert_allclose(both[2, 3], 10 * np.log10((0.01 + 0.1) / 2), rtol=1e-5)
    np.testing.assert_allclose(channel(sample, "early_vh_ascending"), -16, rtol=1e-5)
    assert np.isnan(channel(sample, "both_vv_descending")).all()


def test_months_without_a_file_are_gaps(folder):
    (sample,) = read(folder, seasons="monthly")
    assert sample.dates == 12
    assert sample.bands[0][0] == "m09_B02"
    assert np.isfinite(channel(sample, "m05_B02")).any()
    assert np.isnan(channel(sample, "m07_B02")).all()
    assert np.isnan(channel(sample, "m07_vv_ascending")).all()


@pytest.mark.parametrize(("scale", "crop"), [(10, 20), (8, 24)])
def test_the_source_is_the_block_mean_of_the_limited_label(folder, scale, crop):
    (sample,) = read(folder, scale=scale)
    assert sample.scale == scale
    assert sample.truth.shape == (crop, crop)
    np.testing.assert_array_equal(sample.truth[0, :5], [0, 500, np.nan, np.nan, 100])
    total = 100 * (scale * scale - 4) + 500
    assert sample.source[0, 0] == pytest.approx(total / (scale * scale - 2))
    assert (sample.source[1:] == 100).all()
    assert sample.source_sd[1, 1] == pytest.approx(10)


def test_the_limit_can_be_left_out_and_small_deviations_have_a_floor(folder):
    (sample,) = read(folder, limit=None)
    assert np.nanmax(sample.truth) == 900
    assert sample.degradation == "block mean of the label, 10 x 10"
    (bare,) = read(folder, chips=["bb"])
    assert (bare.source_sd == 5).all()
    assert np.isnan(bare.guide).all()
    assert bare.digest != sample.digest


def test_chips_are_chosen_by_name(folder):
    assert [sample.name for sample in read(folder, chips=None)] == ["aa", "bb"]
    assert [sample.name for sample in read(folder, chips=None, leave_out=["aa"])] == ["bb"]
    with pytest.raises(InputError, match="has no chip cc; it has aa, bb"):
        read(folder, chips=["cc"])
    with pytest.raises(InputError, match="all are left out"):
        read(folder, leave_out=["aa"])
    with pytest.raises(InputError, match="holds no BioMassters chip"):
        read(folder / "none")


def test_files_that_are_not_as_published_are_refused(folder):
    with pytest.raises(InputError, match="holds no source pixel of 30 px"):
        read(folder, scale=30)
    with pytest.raises(InputError, match="months 1 to 12: odd"):
        read(folder, seasons={"odd": [13]})
    write(folder / "a" / "aa_S1_08.tif", np.zeros((2, SIZE, SIZE), np.float32))
    with pytest.raises(InputError, match="has 2 bands, expected 4"):
        read(folder)
    write(folder / "a" / "aa_S1_08.tif", np.zeros((4, 5, SIZE), np.float32))
    with pytest.raises(InputError, match="expected at least 20 x 20"):
        read(folder)


@needs_shared
@pytest.mark.parametrize(("name", "seasons"), [("288afc34", "quarterly"), ("0060c0a5", "monthly")])
def test_a_chip_is_read_as_a_map_of_it_is(tmp_path, name, seasons):
    """What a network learns from files is what it sees at work."""
    source = SHARED / "biomassters"
    make_biomassters_catalog(source, tmp_path, chips=[name], seasons=seasons)
    (chip,) = read_samples([BioMasstersData(folder=source, chips=[name], seasons=seasons, limit=500)])
    truth = TruthConfig(collection="truth", limit=500)
    (place,) = read_samples([MapsData(maps=[tmp_path / f"{name}.yaml"], truth=truth)])
    assert (chip.bands, chip.dates, chip.source_units) == (place.bands, place.dates, place.source_units)
    for array in ("guide", "source", "source_sd", "truth"):
        np.testing.assert_allclose(getattr(chip, array), getattr(place, array), atol=1e-5)


@needs_shared
def test_a_whole_chip_is_used_at_a_scale_that_divides_it():
    (sample,) = read(SHARED / "biomassters", chips=["0060c0a5"], scale=8)
    assert sample.truth.shape == (256, 256)
    assert sample.source.shape == (32, 32)
    assert np.isfinite(sample.guide).mean() > 0.9
