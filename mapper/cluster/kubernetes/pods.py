"""Parts that pods of every kind share: rights, nodes, secrets, environment and probes.

Pods run as an ordinary user on a read-only file system, hold no token for the Kubernetes API and may gain no
privileges: they pass the Pod Security Standard "restricted".
"""

from collections.abc import Mapping
from typing import Any

from mapper.cluster.secret_files import FOLDERS
from mapper.cluster.settings import ClusterSettings, PoolSettings

Manifest = dict[str, Any]


COMM_PORT, HTTP_PORT, WORKER_PORT = 8786, 8787, 8788


PART_OF = {"app.kubernetes.io/part-of": "mapper"}
"""Label of everything; network policies select by it."""


SCRAPED = {
    "prometheus.io/scrape": "true",
    "prometheus.io/port": str(HTTP_PORT),
    "prometheus.io/path": "/metrics",
}


USER = 10001
"""User id of the image, see deploy/docker."""


GPU = "nvidia.com/gpu"


_SCRATCH = {"HOME": "/tmp", "DASK_TEMPORARY_DIRECTORY": "/tmp"}  # noqa: S108 - an emptyDir of the pod


FOLDER = "/var/lib/mapper"
"""Folder of the map in the driver."""


_TLS_FOLDER = "/etc/mapper/tls"
_SECRETS = "/etc/mapper/secrets"


_SPOT_LABELS = {
    "cloud.google.com/gke-spot": "true",
    "eks.amazonaws.com/capacityType": "SPOT",
    "karpenter.sh/capacity-type": "spot",
    "kubernetes.azure.com/scalesetpriority": "spot",
}
"""Labels of spot nodes at each provider."""


_SPOT_TAINTS = ("cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority")


def make_pod(settings: ClusterSettings, container: Manifest, *, account: str, nodes: Manifest) -> Manifest:
    """Make a pod of one container.

    Args:
        settings: Of the cluster.
        container: From :func:`make_container`; its volumes are added here.
        account: ServiceAccount that it runs as.
        nodes: Where it may run, and when it ends.
    """
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {}}]
    if settings.secrets.tls:
        volumes.append({"name": "tls", "secret": {"secretName": settings.secrets.tls, "defaultMode": 0o440}})
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **nodes,
        "volumes": volumes,
        "containers": [container],
    }


def make_container(settings: ClusterSettings, name: str, *, image: str, args: list[str]) -> Manifest:
    """Make a container that can write to ``/tmp`` alone, with the certificates of Dask processes."""
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": _SCRATCH["HOME"]}]
    if settings.secrets.tls:
        mounts.append({"name": "tls", "mountPath": _TLS_FOLDER, "readOnly": True})
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": args,
        "env": to_env({**_SCRATCH, **_tls_variables(settings)}),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def to_env(variables: dict[str, str]) -> list[Manifest]:
    """Return environment variables, as a container names them."""
    return [{"name": name, "value": value} for name, value in variables.items()]


def mount_secrets(pod: Manifest, names: Mapping[str, str | None]) -> None:
    """Mount secrets as files of a pod's container, which mapper takes as environment variables of its own process.

    Args:
        pod: From :func:`make_pod`.
        names: Names of the secrets, by what they are for; one of several uses is mounted once.
    """
    (container,) = pod["containers"]
    uses: dict[str, str] = {}
    for use, name in names.items():
        if name:
            uses.setdefault(name, use)
    for name, use in uses.items():
        volume = f"secret-{use}"
        pod["volumes"].append({"name": volume, "secret": {"secretName": name, "defaultMode": 0o440}})
        container["volumeMounts"].append({"name": volume, "mountPath": f"{_SECRETS}/{use}", "readOnly": True})
    if uses:
        folders = ":".join(f"{_SECRETS}/{use}" for use in uses.values())
        container["env"] += to_env({FOLDERS: folders})


def mount_catalog(settings: ClusterSettings, pod: Manifest) -> None:
    """Mount the static catalogue, where there is one, beside ``map.yaml``: at one path in driver and workers."""
    if settings.catalog is None:
        return
    (container,) = pod["containers"]
    claim = {"claimName": settings.catalog, "readOnly": True}
    pod["volumes"].append({"name": "catalog", "persistentVolumeClaim": claim})
    container["volumeMounts"].append({"name": "catalog", "mountPath": f"{FOLDER}/catalog", "readOnly": True})


def make_resources(cpu: str, memory: str, *, gpu: bool = False) -> Manifest:
    """Make the resources that a container asks for, which are its limits too: of memory and of cores."""
    asked = {"cpu": cpu, "memory": memory}
    return {"requests": dict(asked), "limits": asked | ({GPU: "1"} if gpu else {})}


