"""From a word to an executor."""

import psutil
import pytest

from mapper.cluster.choice import memory_of_task, open_executor
from mapper.cluster.throttle import worker_throttle
from mapper.errors import SpecError
from mapper.run.executors import DaskExecutor, SerialExecutor, ThreadExecutor


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
