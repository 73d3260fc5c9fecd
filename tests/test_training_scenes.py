"""Places of published layouts become samples: as they are, simulated from, or one scale down."""

import numpy as np
import pytest
from pydantic import ValidationError
from scene_folders import write_image
from shared import SHARED

from mapper.errors import InputError
from mapper.synthetic.bursts import degrade
from mapper.training.datasets import read_samples
from mapper.training.scene_config import SceneData
from mapper.training.scenes import read_scenes

PIECES = SHARED / "super_resolution"


@pytest.fixture(scope="module")
def probav(tmp_path_factory):
    """Two sets of images, one without an anchor."""
    folder = tmp_path_factory.mktemp("data") / "probav"
    random = np.random.default_rng(0)
    ground = random.normal(8000, 900, (36, 36)).cumsum(0) / 5
    for name in ("NIR_1", "NIR_2"):
        for at in range(3):
            image = ground.reshape(12, 3, 12, 3).mean((1, 3)) + random.normal(0, 20 * at, (12, 12))
            write_image(folder / name / f"LR{at:03d}.png", image.astype(np.uint16))
        write_image(folder / name / "HR.png", ground.astype(np.uint16))
    (folder / "anchors.json").write_text('{"NIR_1": 0}')
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "spacenet7"
    random = np.random.default_rng(1)
    for name in ("07", "08"):
        write_image(folder / f"{name}_rgb.png", random.integers(1, 255, (3, 31, 40)).astype(np.uint8))
    return folder


def test_own_dates_have_the_anchor_first_and_those_most_like_it(probav):
    told = []
    (sample,) = read_scenes(SceneData(kind="probav", folder=probav, border_px=2, dates=2, label="cut"), told.append)
    assert (sample.name, sample.place, sample.scale, sample.value_range) == ("NIR_1 cut", "NIR_1", 3, 65535)
    assert sample.target == "nir"
    assert len(sample.stack.days) == 2
    np.testing.assert_array_equal(sample.stack.values[0], sample.source)
    assert sample.stack.true_shift is None
    assert np.isfinite(sample.truth).sum() == 32 * 32
    assert told == ["left out: scene NIR_2 lacks an anchor: say in anchors.json which date the truth shows"]


def test_places_that_are_named_have_to_be_there_and_whole(probav):
    with pytest.raises(InputError, match="has no place NIR_9: it has NIR_1, NIR_2"):
        read_scenes(SceneData(kind="probav", folder=probav, places=("NIR_9",)))
    with pytest.raises(InputError, match="scene NIR_2 lacks an anchor"):
        read_scenes(SceneData(kind="probav", folder=probav, places=("NIR_1", "NIR_2")))
    with pytest.raises(InputError, match="has no probav place to use: scene NIR_2 lacks"):
        read_scenes(SceneData(kind="probav", folder=probav, leave_out=("NIR_1",)))


def test_one_scale_down_the_anchor_is_the_truth(probav):
    (sample,) = read_scenes(SceneData(kind="probav", folder=probav, places=("NIR_1",), coarser=2))
    (above,) = read_scenes(SceneData(kind="probav", folder=probav, places=("NIR_1",)))
    np.testing.assert_array_equal(sample.truth, above.source)
    np.testing.assert_array_equal(sample.source, degrade(above.source, 2))
    assert sample.stack.values.shape == (3, 1, 6, 6)


def test_dates_are_simulated_of_a_fine_image(pictures):
    simulate = {"scale": 2, "dates": 3, "noise": (0, 0), "noise_level": 1.5, "seed": 4, "size_px": 38}
    data = SceneData(kind="spacenet7", folder=pictures, simulate=simulate, psf={"sd": 0.5, "aperture_px": 2})
    first, second = read_samples([data])
    assert (first.name, second.name, first.source_units, first.target) == ("07", "08", "DN", "red,green,blue")
    assert first.truth.shape == (3, 30, 38)
    assert (first.truth == np.round(first.truth)).all()
    assert first.stack.values.shape == (3, 3, 15, 19)
    assert first.psf.aperture_px == 2
    error = first.stack.shift[:, :, 0, 0] - first.stack.true_shift
    assert 0 < np.abs(error).max() < 0.2  # what registration leaves
    noise = first.source - degrade(first.truth, 2)
    assert noise.std() == pytest.approx(1.5, rel=0.1)


