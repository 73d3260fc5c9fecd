"""Launch of pools on Kubernetes and their removal: objects that exist stay, missing ones are created.

Everything that is made bears the labels of the cluster's name, and nothing without them is changed or deleted.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from mapper.cluster.kubernetes.api import ForbiddenError, KubernetesApi, NoAnswerError
from mapper.cluster.kubernetes.objects import render_objects
from mapper.cluster.kubernetes.pods import PART_OF, Manifest, cluster_labels
from mapper.cluster.kubernetes.readiness import Readiness, count_pods
from mapper.cluster.settings import ClusterSettings
from mapper.errors import ClusterError

Notify = Callable[[str], None]

_SAFE = {"ServiceAccount", "NetworkPolicy", "PodDisruptionBudget"}
"""Kinds that may be changed while pods run."""
_VOLUME = "PersistentVolumeClaim"
_PODS_FIRST = ("Job", "DaskCluster")
_PROTECTION = ("PodDisruptionBudget", "NetworkPolicy", "ServiceAccount")
"""Kinds that protect pods: the first is made for each pool, the others for all of them."""
_OWNER_LABELS = ("dask.org/cluster-name", "job-name")
_POLL_SECONDS = 1.0
_DIFFERENCES_SHOWN = 4
_HOW_TO_MAKE = "deploy/README.md says how to make it"


class Launch:
    """One cluster on Kubernetes, and the objects that were created here."""

    def __init__(self, api: KubernetesApi, settings: ClusterSettings, notify: Notify) -> None:
        self._api = api
        self._settings = settings
        self._notify = notify
        self.made: list[Manifest] = []
        """Objects that were missing and are created, in order."""

    def bring_up(self, pools: Collection[str], *, driver: bool = False) -> None:
        """Create what is missing, and apply changed settings where pods need not be replaced for it.

        Args:
            pools: Names of pools.
            driver: Start the driver's Job too.

        Raises:
            ClusterError: If the operator, a secret or the map is missing, an object belongs to somebody else, or
                Kubernetes refuses.
        """
        if not self._api.has_operator():
            raise ClusterError(
                "Kubernetes knows no DaskCluster: the Dask operator is not installed; deploy/README.md says how"
            )
        objects = render_objects(self._settings)
        self._make_namespace(objects["namespace"][0])
        self._check_inputs(driver=driver)
        groups = ["accounts", "network", *(f"pool-{pool}" for pool in pools), *(["driver"] if driver else [])]
        for manifest in (each for group in groups for each in objects[group]):
            self._apply(manifest)

    def wait(self, pools: Collection[str], seconds: float) -> None:
        """Wait until scheduler and workers of all pools are ready; reports what holds them up whenever that changes.

        Raises:
            ClusterError: If they are not after so long, with what holds them up.
        """
        reported: dict[str, str] = {}
        deadline = time.monotonic() + seconds
        while [pool for pool in pools if not self._report(pool, reported)]:  # each of them reports
            if time.monotonic() > deadline:
                rest = "\n".join(f"  pool {pool}: {text}" for pool, text in reported.items())
                raise ClusterError(
                    f"not all pods are ready after {seconds:g} s:\n{rest}\nPods that are not made at all want for the "
                    "Dask operator: it does not run, or watches other namespaces"
                )
            time.sleep(_POLL_SECONDS)

    def take_down(self, objects: Collection[Manifest], seconds: float) -> None:
        """Delete objects, pods first, and wait until no pod is left.

        Accounts and network policy stay as long as another pool of the same cluster is up.

        Raises:
            ClusterError: If pods are still there after so long.
        """
        for kind in _PODS_FIRST:
            self._delete(each for each in objects if each["kind"] == kind)
        self._wait_for_end(seconds)
        in_use = self._api.list("DaskCluster", cluster_labels(self._settings))
        for kind in _PROTECTION if not in_use else _PROTECTION[:1]:
            self._delete(each for each in objects if each["kind"] == kind)
        self._delete(each for each in objects if each["kind"] == _VOLUME)

    def find_objects(self, pools: Collection[str] = (), *, volume: bool = False) -> list[Manifest]:
        """Return the objects of this cluster: all of it, whatever its settings are now, or those of some pools.

        Args:
            pools: Only their DaskClusters and budgets; empty: everything.
            volume: The driver's volume too.
        """
        kinds = [*_PODS_FIRST, *_PROTECTION, *([_VOLUME] if volume else [])]
        labels = cluster_labels(self._settings)
        # objects in a list have no kind
        found = [{**each, "kind": kind} for kind in kinds for each in self._api.list(kind, labels)]
        if not pools:
            return found
        rendered = render_objects(self._settings)
        wanted = {_name(each) for pool in pools for each in rendered[f"pool-{pool}"]}
        return [each for each in found if _name(each) in wanted]

    def delete_namespace(self) -> None:
        """Delete the namespace, if it was made here.

        Raises:
            ClusterError: If it bears not the labels of one.
        """
        name = self._settings.namespace
        found = self._api.get("Namespace", name)
        if found is None:
            return
        if not PART_OF.items() <= found["metadata"].get("labels", {}).items():
            raise ClusterError(f"namespace {name} was not made by mapper: it stays")
        self._api.delete("Namespace", name)
        self._notify(f"deleted namespace {name}")

    def _make_namespace(self, manifest: Manifest) -> None:
        try:
            found = self._api.get("Namespace", self._settings.namespace)
        except ForbiddenError:
            self._notify(f"may not read namespace {self._settings.namespace}: taken as there")
            return
        if found is None:
            self._create(manifest)

    def _check_inputs(self, *, driver: bool) -> None:
        secrets = self._settings.secrets
        needed = {name: f"secrets.{key}" for key, name in secrets if name is not None and key != "read"}  # a server's
        for name, key in needed.items():
            self._check("Secret", name, f"which `{key}` names; {_HOW_TO_MAKE}, `{key}: null` does without")
        if driver:
            self._check("ConfigMap", self._settings.driver.map, f"with map.yaml for the driver; {_HOW_TO_MAKE}")

    def _check(self, kind: str, name: str, rest: str) -> None:
        try:
            found = self._api.get(kind, name)
        except ForbiddenError:
            self._notify(f"may not read {kind} {name}: taken as there")
            return
        if found is None:
            raise ClusterError(f"there is no {kind} {name} in namespace {self._settings.namespace}, {rest}")

    def _apply(self, manifest: Manifest) -> None:
        kind, name = _name(manifest)
        found = self._api.get(kind, name)
        if found is None:
            self._create(manifest)
            return
        labels = found["metadata"].get("labels", {})
        if not cluster_labels(self._settings).items() <= labels.items():
            raise ClusterError(
                f"{kind} {name} in namespace {self._settings.namespace} is not of this cluster: give the cluster "
                "another `name` or `namespace`"
            )
        self._change(manifest, found)

    def _create(self, manifest: Manifest) -> None:
        self.made.append(manifest)  # before: an interrupt may come between
        self._api.create(manifest)
        self._notify("made {} {}".format(*_name(manifest)))

    def _change(self, wanted: Manifest, found: Manifest) -> None:
        kind, name = _name(wanted)
        ours = {key: value for key, value in wanted.items() if key != "metadata"}
        differences = list(find_differences(ours, found))
        if kind in _SAFE and differences:
            self._api.patch(kind, name, ours)
            self._notify(f"changed {kind} {name}: {_list(differences)}")
        elif kind == "DaskCluster":
            self._change_cluster(wanted, found, differences)
        elif differences:
            self._notify(f"{kind} {name} is there with other settings and stays as it is: {_list(differences)}")

    def _change_cluster(self, wanted: Manifest, found: Manifest, differences: list[str]) -> None:
        """Apply changes of a DaskCluster, if its size is all that differs: its workers are all of one pool."""
        name = wanted["metadata"]["name"]
        if "spec.worker.replicas" in differences:
            size, was = (each["spec"]["worker"]["replicas"] for each in (wanted, found))
            self._api.patch("DaskCluster", name, {"spec": {"worker": {"replicas": size}}})
            self._notify(f"changed DaskCluster {name}: {was} workers to {size}")
        others = [path for path in differences if path != "spec.worker.replicas"]
        if others:
            self._notify(
                f"DaskCluster {name} runs with other settings than these: {_list(others)}; they hold after `mapper "
                "cluster down` and `up`"
            )

    def _report(self, pool: str, reported: dict[str, str]) -> bool:
        try:
            readiness = self._count_pods(pool)
        except NoAnswerError as error:
            text, complete = str(error), False
        else:
            text, complete = str(readiness), readiness.is_complete
        if reported.get(pool) != text:
            self._notify(f"pool {pool}: {text}")
            reported[pool] = text
        return complete

    def _count_pods(self, pool: str) -> Readiness:
        labels = {"dask.org/cluster-name": self._settings.cluster_name(pool)}
        pods = self._api.list("Pod", labels)
        expected = 1 + self._settings.pools[pool].size
        return count_pods(pods, [] if len(pods) >= expected else self._api.list("Deployment", labels), expected)

    def _delete(self, objects: Iterator[Manifest]) -> None:
        for each in objects:
            kind, name = _name(each)
            self._api.delete(kind, name)
            self._notify(f"deleted {kind} {name}")

    def _wait_for_end(self, seconds: float) -> None:
        deadline, reported = time.monotonic() + seconds, -1
        while left := self._find_ending():
            if len(left) != reported:
                reported = len(left)
                self._notify(f"{reported} pods are ending")
            if time.monotonic() > deadline:
                raise ClusterError(f"pods are still there after {seconds:g} s: {_list(left)}")
            time.sleep(_POLL_SECONDS)

    def _find_ending(self) -> list[str]:
        """Return the pods of this cluster whose DaskCluster or Job is deleted, perhaps by an earlier call."""
        labels = cluster_labels(self._settings)
        owners = [each["metadata"] for kind in _PODS_FIRST for each in self._api.list(kind, labels)]
        staying = {owner["name"] for owner in owners if not owner.get("deletionTimestamp")}
        pods = [pod["metadata"] for pod in self._api.list("Pod", labels)]
        return [pod["name"] for pod in pods if not staying & {pod["labels"].get(key) for key in _OWNER_LABELS}]


def find_differences(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    """Yield the paths at which an object differs from what is wanted; what it has beyond that are server defaults."""
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key, value in wanted.items():
            yield from find_differences(value, found.get(key), f"{path}.{key}" if path else key)
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for number, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from find_differences(one, other, f"{path}.{number}")
    elif wanted != found and not (wanted in ({}, []) and found is None):
        yield path


def _name(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def _list(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:_DIFFERENCES_SHOWN])
    return f"{shown} and {len(names) - _DIFFERENCES_SHOWN} more" if len(names) > _DIFFERENCES_SHOWN else shown
