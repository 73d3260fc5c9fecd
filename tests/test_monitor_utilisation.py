"""The stage that holds a run back."""

import pytest

from mapper.monitor.utilisation import name_bottleneck

STAGES = {"read": 300.0, "predict": 90.0, "wait": 900.0, "write": 20.0}


@pytest.mark.parametrize(
    ("stages", "device", "commit", "expected"),
    [
        (STAGES, 0.3, 0.1, "read"),
        (STAGES, None, None, "read"),
        (STAGES, 0.85, 0.1, "predict"),
        (STAGES, 0.85, 0.9, "commit"),
        ({"read": 1.0, "predict": 2.0, "wait": 9.0}, 0.2, 0.0, "predict"),
        ({}, None, None, ""),
    ],
)
def test_the_bottleneck_is_what_is_full_else_what_is_most_work_and_never_waiting(stages, device, commit, expected):
    assert name_bottleneck(stages, device_share=device, commit_share=commit) == expected
