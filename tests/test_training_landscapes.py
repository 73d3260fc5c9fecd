"""Landscapes are rendered once, read once, and are the same when they are read back."""

import numpy as np
import pytest

from mapper.cube.source import average_blocks
from mapper.errors import InputError, SpecError
from mapper.synthetic.scenes import SEASONS
from mapper.training import landscapes
from mapper.training.config import SyntheticData
from mapper.training.datasets import read_samples
from mapper.training.landscapes import read_landscapes, render_landscape

SIZE = 100
ARRAYS = ("guide", "source", "source_sd", "truth")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("landscapes")
    render_landscape(folder, seed=5, size_px=SIZE)
    return folder


def ask(folder, **changes):
    return SyntheticData(**({"seeds": [5], "folder": folder, "size_px": SIZE} | changes))


def test_a_landscape_is_a_place_with_a_truth(folder):
    (sample,) = read_samples([ask(folder)])
    assert sample.name == "landscape 5"
    assert sample.scale == 10
    assert sample.dates == 5
    assert sample.bands[0] == ("may_B02", "1")
    assert sample.truth.shape == (SIZE, SIZE)
    assert np.isfinite(sample.truth).mean() > 0.7
    assert np.isfinite(sample.source).all()
    assert "saturating" in sample.degradation


@pytest.mark.parametrize(
    ("scale", "seasons"), [(4, None), (8, {"early": [5, 6], "late": [7, 8, 9]})], ids=["4", "8, two dates"]
)
def test_any_scale_and_dates_read_the_same_landscape(folder, scale, seasons):
    (sample,) = read_landscapes(ask(folder, scale=scale, seasons=seasons))
    assert sample.scale == scale
    assert sample.dates == len(seasons or SEASONS)
    assert [name for name, _ in sample.bands[::9]] == [f"{name}_B02" for name in seasons or SEASONS]
    means = average_blocks(sample.truth, scale)
    known = np.isfinite(means) & np.isfinite(sample.source)
    assert known.sum() >= 16
    assert np.corrcoef(means[known], sample.source[known])[0, 1] > 0.6


def test_what_was_read_is_kept_and_the_same(folder, monkeypatch):
    (first,) = read_landscapes(ask(folder))
    monkeypatch.setattr(landscapes, "samples_from_map", None)  # not read again
    (again,) = read_landscapes(ask(folder, limit=50.0))
    for name in ARRAYS[:3]:
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    np.testing.assert_array_equal(again.truth, np.minimum(first.truth, 50))
    assert again.bands == first.bands
    assert (again.digest, again.degradation, again.source_units) == (first.digest, first.degradation, "Mg ha-1")


def test_a_broken_file_of_what_was_kept_is_read_again(folder, monkeypatch):
    (first,) = read_landscapes(ask(folder))
    kept = [path for path in (folder / f"5-{SIZE}").glob("*.npz") if b"(10, 10)" in path.read_bytes()]
    whole = kept[0].read_bytes()
    kept[0].write_bytes(whole[:5000])
    monkeypatch.setattr(landscapes, "samples_from_map", lambda *_, **__: first)
    assert read_landscapes(ask(folder))[0].guide is first.guide
    assert kept[0].read_bytes() == whole


def test_arrays_that_would_have_to_run_are_not_loaded(tmp_path):
    np.savez(tmp_path / "sample.npz", guide=np.array([{}], object), facts=np.array("{}"))
    assert landscapes._load(tmp_path / "sample.npz") is None


def test_seasons_that_no_scene_is_of_are_refused(folder):
    with pytest.raises(SpecError, match="months are 1 to 12"):
        read_landscapes(ask(folder, seasons={"never": [13]}))
    with pytest.raises(InputError, match="no scene"):
        read_landscapes(ask(folder, seasons={"summer": [6, 7], "winter": [1]}))


def test_a_landscape_appears_complete_or_not_at_all(tmp_path, monkeypatch):
    def break_down(out_dir, **_):
        out_dir.mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(landscapes, "write_scenes", break_down)
    with pytest.raises(KeyboardInterrupt):
        render_landscape(tmp_path, seed=5, size_px=SIZE)
    assert not list(tmp_path.iterdir())


def test_a_landscape_that_another_process_has_rendered_is_taken(folder, tmp_path, monkeypatch):
    def render_both(out_dir, **_):
        for place in (out_dir.parent, tmp_path / f"6-{SIZE}"):
            place.mkdir(parents=True)
            (place / "map.yaml").write_text(str(place))

    monkeypatch.setattr(landscapes, "write_scenes", render_both)
    path = render_landscape(tmp_path, seed=6, size_px=SIZE)
    assert path.read_text() == str(tmp_path / f"6-{SIZE}")
    assert [place.name for place in tmp_path.iterdir()] == [f"6-{SIZE}"]
    monkeypatch.setattr(landscapes, "write_scenes", None)
    render_landscape(folder, seed=5, size_px=SIZE)


def test_a_landscape_of_one_source_pixel_is_refused(folder):
    with pytest.raises(InputError, match="fewer than two source pixels"):
        read_landscapes(ask(folder, scale=64))
