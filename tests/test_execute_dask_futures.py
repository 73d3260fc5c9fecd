"""What a cluster loses, or does not answer, is given out again; nothing comes back twice, and nothing is made up."""

import os
import signal
import time
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
from dask_processes import dask_processes
from distributed import Client

from mapper.cluster.local import local_cluster
from mapper.errors import ClusterError, WeightsError
from mapper.execute.dask_futures import StragglerPolicy, TileTimes
from mapper.execute.executors import CLUSTER_RETRY, DaskExecutor, SerialExecutor, ThreadExecutor
from mapper.execute.outcome import Prepared

QUICK = replace(CLUSTER_RETRY, read_timeout_s=2.0)
HASTY = StragglerPolicy(least_s=2.0, factor=3.0, unknown_s=4.0, copies=2)


@pytest.fixture(scope="module")
def client():
    with local_cluster(2, threads_per_worker=2, memory_limit=0) as client:
        yield client


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with dask_processes(tmp_path_factory.mktemp("cluster")) as cluster, Client(cluster.address, timeout=60) as client:
        client.wait_for_workers(2, timeout=60)
        yield cluster


def sign_in(folder):
    with (folder / str(os.getpid())).open("a") as file:
        file.write("prepared\n")


def double(folder, value):
    """Twice the value and the process; fails in a process that nobody prepared."""
    assert (folder / str(os.getpid())).read_text() == "prepared\n"
    time.sleep(0.05)
    return 2 * value, os.getpid()


def prepared(folder):
    return Prepared(partial(double, folder), partial(sign_in, folder))


def check_doubles(outcomes, values):
    """Every value exactly once, doubled."""
    assert [outcome.error for outcome in outcomes] == [None] * len(outcomes)
    assert sorted((outcome.input, outcome.result[0]) for outcome in outcomes) == [(v, 2 * v) for v in values]


@pytest.mark.parametrize("name", ["serial", "threads", "dask"])
def test_a_function_is_prepared_once_in_each_process(name, tmp_path, request):
    executor = {"serial": SerialExecutor, "threads": partial(ThreadExecutor, 3)}.get(
        name, lambda: DaskExecutor(cluster=request.getfixturevalue("client"))
    )()
    outcomes = list(executor.run(prepared(tmp_path), range(20)))
    check_doubles(outcomes, range(20))
    assert {str(outcome.result[1]) for outcome in outcomes} == {path.name for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == (2 if name == "dask" else 1)


def refuse():
    raise WeightsError("the weights were tampered with")


@pytest.mark.parametrize("name", ["serial", "threads", "dask"])
def test_a_bad_model_shows_before_the_first_input_is_given_out(name, request):
    executor = {"serial": SerialExecutor, "threads": ThreadExecutor}.get(
        name, lambda: DaskExecutor(cluster=request.getfixturevalue("client"))
    )()
    pulled = []
    inputs = (pulled.append(value) for value in range(5))
    with pytest.raises(WeightsError, match="tampered"):
        next(executor.run(Prepared(str, refuse), inputs))
    assert pulled == []


def lack():
    raise RuntimeError("no such device")


def test_a_worker_that_cannot_be_made_ready_is_said_so(client):
    with pytest.raises(ClusterError, match="no such device"):
        next(DaskExecutor(cluster=client).run(Prepared(str, lack), [1]))


def test_two_functions_on_one_cluster_do_not_mix(client, tmp_path):
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    runs = [DaskExecutor(cluster=client).run(partial(tell, folder), range(8), window=3) for folder in folders]
    for one, other in zip(*runs, strict=True):
        assert (one.result, other.result) == tuple(map(str, folders))


def tell(folder, _value):
    return str(folder)


def test_a_worker_that_comes_late_is_prepared_before_its_first_input(tmp_path):
    with local_cluster(1, threads_per_worker=1, memory_limit=0) as client:
        outcomes = DaskExecutor(cluster=client).run(prepared(tmp_path), range(60), window=6)
        found = [next(outcomes)]
        client.cluster.scale(2)
        client.wait_for_workers(2, timeout=60)
        found += outcomes
    check_doubles(found, range(60))
    assert len({outcome.result[1] for outcome in found}) == 2


def test_an_input_that_finds_no_workshop_is_lost_and_not_failed(client):
    outcomes = DaskExecutor(cluster=client, retry=replace(CLUSTER_RETRY, attempts=2)).run(
        partial(rest, 0.1), range(24), window=8
    )
    found = [next(outcomes)]
    plugins = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.worker_plugins))
    (name,) = (plugin for plugin in plugins if plugin.startswith("mapper-"))
    client.unregister_worker_plugin(name)
    found += outcomes
    assert sorted(outcome.result for outcome in found) == list(range(24))
    assert max(outcome.attempts for outcome in found) == 2


