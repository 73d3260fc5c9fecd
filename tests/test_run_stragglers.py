"""When a tile is late: by how long the others took, and by nothing before any came back."""

from mapper.execute.dask_futures import Pace, StragglerPolicy


def pace_of(seconds, **policy):
    pace = Pace(policy=StragglerPolicy(**policy))
    for value in seconds:
        pace.note(value)
    return pace


def test_a_tile_is_late_that_is_out_many_times_longer_than_nearly_all_others():
    assert pace_of(range(100), factor=5, share=0.95).limit == 5 * 95


def test_a_few_slow_tiles_do_not_make_slow_ones_usual():
    assert pace_of([20] * 97 + [9000] * 3).limit == 100


def test_nothing_is_late_too_soon():
    assert pace_of([0.1] * 50, least=60).limit == 60


def test_before_any_came_back_patience_is_long():
    assert pace_of([], unknown=3600).limit == 3600


def test_the_latest_tiles_count():
    assert pace_of([1000] * 500 + [20] * 1000).limit == 100
