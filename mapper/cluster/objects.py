"""Parts that objects of every kind share: names, labels, accounts, budgets against eviction, ports."""

from mapper.cluster.pods import PART_OF, Manifest
from mapper.cluster.settings import ClusterSettings


def cluster_labels(settings: ClusterSettings) -> dict[str, str]:
    """What every object of a cluster bears, and every pod, and nothing else."""
    return {**PART_OF, "app.kubernetes.io/instance": settings.name}


def server_labels(settings: ClusterSettings) -> dict[str, str]:
    """What every object of the server bears: it stays when the cluster is taken down."""
    return {**PART_OF, "app.kubernetes.io/instance": f"{settings.name}-server"}


def metadata_of(settings: ClusterSettings, name: str, labels: dict[str, str] | None = None) -> Manifest:
    """Name, namespace and labels of an object; by default the cluster's."""
    return {"name": name, "namespace": settings.namespace, "labels": labels or cluster_labels(settings)}


def account_of(settings: ClusterSettings, role: str) -> str:
    """Name of the ServiceAccount of a role."""
    return f"{settings.name}-{role}"


def make_account(settings: ClusterSettings, role: str, labels: dict[str, str] | None = None) -> Manifest:
    """A ServiceAccount without any right."""
    pull = settings.secrets.pull
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata_of(settings, account_of(settings, role), labels),
        "automountServiceAccountToken": False,
        **({"imagePullSecrets": [{"name": pull}]} if pull else {}),
    }


def make_guard(
    settings: ClusterSettings, name: str, selected: dict[str, str], labels: dict[str, str] | None = None
) -> Manifest:
    """Keeps the one pod that everything hangs on from being evicted; a lost node takes it all the same."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata_of(settings, f"{settings.name}-{name}", labels),
        "spec": {"minAvailable": 1, "selector": {"matchLabels": dict(selected)}},
    }


def tcp_port(port: int) -> Manifest:
    """A port as network policies name it."""
    return {"protocol": "TCP", "port": port}


def named_port(name: str, port: int) -> Manifest:
    """A port as containers name it."""
    return {"name": name, "containerPort": port, "protocol": "TCP"}


def make_egress(settings: ClusterSettings) -> list[Manifest]:
    """What pods may reach outside the namespace: names, archives and stores."""
    return [
        {"ports": [{"protocol": "UDP", "port": 53}, tcp_port(53)]},
        {"ports": [tcp_port(port) for port in settings.egress_ports]},
    ]
