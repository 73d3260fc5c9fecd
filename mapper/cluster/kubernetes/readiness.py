"""Readiness of the pods of a pool, and the reasons of Kubernetes why some are not ready."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from mapper.cluster.kubernetes.pods import Manifest

_LONGEST_MESSAGE = 160


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """Readiness of the pods of one pool."""

    ready: int
    expected: int
    reasons: tuple[tuple[str, int], ...] = ()
    """Reasons why pods are not ready, and the number of pods of each; the most frequent first."""

    @property
    def is_complete(self) -> bool:
        """Return True if all pods are ready, and none is there that should not be."""
        return self.ready == self.expected and not self.reasons

    def __str__(self) -> str:
        text = f"{self.ready} of {self.expected} pods ready"
        return text + "".join(f"; {count} {reason}" for reason, count in self.reasons)


def count_pods(pods: Iterable[Manifest], deployments: Iterable[Manifest], expected: int) -> Readiness:
    """Count the pods of a pool, and the reasons why some are not ready.

    Args:
        pods: All of one pool: its scheduler and its workers.
        deployments: That make them: they know why a pod could not even be made.
        expected: Pods that there should be.
    """
    listed = list(pods)
    waiting = [reason for reason in map(explain_pod, listed) if reason is not None]
    reasons = Counter(waiting)
    missing = expected - len(listed)
    if missing > 0:
        refused = Counter(reason for reason in map(_explain_deployment, deployments) if reason)
        reasons += refused
        unexplained = missing - refused.total()
        if unexplained > 0:
            reasons["not made yet"] += unexplained
    return Readiness(ready=len(listed) - len(waiting), expected=expected, reasons=tuple(reasons.most_common()))


def explain_pod(pod: Manifest) -> str | None:
    """Return the reason why a pod is not ready; None if it is."""
    status = pod.get("status", {})
    if pod["metadata"].get("deletionTimestamp"):
        return "ending"
    conditions = {each["type"]: each for each in status.get("conditions", [])}
    if conditions.get("Ready", {}).get("status") == "True":
        return None
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return _describe("Pending", scheduled.get("reason"), scheduled.get("message"))
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        if "waiting" in container.get("state", {}):
            waiting = container["state"]["waiting"]
            ended = container.get("lastState", {}).get("terminated")
            return _describe("waiting", waiting.get("reason"), _describe_end(ended) or waiting.get("message"))
        if "terminated" in container.get("state", {}):
            return _describe("ended", None, _describe_end(container["state"]["terminated"]))
    phase = status.get("phase", "Pending")
    return (
        "running, not ready yet"
        if phase == "Running"
        else _describe(phase, status.get("reason"), status.get("message"))
    )


def _describe_end(ended: Manifest | None) -> str:
    if not ended:
        return ""
    return _describe(f"exit code {ended.get('exitCode', '?')}", ended.get("reason"), ended.get("message"))


def _explain_deployment(deployment: Manifest) -> str | None:
    for condition in deployment.get("status", {}).get("conditions", []):
        if condition["type"] == "ReplicaFailure" and condition.get("status") == "True":
            return _describe("not made", condition.get("reason"), condition.get("message"))
    return None


def _describe(what: str, reason: str | None, message: str | None) -> str:
    detail = ": ".join(filter(None, (reason, " ".join((message or "").split())[:_LONGEST_MESSAGE])))
    return f"{what} ({detail})" if detail else what
