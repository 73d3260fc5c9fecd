"""Kubernetes objects that serve a map to analysts: stateless replicas behind a Service and an Ingress.

The server reads the store alone and holds no state, so any replica can answer, any node will do, spot nodes included,
and replicas are changed or replaced one by one while the others answer.
"""

from mapper.cluster.kubernetes import pods
from mapper.cluster.kubernetes.pods import Manifest
from mapper.cluster.settings import ClusterSettings, ServerSettings

_PORT = 8080
_HTTP = "http"
_ROLE = "server"
_TOKEN_FOLDER = "/etc/mapper/token"  # noqa: S105 - where it is, not what it is
_GRACE_SECONDS = 30
"""Seconds that the server has to end its answers, more than it takes."""
_VARIABLES = {
    # threads that read shards would otherwise each keep their own heap
    "MALLOC_ARENA_MAX": "2",
}


def make_server(settings: ClusterSettings, server: ServerSettings) -> list[Manifest]:
    """Return all objects of the server, in the order of their creation."""
    # it speaks no Dask: it needs none of the certificates of Dask processes
    settings = settings.model_copy(update={"secrets": settings.secrets.model_copy(update={"tls": None})})
    return [
        pods.make_account(settings, _ROLE, pods.server_labels(settings)),
        _make_network_policy(settings, server),
        _make_deployment(settings, server),
        pods.make_budget(settings, _ROLE, pods.server_labels(settings), pods.server_labels(settings)),
        _make_service(settings),
        _make_ingress(settings, server),
    ]


def _make_deployment(settings: ClusterSettings, server: ServerSettings) -> Manifest:
    template = {"metadata": {"labels": pods.server_labels(settings)}, "spec": _make_pod(settings, server)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(settings),
        "spec": {
            "replicas": server.replicas,
            "selector": {"matchLabels": pods.server_labels(settings)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": template,
        },
    }


def _make_pod(settings: ClusterSettings, server: ServerSettings) -> Manifest:
    scheme = "https" if server.certificate else "http"
    args = ["mapper", "serve", server.store, "--host", "0.0.0.0", "--port", str(_PORT)]  # noqa: S104 - of its own pod
    args += ["--public-url", f"{scheme}://{server.host}"]
    args += ["--token-file", f"{_TOKEN_FOLDER}/token"] if server.token else []
    args += [word for origin in server.cors for word in ("--cors", origin)]
    container = pods.make_container(settings, _ROLE, image=settings.image, args=args)
    health = {"httpGet": {"port": _HTTP, "path": "/health"}, "periodSeconds": 10, "timeoutSeconds": 5}
    container["env"] += pods.to_env(_VARIABLES)
    container |= {
        "ports": [pods.named_port(_HTTP, _PORT)],
        "readinessProbe": health,
        "livenessProbe": health | {"initialDelaySeconds": 30, "failureThreshold": 6},
        "resources": pods.make_resources(server.cpu, server.memory),
    }
    nodes: Manifest = {
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "topologySpreadConstraints": [_spread(settings)],
    }
    pod = pods.make_pod(settings, container, account=pods.account_of(settings, _ROLE), nodes=nodes)
    pods.mount_secrets(pod, {"read": settings.secrets.read})
    if server.token:
        container["volumeMounts"].append({"name": "token", "mountPath": _TOKEN_FOLDER, "readOnly": True})
        pod["volumes"].append({"name": "token", "secret": {"secretName": server.token, "defaultMode": 0o440}})
    return pod


def _spread(settings: ClusterSettings) -> Manifest:
    """Make the constraint that puts replicas on different nodes, where there are as many."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": pods.server_labels(settings)},
    }


def _make_service(settings: ClusterSettings) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(settings),
        "spec": {
            "type": "ClusterIP",
            "selector": pods.server_labels(settings),
            # a client reads a shard in several requests: one replica knows best which version it began with
            "sessionAffinity": "ClientIP",
            "ports": [{"name": _HTTP, "protocol": "TCP", "port": 80, "targetPort": _HTTP}],
        },
    }


def _make_ingress(settings: ClusterSettings, server: ServerSettings) -> Manifest:
    service = {"name": pods.account_of(settings, _ROLE), "port": {"name": _HTTP}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": {"service": service}}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": _metadata(settings),
        "spec": {
            **({"ingressClassName": server.ingress_class} if server.ingress_class else {}),
            **({"tls": [{"hosts": [server.host], "secretName": server.certificate}]} if server.certificate else {}),
            "rules": [{"host": server.host, "http": {"paths": paths}}],
        },
    }


def _make_network_policy(settings: ClusterSettings, server: ServerSettings) -> Manifest:
    """Make the policy of the server: the ingress controller reaches it, and it reaches the store."""
    controller = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": server.ingress_namespace}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(settings),
        "spec": {
            "podSelector": {"matchLabels": pods.server_labels(settings)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [controller], "ports": [pods.tcp_port(_PORT)]}],
            "egress": pods.make_egress(settings),
        },
    }


def _metadata(settings: ClusterSettings) -> Manifest:
    return pods.metadata_of(settings, pods.account_of(settings, _ROLE), pods.server_labels(settings))
