"""From a word to an executor."""

from contextlib import contextmanager

import psutil
import pytest
from distributed import LocalCluster

import mapper
from mapper.cluster.kubernetes.session import KubernetesOptions
from mapper.cluster.open_executor import memory_of_task, open_executor
from mapper.cluster.settings import parse_settings
from mapper.cluster.throttle import worker_throttle
from mapper.errors import SpecError
from mapper.execute.executors import DaskExecutor, SerialExecutor, ThreadExecutor


def test_words_name_executors():
    with open_executor("serial") as executor:
        assert executor == SerialExecutor()
    with open_executor("threads", 3) as executor:
        assert executor == ThreadExecutor(3)
    with open_executor("tcp://127.0.0.1:9") as executor:
        assert isinstance(executor, DaskExecutor)
        assert executor.cluster == "tcp://127.0.0.1:9"
        assert executor.throttle is worker_throttle


def test_an_unknown_word_is_refused():
    with pytest.raises(SpecError, match="unknown cluster 'cloud'"), open_executor("cloud"):
        pass


def test_tasks_of_this_machine_share_its_memory():
    total = psutil.virtual_memory().total
    assert memory_of_task("serial") == total
    assert memory_of_task("threads", 4) == total // 4
    assert memory_of_task("local", 2) == total // 4
    assert memory_of_task("tcp://10.0.0.1:8786") is None


POOLS = {"readers": {"memory": "16Gi", "threads": 4}, "gpu": {"memory": "24Gi", "threads": 3, "gpu": True}}
ON_KUBERNETES = KubernetesOptions(settings=parse_settings({"pools": POOLS}))


@pytest.mark.parametrize(
    ("name", "pool", "asked"),
    [("kubernetes", "gpu", {"GPU": 1}), ("kubernetes:gpu", "gpu", {"GPU": 1}), ("kubernetes:readers", "readers", {})],
)
def test_a_pool_on_kubernetes_is_held_for_its_executor(monkeypatch, name, pool, asked):
    held = []

    @contextmanager
    def hold(pool, options):
        held.append((pool, options))
        yield "tls://127.0.0.1:9"

    monkeypatch.setattr("mapper.cluster.open_executor.open_pool", hold)
    with open_executor(name, kubernetes=ON_KUBERNETES) as executor:
        assert (executor.cluster, executor.resources) == ("tls://127.0.0.1:9", asked)
        assert executor.throttle is worker_throttle
    assert held == [(pool, ON_KUBERNETES)]


def test_tasks_on_kubernetes_share_the_memory_of_their_worker():
    assert memory_of_task("kubernetes", kubernetes=ON_KUBERNETES) == 8 * 2**30
    assert memory_of_task("kubernetes:readers", kubernetes=ON_KUBERNETES) == 4 * 2**30
    with pytest.raises(SpecError, match="no pool writers, the pools are readers, gpu"):
        memory_of_task("kubernetes:writers", kubernetes=ON_KUBERNETES)


def test_a_block_of_code_has_a_local_cluster():
    with mapper.open_cluster(workers=1) as client:
        assert client.submit(abs, -1).result() == 1


def test_a_block_of_code_has_a_pool_on_kubernetes(monkeypatch, tmp_path, capsys):
    held = []

    @contextmanager
    def hold(pool, options):
        held.append((pool, options.settings.name, options.keep, options.wait))
        options.notify("coming up")
        with LocalCluster(n_workers=1, processes=False, protocol="tcp", dashboard_address=None) as cluster:
            yield cluster.scheduler_address

    monkeypatch.setattr("mapper.cluster.open_executor.open_pool", hold)
    (tmp_path / "cluster.yaml").write_text("name: alps")
    with mapper.open_cluster(tmp_path / "cluster.yaml", pool="readers", keep=True, wait=5) as client:
        assert client.submit(abs, -1).result() == 1
    assert held == [("readers", "alps", True, 5)]
    assert "coming up" in capsys.readouterr().out