def rest(seconds, value):
    time.sleep(seconds)
    return value


def test_cancelled_futures_are_not_taken_for_results(client):
    outcomes = DaskExecutor(cluster=client).run(partial(rest, 0.1), range(16), window=8)
    found = [next(outcomes)]
    for state in list(client.futures.values()):  # as the client does when its scheduler is gone
        state.cancel()
    found += outcomes
    assert sorted(outcome.result for outcome in found) == list(range(16))
    assert Counter(outcome.attempts for outcome in found)[2] > 0


def test_a_worker_that_is_told_to_end_loses_nothing(cluster, tmp_path):
    values = range(60)
    outcomes = DaskExecutor(cluster=cluster.address, retry=replace(CLUSTER_RETRY, connect_timeout_s=60)).run(
        prepared(tmp_path), values, window=8
    )
    found = [next(outcomes) for _ in range(8)]
    worker = cluster.worker(0)
    worker.send_signal(signal.SIGTERM)
    found += outcomes
    check_doubles(found, values)
    worker.wait(timeout=30)


def test_a_scheduler_that_comes_back_empty_is_told_everything_again(cluster, tmp_path):
    values = range(60)
    outcomes = DaskExecutor(cluster=cluster.address, retry=replace(CLUSTER_RETRY, connect_timeout_s=60)).run(
        prepared(tmp_path), values, window=8
    )
    found = [next(outcomes) for _ in range(8)]
    before = {outcome.result[1] for outcome in found}
    cluster.scheduler().kill()
    found += outcomes
    check_doubles(found, values)
    assert {outcome.result[1] for outcome in found} - before, "workers that came back did the rest"
    assert max(outcome.attempts for outcome in found) > 1


def stop_once(folder, value):
    """Stop this worker at one of the values, the first time."""
    if value == 3 and not (folder / "stopped").exists():
        (folder / "stopped").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(0.05)
    return value


def test_what_a_worker_that_hangs_does_not_answer_is_given_to_another_and_comes_back_once(client, tmp_path):
    outcomes = list(
        DaskExecutor(cluster=client, retry=QUICK, stragglers=HASTY).run(partial(stop_once, tmp_path), range(20))
    )
    os.kill(int((tmp_path / "stopped").read_text()), signal.SIGCONT)
    assert sorted(outcome.result for outcome in outcomes) == list(range(20))
    assert {outcome.input: outcome.attempts for outcome in outcomes}[3] == 2


def poison(value):
    if value == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return value


def test_an_input_that_kills_its_workers_fails_alone(client):
    allowed = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.allowed_failures)
    client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
    outcomes = list(DaskExecutor(cluster=client, retry=replace(CLUSTER_RETRY, attempts=2)).run(poison, range(40)))
    client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", allowed))
    failed = [outcome for outcome in outcomes if outcome.error]
    assert sorted(outcome.input for outcome in outcomes) == list(range(40))
    assert [(outcome.input, outcome.attempts, type(outcome.error).__name__) for outcome in failed] == [
        (5, 2, "KilledWorker")
    ]


def hang(value):
    time.sleep(3600 if value == 3 else 0.02)
    return value


def test_an_input_that_hangs_wherever_it_goes_fails_and_does_not_hold_up_the_end(client):
    # the last on this cluster: what hangs goes on hanging
    outcomes = list(DaskExecutor(cluster=client, retry=QUICK, stragglers=HASTY).run(hang, range(20)))
    errors = {outcome.input: outcome.error for outcome in outcomes if outcome.error}
    assert sorted(outcome.input for outcome in outcomes) == list(range(20))
    assert set(errors) == {3}
    assert isinstance(errors[3], ClusterError)
    assert "no answer in" in str(errors[3])


def times_of(seconds, **policy):
    times = TileTimes(policy=StragglerPolicy(**policy))
    for value in seconds:
        times.add(value)
    return times


def test_a_tile_is_late_that_is_out_many_times_longer_than_nearly_all_others():
    assert times_of(range(100), factor=5, share=0.95).limit_s == 5 * 95


def test_a_few_slow_tiles_do_not_make_slow_ones_usual():
    assert times_of([20] * 97 + [9000] * 3).limit_s == 100


def test_nothing_is_late_too_soon():
    assert times_of([0.1] * 50, least_s=60).limit_s == 60


def test_before_any_came_back_the_wait_is_long():
    assert times_of([], unknown_s=3600).limit_s == 3600


def test_the_latest_tiles_count():
    assert times_of([1000] * 500 + [20] * 1000).limit_s == 100
