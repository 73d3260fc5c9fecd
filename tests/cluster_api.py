"""The stand-in for the API of Kubernetes alone, without operator: pods are what a test says they are."""

import json
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dask_kubernetes
import yaml

CRDS = Path(dask_kubernetes.__file__).parent / "operator/deployment/helm/dask-kubernetes-operator/crds"
READY = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}],
}


@dataclass(frozen=True)
class StandIn:
    """A running server, spoken to as its administrator."""

    folder: Path
    process: subprocess.Popen
    namespace: str = "mapper"

    @property
    def kubeconfig(self):
        return self.folder / "kubeconfig"

    @property
    def launcher(self):
        """Of somebody for whom the role holds."""
        return self.folder / "launcher"

    @property
    def url(self):
        return yaml.safe_load(self.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]

    def ask(self, method, path, content=None):
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)  # noqa: S310 - loopback
        if method == "PATCH":
            request.add_header("Content-Type", "application/merge-patch+json")
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310 - loopback
            return json.load(response)

    def make(self, kind, name, labels=None, **content):
        metadata = {"name": name, "labels": labels or {}}
        return self.ask("POST", f"/api/v1/namespaces/{self.namespace}/{kind}", {"metadata": metadata, **content})

    def make_namespace(self, labels=None):
        self.ask("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace, "labels": labels or {}}})

    def define_dask(self):
        for file in sorted(CRDS.glob("*.yaml")):
            for definition in filter(None, yaml.safe_load_all(file.read_text())):
                self.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)

    def make_pods(self, cluster, count, labels=None, **status):
        """Pods as the operator would make them of a DaskCluster."""
        for number in range(count):
            worn = {"dask.org/cluster-name": cluster, **(labels or {})}
            self.make("pods", f"{cluster}-{number}", labels=worn, status=status or READY)

    def names(self, group, plural):
        listed = self.ask("GET", f"/{group}/namespaces/{self.namespace}/{plural}")["items"]
        return sorted(each["metadata"]["name"] for each in listed)


@contextmanager
def stand_in(folder, *, role=None):
    """Start the server; its kubeconfigs are in the folder."""
    script = Path(__file__).with_name("kubernetes_api.py")
    command = [sys.executable, script, folder, *(["--role", role] if role else [])]
    with (folder.parent / f"{folder.name}.log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            deadline = time.monotonic() + 30
            while not (folder / "kubeconfig").exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the stand-in did not start")
                time.sleep(0.05)
            yield StandIn(folder, process)
        finally:
            process.terminate()