def test_what_is_absent_is_told_where_it_may_be_and_refused_where_not(tmp_path, probav):
    told = []
    absent = SceneData(kind="probav", folder=tmp_path, subfolder="probav", optional=True)
    assert read_scenes(absent, told.append) == []
    assert read_scenes(SceneData(kind="spacenet7", optional=True), told.append) == []
    assert told == [
        f"probav is left out: {tmp_path / 'probav'} is not there",
        "spacenet7 is left out: say with --data where its folder is",
    ]
    with pytest.raises(InputError, match="is no folder, expected probav data"):
        read_scenes(absent.model_copy(update={"optional": False}))
    with pytest.raises(InputError, match="holds no LR"):
        read_scenes(SceneData(kind="probav", folder=tmp_path, optional=True))
    with pytest.raises(InputError, match="has an aperture_px of 2, expected 3 as the scale"):
        read_scenes(SceneData(kind="probav", folder=probav, places=("NIR_1",), psf={"sd": 0.3, "aperture_px": 2}))


def test_pairs_of_opensr_test_are_scenes_of_one_date_with_their_own_truth(tmp_path):
    random = np.random.default_rng(2)
    source, truth = random.integers(1, 4000, (2, 4, 12, 10)), random.integers(1, 4000, (2, 4, 48, 40))
    np.savez(tmp_path / "naip.npz", L2A=source.astype(np.uint16), HRharm=truth.astype(np.uint16))
    first, second = read_samples([SceneData(kind="opensr-test", folder=tmp_path, border_px=4)])
    assert (first.name, first.scale, first.value_range, first.target) == ("naip_000", 4, 1, "B04,B03,B02,B08")
    np.testing.assert_allclose(second.source, source[1] / 1e4, rtol=1e-6)
    np.testing.assert_allclose(second.truth[:, 4:-4, 4:-4], truth[1, :, 4:-4, 4:-4] / 1e4, rtol=1e-6)
    assert second.seen_through is None


def test_rows_of_an_image_are_taken_and_what_it_was_seen_through_is_kept_apart(pictures):
    simulate = {"scale": 2, "dates": 1, "noise": (0, 0), "rows": (10, 30), "psf_sd": (0.6, 0.6)}
    data = SceneData(kind="spacenet7", folder=pictures, simulate=simulate, psf={"sd": 0.5, "aperture_px": 2})
    sample = read_scenes(data)[0]
    assert sample.truth.shape == (3, 20, 40)
    np.testing.assert_allclose(sample.source, degrade(sample.truth, 2, psf_sd=0.6), rtol=1e-5)
    assert (sample.psf.sd, sample.seen_through.sd) == (0.5, 0.6)
    with pytest.raises(InputError, match="scene 07 has 31 rows, got rows 20 to 40"):
        read_scenes(SceneData(kind="spacenet7", folder=pictures, simulate=simulate | {"rows": (20, 40)}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folder": None}, "give the folder of the probav data"),
        ({"kind": "image-stacks"}, "give the value_range of the image-stacks data"),
        ({"simulate": {}, "coarser": 3}, "give one of simulate and coarser"),
    ],
)
def test_a_description_is_whole(tmp_path, changes, message):
    with pytest.raises(ValidationError, match=message):
        SceneData.model_validate({"kind": "probav", "folder": tmp_path} | changes)


@pytest.mark.skipif(not PIECES.is_dir(), reason=f"real data not found at {PIECES}")
def test_a_real_summer_is_simulated_from_by_its_number():
    simulate = {"image": -1, "dates": 1, "noise": (0, 0)}
    data = SceneData(kind="image-stacks", folder=PIECES / "naip", value_range=255, simulate=simulate)
    (sample,) = read_scenes(data)
    assert (sample.name, sample.truth.shape, sample.source.shape) == ("west", (4, 384, 384), (4, 192, 192))
    with pytest.raises(InputError, match="has 10 dates: say by `image`"):
        read_scenes(
            data.model_copy(update={"places": ("west",), "simulate": data.simulate.model_copy(update={"image": None})})
        )
