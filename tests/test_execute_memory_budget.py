"""Tiles of one process share its memory: none starts without room, none is passed by, none waits for ever."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from mapper.execute.memory_budget import Budget, machine_memory, share_of


class Gauge:
    """Most that was held at once."""

    def __init__(self, budget):
        self.budget = budget
        self.lock = threading.Lock()
        self.held, self.most, self.together = 0, 0, 0
        self.users = 0

    def use(self, need):
        with self.budget.hold(need):
            with self.lock:
                self.held += need
                self.users += 1
                self.most, self.together = max(self.most, self.held), max(self.together, self.users)
            time.sleep(0.002)
            with self.lock:
                self.held -= need
                self.users -= 1


@pytest.mark.parametrize(("needs", "together"), [([30] * 40, 3), ([60] * 10, 1), ([10, 90, 40, 60, 30] * 8, 100)])
def test_never_more_is_held_than_there_is_and_everybody_gets_it(needs, together):
    gauge = Gauge(Budget(100))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(gauge.use, needs))
    assert gauge.most <= 100
    assert gauge.together <= together
    assert gauge.held == 0


def test_what_fits_overlaps():
    budget, meeting = Budget(100), threading.Barrier(3)

    def meet(_):
        with budget.hold(33):
            meeting.wait(timeout=30)  # breaks unless three are in it at once

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(meet, range(9)))


def test_more_than_everything_is_held_alone():
    gauge = Gauge(Budget(100))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(gauge.use, [250, 10, 250, 10, 10, 250]))
    assert gauge.most in (250, 250.0)


def wait_for_queue(budget, length):
    while len(budget._queue) < length:
        time.sleep(0.001)


def test_a_large_tile_is_not_passed_by_for_ever():
    budget, order = Budget(100), []

    def take(need):
        with budget.hold(need):
            order.append(need)

    with ThreadPoolExecutor(3) as pool:
        with budget.hold(50):
            large = pool.submit(take, 80)
            wait_for_queue(budget, 1)
            small = pool.submit(take, 20)  # would fit at once
            wait_for_queue(budget, 2)
            assert order == []
        large.result(timeout=30)
        small.result(timeout=30)
    assert order == [80, 20]


def test_who_is_interrupted_while_waiting_holds_nobody_up():
    budget = Budget(100)

    class Signal(BaseException):
        pass

    def interrupt(_check):
        raise Signal

    with budget.hold(80):
        waits, budget._changed.wait_for = budget._changed.wait_for, interrupt
        with pytest.raises(Signal), budget.hold(50):
            pass
        budget._changed.wait_for = waits
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: budget.hold(20).__enter__()).result(timeout=30)


def test_a_budget_that_grows_lets_in_who_waits():
    budget = Budget(10)
    with ThreadPoolExecutor(1) as pool, budget.hold(5):
        waiting = pool.submit(lambda: budget.hold(50).__enter__())
        wait_for_queue(budget, 1)
        budget.resize(60)
        waiting.result(timeout=30)
    assert budget.total == 60


def test_what_the_process_itself_takes_is_left_out():
    used = psutil.Process().memory_info().rss
    assert share_of(10 * used) == pytest.approx(8 * used, rel=0.05)
    assert share_of(used) == pytest.approx(0.1 * used, rel=0.05)
    assert 0 < machine_memory() <= psutil.virtual_memory().total
