"""Kubernetes API, as far as a launch needs it: a few kinds of objects, by name or label, and errors that help.

kr8s finds the credentials and speaks to the server; it comes with ``mapper[kubernetes]`` and is loaded only here. Its
event loop runs in a thread of its own, where connections that are forwarded are served too.
"""

import asyncio
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from mapper.cluster.kubernetes.pods import Manifest
from mapper.errors import ClusterError

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal
    from httpx import Response

_PATHS = {
    "Namespace": ("v1", "namespaces"),
    "ServiceAccount": ("v1", "serviceaccounts"),
    "Secret": ("v1", "secrets"),
    "ConfigMap": ("v1", "configmaps"),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims"),
    "Pod": ("v1", "pods"),
    "Service": ("v1", "services"),
    "Deployment": ("apps/v1", "deployments"),
    "Job": ("batch/v1", "jobs"),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "DaskCluster": ("kubernetes.dask.org/v1", "daskclusters"),
}
"""Version and plural of every kind in use."""
_ANSWER_SECONDS = 30.0
_MISSING, _FORBIDDEN, _UNAUTHORIZED = 404, 403, 401
_MERGE = {"Content-Type": "application/merge-patch+json"}
# without it the pods of a deleted Job would stay
_WITH_DEPENDENTS = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}


class NoAnswerError(ClusterError):
    """Failure of the API of Kubernetes to answer; it may do so later."""


class ForbiddenError(ClusterError):
    """Refusal of a request by the API of Kubernetes, for lack of rights."""