def off_spot() -> Manifest:
    """Make an affinity to the nodes of any provider that are not spot nodes, those without a label included."""
    rules = [{"key": key, "operator": "NotIn", "values": [value]} for key, value in _SPOT_LABELS.items()]
    return _require([{"matchExpressions": rules}])


def choose_nodes(pool: PoolSettings) -> Manifest:
    """Make the part of a pod that chooses a worker's nodes, and its seconds to end."""
    tolerations = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}] if pool.gpu else []
    if pool.spot:
        tolerations += [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in _SPOT_TAINTS]
    tolerations += [each.model_dump(exclude_none=True) for each in pool.tolerations]
    on_spot = [
        {"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]} for key, value in _SPOT_LABELS.items()
    ]
    return {
        "terminationGracePeriodSeconds": pool.grace_seconds,
        **({"runtimeClassName": pool.runtime_class} if pool.runtime_class else {}),
        **({"nodeSelector": dict(pool.node_selector)} if pool.node_selector else {}),
        "affinity": _require(on_spot) if pool.spot else off_spot(),
        **({"tolerations": tolerations} if tolerations else {}),
    }


def _require(terms: list[Manifest]) -> Manifest:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def _tls_variables(settings: ClusterSettings) -> dict[str, str]:
    """Return Dask's configuration of TLS: one certificate for all, and nothing unencrypted."""
    if not settings.secrets.tls:
        return {}
    prefix = "DASK_DISTRIBUTED__COMM__"
    variables = {
        f"{prefix}REQUIRE_ENCRYPTION": "True",
        f"{prefix}TLS__CA_FILE": f"{_TLS_FOLDER}/ca.crt",
    }
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        variables[f"{prefix}TLS__{role}__CERT"] = f"{_TLS_FOLDER}/tls.crt"
        variables[f"{prefix}TLS__{role}__KEY"] = f"{_TLS_FOLDER}/tls.key"
    return variables


def cluster_labels(settings: ClusterSettings) -> dict[str, str]:
    """Return the labels that every object of a cluster bears, and every pod, and nothing else."""
    return {**PART_OF, "app.kubernetes.io/instance": settings.name}


def server_labels(settings: ClusterSettings) -> dict[str, str]:
    """Return the labels that every object of the server bears: it stays when the cluster is taken down."""
    return {**PART_OF, "app.kubernetes.io/instance": f"{settings.name}-server"}


def metadata_of(settings: ClusterSettings, name: str, labels: dict[str, str] | None = None) -> Manifest:
    """Return name, namespace and labels of an object; by default the cluster's labels."""
    return {"name": name, "namespace": settings.namespace, "labels": labels or cluster_labels(settings)}


def account_of(settings: ClusterSettings, role: str) -> str:
    """Return the name of the ServiceAccount of a role."""
    return f"{settings.name}-{role}"


def make_account(settings: ClusterSettings, role: str, labels: dict[str, str] | None = None) -> Manifest:
    """Make a ServiceAccount without any right in Kubernetes; its annotations may name an identity of the cloud."""
    pull = settings.secrets.pull
    annotations = next((dict(given) for each, given in settings.accounts.items() if each == role), {})
    metadata = metadata_of(settings, account_of(settings, role), labels)
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata | ({"annotations": annotations} if annotations else {}),
        "automountServiceAccountToken": False,
        **({"imagePullSecrets": [{"name": pull}]} if pull else {}),
    }


def make_budget(
    settings: ClusterSettings, name: str, selected: dict[str, str], labels: dict[str, str] | None = None
) -> Manifest:
    """Make the budget that saves a pod that everything depends on from eviction; a lost node takes it all the same."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata_of(settings, f"{settings.name}-{name}", labels),
        "spec": {"minAvailable": 1, "selector": {"matchLabels": dict(selected)}},
    }


def tcp_port(port: int) -> Manifest:
    """Return a port as network policies name it."""
    return {"protocol": "TCP", "port": port}


def named_port(name: str, port: int) -> Manifest:
    """Return a port as containers name it."""
    return {"name": name, "containerPort": port, "protocol": "TCP"}


def make_egress(settings: ClusterSettings) -> list[Manifest]:
    """Make the rules of traffic outside the namespace: DNS, archives and stores."""
    return [
        {"ports": [{"protocol": "UDP", "port": 53}, tcp_port(53)]},
        {"ports": [tcp_port(port) for port in settings.egress_ports]},
        *(
            {"to": [{"ipBlock": {"cidr": rule.cidr}}], "ports": [tcp_port(port) for port in rule.ports]}
            for rule in settings.egress
        ),
    ]
