"""Throttles: no more requests than allowed in any stretch of time, and none while a host asks for quiet."""

import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.access.files import Access
from mapper.access.rules import Limits
from mapper.access.throttle import Bucket, LocalThrottle, process_throttle


class Clock:
    """Time that passes only in sleep."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.now += seconds


def throttle_on(clock):
    return LocalThrottle(clock=clock, sleep=clock.sleep)


@given(
    rate=st.floats(0.1, 100),
    burst=st.integers(1, 20),
    steps=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 30)), min_size=1, max_size=30),
)
def test_no_stretch_of_time_sees_more_than_the_burst_and_the_rate(rate, burst, steps):
    limits, bucket = Limits(requests_per_second=rate, burst=burst), Bucket(tokens=float(burst), at=0.0)
    now, taken = 0.0, []
    for pause, count in steps:
        now += pause
        given_now, wait = bucket.take(limits, now, count)
        assert (given_now > 0) != (wait > 0)
        taken.append((now, given_now))
    for k, (first, _) in enumerate(taken):
        for j, (last, _) in enumerate(taken[k:], k):
            assert sum(n for _, n in taken[k : j + 1]) <= burst + rate * (last - first) + 1e-6


def test_a_request_waits_no_longer_than_it_must():
    clock = Clock()
    throttle, limits = throttle_on(clock), Limits(requests_per_second=4, burst=2)
    times = []
    for _ in range(6):
        throttle.take("a", limits)
        times.append(clock.now - 100)
    assert times == pytest.approx([0, 0, 0.25, 0.5, 0.75, 1.0])


def test_hosts_have_buckets_of_their_own_and_no_limit_is_no_wait():
    clock = Clock()
    throttle, limits = throttle_on(clock), Limits(requests_per_second=1, burst=1)
    for host in "abc":
        throttle.take(host, limits)
    for _ in range(1000):
        throttle.take("d", Limits())
    assert clock.now == 100


@pytest.mark.parametrize("limits", [Limits(), Limits(requests_per_second=100, burst=50)])
def test_nobody_asks_a_host_that_asked_for_quiet(limits):
    clock = Clock()
    throttle = throttle_on(clock)
    throttle.take("a", limits)
    throttle.pause("a", 20)
    throttle.pause("a", 5)
    throttle.take("b", limits)
    assert clock.now == 100
    throttle.take("a", limits)
    assert clock.now == pytest.approx(120)


def test_what_waited_for_the_end_of_a_pause_does_not_come_at_once():
    clock = Clock()
    throttle, limits = throttle_on(clock), Limits(requests_per_second=10, burst=50)
    throttle.pause("a", 30)
    for _ in range(11):
        throttle.take("a", limits)
    assert clock.now == pytest.approx(131)


def test_threads_share_a_limit():
    throttle, limits = LocalThrottle(), Limits(requests_per_second=100, burst=5)
    start = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: throttle.take("a", limits), range(45)))
    assert time.monotonic() - start >= 0.39


def test_a_pause_holds_threads_that_wait_already():
    throttle, limits = LocalThrottle(), Limits(requests_per_second=20, burst=1)
    throttle.take("a", limits)
    start = time.monotonic()
    waiting = threading.Thread(target=throttle.take, args=("a", limits))
    waiting.start()
    throttle.pause("a", 0.3)
    waiting.join()
    assert time.monotonic() - start >= 0.29


def test_a_process_has_one_throttle():
    assert process_throttle() is process_throttle()
    assert pickle.loads(pickle.dumps(Access())).throttle is process_throttle()  # noqa: S301 - made here
