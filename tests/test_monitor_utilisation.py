"""Who was busy, and what holds a run back."""

import pytest

from mapper.monitor.utilisation import DeviceUse, name_bottleneck


def use_of(*tiles):
    use = DeviceUse()
    for worker, device, held, slots in tiles:
        use.add(
            worker=worker,
            device=device,
            seconds={"read": 4.0, "predict": held, "wait": 9.0},
            device_s=held,
            device_slots=slots,
        )
    return use


def test_each_worker_has_a_gpu_but_processes_of_one_host_share_its_cores():
    gpus = use_of(("a:1", "cuda", 3.0, 1), ("a:2", "cuda", 1.0, 1), ("a:1", "cuda", 2.0, 1))
    assert gpus.total_slots == 2
    assert gpus.share(6.0) == pytest.approx(6 / 12)
    cpus = use_of(("a:1", "cpu", 3.0, 8), ("a:2", "cpu", 1.0, 8), ("b:1", "cpu", 4.0, 4))
    assert cpus.total_slots == 12
    assert cpus.share(2.0) == pytest.approx(8 / 24)


def test_a_run_without_prediction_has_no_busy_share():
    assert use_of(("a:1", "", 0.0, 0)).share(5.0) is None


def test_workers_come_the_least_busy_first_and_waiting_is_no_work():
    use = use_of(("a:1", "cuda", 3.0, 1), ("a:2", "cuda", 1.0, 1), ("a:1", "cuda", 2.0, 1))
    assert [(w.worker, w.tiles, w.seconds, w.device_s) for w in use.workers()] == [
        ("a:2", 1, 5.0, 1.0),
        ("a:1", 2, 13.0, 5.0),
    ]


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
    assert name_bottleneck(stages, device_busy=device, commit_busy=commit) == expected