class KubernetesApi:
    """Objects of one namespace; made by :func:`open_api`."""

    def __init__(self, portal: "BlockingPortal", api: Any, namespace: str) -> None:
        self._portal = portal
        self._api = api
        self.namespace = namespace

    def get(self, kind: str, name: str) -> Manifest | None:
        """Return an object; None if there is none of that name."""
        found: Manifest | None = self._call("get", "GET", kind, name)
        return found

    def list(self, kind: str, labels: Mapping[str, str]) -> "list[Manifest]":
        """Return all objects of a kind that bear certain labels."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self._call("list", "GET", kind, params={"labelSelector": selector})
        return list(found["items"]) if found else []

    def create(self, manifest: Manifest) -> None:
        """Create an object."""
        if self._call("create", "POST", manifest["kind"], content=manifest) is None:
            raise ClusterError(f"there is no namespace {self.namespace}, or Kubernetes knows no {manifest['kind']}")

    def patch(self, kind: str, name: str, changes: Manifest) -> None:
        """Merge changes into an object."""
        self._call("patch", "PATCH", kind, name, content=changes, headers=_MERGE)

    def delete(self, kind: str, name: str) -> None:
        """Delete an object and what belongs to it; no error if it is gone already."""
        self._call("delete", "DELETE", kind, name, content=_WITH_DEPENDENTS)

    def has_operator(self) -> bool:
        """Return True if Kubernetes knows the resources of the Dask operator."""
        request = {"method": "GET", "version": "", "base": "/apis", "url": _PATHS["DaskCluster"][0]}
        return self._send("get", "resources of kubernetes.dask.org", request) is not None

    @contextmanager
    def forward(self, service: str, port: int) -> Iterator[int]:
        """Forward a port of this machine to a ready pod of a service, through the API; yields the local port.

        A connection ends with its pod, or when the API server ends it; the next one finds the pod that is ready then.
        """
        from kr8s.asyncio.objects import Service  # noqa: PLC0415 - an extra

        found = self.get("Service", service)
        if found is None:
            raise ClusterError(f"there is no service {service} in namespace {self.namespace} to forward a port to")
        # a connection that finds no ready pod is closed; whoever made it tries again
        logging.getLogger("asyncio").addFilter(_is_no_lost_connection)
        forwarding = Service(found, api=self._api).portforward(port, local_port="auto")
        try:
            with self._portal.wrap_async_context_manager(forwarding) as here:
                yield int(here)
        finally:
            logging.getLogger("asyncio").removeFilter(_is_no_lost_connection)

    def _call(self, verb: str, method: str, kind: str, name: str = "", **request: Any) -> Any:
        version, plural = _PATHS[kind]
        namespace = None if kind == "Namespace" else self.namespace
        if "content" in request:
            request["content"] = json.dumps(request["content"])
        url = "/".join(filter(None, (plural, name)))
        what = f"{plural} {name!r}" if name else plural
        return self._send(verb, what, {"method": method, "version": version, "url": url, **request}, namespace)

    def _send(self, verb: str, what: str, request: Mapping[str, Any], namespace: str | None = None) -> Any:
        import httpx  # noqa: PLC0415 - comes with kr8s
        import kr8s  # noqa: PLC0415 - an extra

        async def send() -> Any:
            async with self._api.call_api(namespace=namespace, **request) as response:
                return response.json()

        try:
            return self._portal.call(send)
        except kr8s.ServerError as error:
            return self._explain(error.response, str(error), f"{verb} {what}")
        except (httpx.HTTPError, kr8s.APITimeoutError, OSError) as error:
            raise NoAnswerError(
                f"the API of Kubernetes does not answer at {self._api.auth.server}: {error}; is the cluster there, and "
                "does the current context of the kubeconfig name it?"
            ) from error

    def _explain(self, response: "Response | None", message: str, request: str) -> None:
        """Raise the error of a response in words; returns if the object is merely missing.

        Raises:
            ClusterError: For any other refusal.
        """
        code = response.status_code if response is not None else 0
        if code == _MISSING:
            return
        if code == _FORBIDDEN:
            raise ForbiddenError(
                f"Kubernetes does not let you {request} in namespace {self.namespace}: {message}; ask for a role such "
                "as deploy/kubernetes/launcher.yaml"
            )
        if code == _UNAUTHORIZED:
            raise ClusterError(f"Kubernetes does not know who you are: {message}; log in to the cluster again")
        if code >= 500:  # of the server, and perhaps passing
            raise NoAnswerError(f"Kubernetes could not {request}: {message}")
        raise ClusterError(f"Kubernetes refuses to {request}: {message}")


@contextmanager
def open_api(namespace: str) -> Iterator[KubernetesApi]:
    """Connect to the cluster that the current context of the kubeconfig names, or that this pod runs in.

    Raises:
        ClusterError: If kr8s is not installed, there are no credentials, or nobody answers.
    """
    try:
        from anyio.from_thread import start_blocking_portal  # noqa: PLC0415 - comes with kr8s
        from kr8s.asyncio import api as find_api  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ClusterError(f"{error}: `pip install mapper[kubernetes]` brings what speaks to Kubernetes") from error
    import httpx  # noqa: PLC0415 - comes with kr8s
    import kr8s  # noqa: PLC0415 - an extra

    with start_blocking_portal() as portal:
        try:
            # named, although it is the default: kr8s keeps what it has connected to by what it is given
            where = os.environ.get("KUBECONFIG")
            asked = partial(find_api, namespace=namespace, kubeconfig=where)
            api = portal.call(lambda: asyncio.wait_for(asked(), _ANSWER_SECONDS))
        except ValueError as error:
            raise ClusterError(
                f"no way to Kubernetes is known: {error}; write ~/.kube/config, or name a kubeconfig in KUBECONFIG"
            ) from error
        except (httpx.HTTPError, kr8s.APITimeoutError, kr8s.ServerError, TimeoutError, OSError) as error:
            raise NoAnswerError(
                f"the API of Kubernetes does not answer: {str(error) or type(error).__name__}; is the cluster there, "
                "and does the current context of the kubeconfig name it?"
            ) from error
        api.timeout = _ANSWER_SECONDS
        try:
            yield KubernetesApi(portal, api, namespace)
        finally:
            session = api._session  # noqa: SLF001 - kr8s has no way to close its connections
            if session is not None:
                portal.call(session.aclose)


def _is_no_lost_connection(record: logging.LogRecord) -> bool:
    return "client_connected_cb" not in record.getMessage()
