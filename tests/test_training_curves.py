"""Curves are a table that reads back, and a picture."""

import csv

from mapper.training.curves import Row, draw_curves, write_curves

ROWS = [Row(step=1, loss=0.5, rate=1e-3), Row(step=2, loss=0.25, rate=5e-4, rmse=31.5)]


def test_the_table_has_every_point(tmp_path):
    write_curves(ROWS, tmp_path / "a.b", bicubic=40)
    with (tmp_path / "a.b.curves.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0] == {"step": "1", "loss": "0.5", "rate": "0.001", "rmse": ""}
    assert rows[1]["rmse"] == "31.5"
    assert (tmp_path / "a.b.curves.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 2


def test_the_picture_shows_loss_error_and_rate():
    loss, error, rate = draw_curves(ROWS, title="a", bicubic=40, units="Mg ha-1").axes
    assert list(loss.lines[0].get_ydata()) == [0.5, 0.25]
    assert [line.get_label() for line in error.lines] == ["model", "bicubic"]
    assert list(error.lines[0].get_xdata()) == [2]
    assert error.get_ylabel() == "validation RMSE [Mg ha-1]"
    assert list(rate.lines[0].get_ydata()) == [1e-3, 5e-4]


def test_a_young_picture_is_left_and_an_old_one_is_not(tmp_path):
    picture = tmp_path / "a.curves.png"
    write_curves(ROWS, tmp_path / "a")
    picture.write_bytes(b"")
    write_curves(ROWS, tmp_path / "a", min_interval_s=60)
    assert not picture.read_bytes()
    write_curves(ROWS, tmp_path / "a")
    assert picture.read_bytes()


def test_nothing_is_written_of_nothing(tmp_path):
    write_curves([], tmp_path / "a")
    assert not list(tmp_path.iterdir())
