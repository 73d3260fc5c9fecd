"""Why pods are not ready, told from what Kubernetes says of them."""

import pytest

from mapper.cluster.kubernetes.readiness import Readiness, count_pods, explain_pod


def pod(*, conditions=(), containers=(), phase="Pending", deleted=False, **status):
    metadata = {"name": "pod", **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {})}
    return {
        "metadata": metadata,
        "status": {"phase": phase, "conditions": list(conditions), "containerStatuses": list(containers), **status},
    }


READY = pod(phase="Running", conditions=[{"type": "Ready", "status": "True"}])
NO_NODE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: no GPU"}


def waiting(reason, message="", ended=None):
    return {
        "state": {"waiting": {"reason": reason, "message": message}},
        "lastState": {"terminated": ended} if ended else {},
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (pod(conditions=[NO_NODE]), "Pending (Unschedulable: 0/3 nodes: no GPU)"),
        (
            pod(containers=[waiting("ImagePullBackOff", "no such\n  image")]),
            "waiting (ImagePullBackOff: no such image)",
        ),
        (
            pod(containers=[waiting("CrashLoopBackOff", "back-off", {"exitCode": 137, "reason": "OOMKilled"})]),
            "waiting (CrashLoopBackOff: exit code 137 (OOMKilled))",
        ),
        (pod(containers=[{"state": {"terminated": {"exitCode": 1}}}]), "ended (exit code 1)"),
        (pod(initContainerStatuses=[waiting("ErrImagePull")]), "waiting (ErrImagePull)"),
        (pod(phase="Running"), "running, not ready yet"),
        (pod(), "Pending"),
        (pod(phase="Failed", reason="Evicted", message="disk"), "Failed (Evicted: disk)"),
        (pod(deleted=True, conditions=[{"type": "Ready", "status": "True"}]), "ending"),
        (READY, None),
    ],
)
def test_a_pod_that_is_not_ready_has_a_reason(given, words):
    assert explain_pod(given) == words


def test_reasons_are_counted_and_the_most_frequent_comes_first():
    found = count_pods([READY, pod(), pod(conditions=[NO_NODE]), pod(conditions=[NO_NODE])], [], 6)
    assert str(found) == ("1 of 6 pods ready; 2 Pending (Unschedulable: 0/3 nodes: no GPU); 2 not made yet; 1 Pending")
    assert not found.is_complete


def test_what_keeps_pods_from_being_made_is_told():
    full = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: gpus"}
    found = count_pods([READY], [{"status": {"conditions": [full]}}, {"status": {}}], 3)
    assert found.reasons == (("not made (FailedCreate: exceeded quota: gpus)", 1), ("not made yet", 1))


def test_a_pool_is_complete_when_all_are_ready_and_none_is_ending():
    assert count_pods([READY, READY], [], 2) == Readiness(ready=2, expected=2)
    assert count_pods([READY, READY], [], 2).is_complete
    assert not count_pods([READY, READY, pod(deleted=True)], [], 2).is_complete
    assert not count_pods([READY, READY, READY], [], 2).is_complete
