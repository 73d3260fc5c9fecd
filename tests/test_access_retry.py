"""Only what passes by itself is tried again, later and later."""

import pytest

from mapper.access.retry import Attempts, RetryPolicy
from mapper.errors import CorruptAssetError, TransientAssetError


def fail(times, error):
    failures = iter([error] * times)

    def call():
        for failure in failures:
            raise failure
        return "read"

    return call


def test_transient_errors_are_tried_again_after_growing_pauses_with_jitter():
    pauses = []
    attempts = Attempts(RetryPolicy(attempts=6, initial_backoff_s=2, max_backoff_s=10), sleep=pauses.append)
    assert attempts.call(fail(5, TransientAssetError("429"))) == "read"
    assert attempts.count == 6
    for pause, nominal in zip(pauses, [2, 4, 8, 10, 10], strict=True):
        assert nominal / 2 <= pause <= nominal


def test_attempts_are_shared_by_all_calls_of_a_tile():
    attempts = Attempts(RetryPolicy(attempts=3), sleep=lambda _: None)
    attempts.call(fail(2, TransientAssetError("429")))
    with pytest.raises(TransientAssetError):
        attempts.call(fail(1, TransientAssetError("429")))


@pytest.mark.parametrize("error", [CorruptAssetError("truncated"), MemoryError(), ValueError()])
def test_other_errors_are_raised_at_once(error):
    attempts = Attempts(RetryPolicy(), sleep=lambda _: pytest.fail("waited"))
    with pytest.raises(type(error)):
        attempts.call(fail(1, error))
    assert attempts.count == 1
