"""Kubernetes objects that serve a map to analysts: stateless replicas behind a Service and an Ingress.

The server reads the store alone and holds no state, so any replica can answer, any node will do, spot nodes included,
and replicas are changed or replaced one by one while the others answer.
"""

from mapper.cluster.kubernetes.pods import (
    Manifest,
    account_of,
    make_account,
    make_budget,
    make_container,
    make_egress,
    make_pod,
    make_resources,
    metadata_of,
    named_port,
    secret_variables,
    server_labels,
    tcp_port,
    to_env,
)
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
        make_account(settings, _ROLE, server_labels(settings)),
        _make_network_policy(settings, server),
        _make_deployment(settings, server),
        make_budget(settings, _ROLE, server_labels(settings), server_labels(settings)),
        _make_service(settings),
        _make_ingress(settings, server),
    ]


def _make_deployment(settings: ClusterSettings, server: ServerSettings) -> Manifest:
    template = {"metadata": {"labels": server_labels(settings)}, "spec": _make_pod(settings, server)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(settings),
        "spec": {
            "replicas": server.replicas,
            "selector": {"matchLabels": server_labels(settings)},
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
    container = make_container(settings, _ROLE, image=settings.image, args=args)
    health = {"httpGet": {"port": _HTTP, "path": "/health"}, "periodSeconds": 10, "timeoutSeconds": 5}
    container["env"] += to_env(_VARIABLES)
    container |= {
        "envFrom": secret_variables(settings),
        "ports": [named_port(_HTTP, _PORT)],
        "readinessProbe": health,
        "livenessProbe": health | {"initialDelaySeconds": 30, "failureThreshold": 6},
        "resources": make_resources(server.cpu, server.memory),
    }
    nodes: Manifest = {
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "topologySpreadConstraints": [_spread(settings)],
    }
    pod = make_pod(settings, container, account=account_of(settings, _ROLE), nodes=nodes)
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
        "labelSelector": {"matchLabels": server_labels(settings)},
    }


def _make_service(settings: ClusterSettings) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(settings),
        "spec": {
            "type": "ClusterIP",
            "selector": server_labels(settings),
            # a client reads a shard in several requests: one replica knows best which version it began with
            "sessionAffinity": "ClientIP",
            "ports": [{"name": _HTTP, "protocol": "TCP", "port": 80, "targetPort": _HTTP}],
        },
    }


def _make_ingress(settings: ClusterSettings, server: ServerSettings) -> Manifest:
    service = {"name": account_of(settings, _ROLE), "port": {"name": _HTTP}}
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
            "podSelector": {"matchLabels": server_labels(settings)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [controller], "ports": [tcp_port(_PORT)]}],
            "egress": make_egress(settings),
        },
    }


def _metadata(settings: ClusterSettings) -> Manifest:
    return metadata_of(settings, account_of(settings, _ROLE), server_labels(settings))
