"""Counting from many threads, and not twice across processes."""

import pickle
from concurrent.futures import ThreadPoolExecutor

from mapper.access.tally import Tally
from mapper.events import ReadRetry


def test_nothing_is_lost_between_threads():
    tally = Tally()
    retry = ReadRetry(host="h", item="i", asset="a", reason="HTTP 503", attempt=1, wait_s=0.0)

    def work(number):
        tally.count(bytes_read=number)
        tally.note(retry)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(1000)))
    assert (tally.requests, tally.bytes_read, len(tally.retries)) == (1000, 499_500, 1000)


def test_a_copy_in_another_process_starts_at_zero():
    tally = Tally(requests=3, bytes_read=9)
    assert pickle.loads(pickle.dumps(tally)) == Tally()  # noqa: S301 - made here
