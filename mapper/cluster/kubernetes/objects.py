"""Kubernetes objects of a cluster: a DaskCluster for each pool, the driver's Job, and network policies; as YAML too.

The Dask operator makes one Deployment for each worker, so a worker that is lost comes back under its name. The driver
is a Job of its own: were it a DaskJob, the operator would delete the cluster when its pod fails. No pod talks to the
API of Kubernetes, so none has any rights there.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from mapper.cluster.kubernetes import pods
from mapper.cluster.kubernetes.pods import Manifest
from mapper.cluster.kubernetes.server import make_server
from mapper.cluster.secret_files import PRELOAD
from mapper.cluster.settings import ClusterSettings, DriverSettings, PoolSettings, parse_cpu, parse_memory

_HEADER = "# Rendered by `mapper cluster render`.\n"
_ROUTES = (
    "distributed.http.scheduler.prometheus",
    "distributed.http.scheduler.info",
    "distributed.http.scheduler.json",
    "distributed.http.health",
    "distributed.http.statics",
    "distributed.http.scheduler.api",
)
"""Routes of a scheduler: Dask's own but the proxy, which leads on to other hosts, and that by which the operator
reaches one that accepts only encryption."""
_SCHEDULER_VARIABLES = {
    "DASK_DISTRIBUTED__SCHEDULER__HTTP__ROUTES": json.dumps(_ROUTES, separators=(",", ":")),
    # every task that a lost worker was given counts, so on spot nodes the default of 3 is soon reached
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "10",
    # by default tasks wait for ever for a pool whose nodes never come
    "DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT": "30 minutes",
}
_WORKER_VARIABLES = {
    "DASK_DISTRIBUTED__WORKER__PRELOAD": json.dumps([PRELOAD]),
    # results are small records: there is nothing to spill, and no disk to spill it to
    "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL": "False",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}
_SHORT_LOGS = {"DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "10"}
"""Settings of :data:`mapper.execute.executors.SHORT_LOGS`, as environment variables."""
_MAP_FOLDER = "/etc/mapper/map"
_DRIVER_GRACE_SECONDS = 60
"""Seconds that the driver has for the last commit."""
_WRONG_REQUEST = 2
"""Exit code of mapper for what no further attempt can mend."""


def render_objects(settings: ClusterSettings) -> dict[str, list[Manifest]]:
    """Return all objects in the order of their creation, by the name of the file they belong in."""
    pools = {f"pool-{name}": _make_pool(settings, name, pool) for name, pool in settings.pools.items()}
    return {
        "namespace": [_make_namespace(settings)],
        "accounts": [pods.make_account(settings, role) for role in ("scheduler", "worker", "driver")],
        "network": [_make_network_policy(settings)],
        **pools,
        "driver": [
            _make_volume_claim(settings),
            _make_driver(settings),
            pods.make_budget(settings, "driver", _driver(settings)),
        ],
        **({"server": make_server(settings, settings.server)} if settings.server else {}),
    }


def _make_namespace(settings: ClusterSettings) -> Manifest:
    labels = {**pods.PART_OF, "pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": settings.namespace, "labels": labels}}


def _make_network_policy(settings: ClusterSettings) -> Manifest:
    """Make the policy of the cluster's pods: Dask among each other, a few ports outside, their state to neighbours."""
    ours = [{"podSelector": {"matchLabels": pods.cluster_labels(settings)}}]
    names = dict.fromkeys((settings.neighbours.operator, settings.neighbours.monitoring))
    neighbours = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}} for name in names]
    dask = [pods.tcp_port(pods.COMM_PORT), pods.tcp_port(pods.WORKER_PORT)]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": pods.metadata_of(settings, settings.name),
        "spec": {
            "podSelector": {"matchLabels": pods.cluster_labels(settings)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": ours, "ports": dask}, {"from": neighbours, "ports": [pods.tcp_port(pods.HTTP_PORT)]}],
            "egress": [
                {"to": ours, "ports": dask},
                *pods.make_egress(settings),
            ],
        },
    }


def _make_pool(settings: ClusterSettings, name: str, pool: PoolSettings) -> list[Manifest]:
    cluster = settings.cluster_name(name)
    selected = {"dask.org/cluster-name": cluster, "dask.org/component": "scheduler"}
    dask_cluster = {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        # the operator hands these labels and annotations on to the pods
        "metadata": {**pods.metadata_of(settings, cluster), "annotations": dict(pods.SCRAPED)},
        "spec": {
            "scheduler": {"spec": _make_scheduler(settings), "service": _make_service(selected)},
            "worker": {"replicas": pool.size, "spec": _make_worker(settings, name, pool)},
        },
    }
    return [dask_cluster, pods.make_budget(settings, f"{name}-scheduler", selected)]


def _make_scheduler(settings: ClusterSettings) -> Manifest:
    protocol = "tls" if settings.secrets.tls else "tcp"
    address = ["--protocol", protocol, "--host", f"{protocol}://0.0.0.0", "--port", str(pods.COMM_PORT)]
    args = ["dask", "scheduler", *address, "--dashboard-address", f"0.0.0.0:{pods.HTTP_PORT}"]
    container = pods.make_container(settings, "scheduler", image=settings.image, args=args)
    container["env"] += pods.to_env({**_SHORT_LOGS, **_SCHEDULER_VARIABLES})
    health = {"httpGet": {"port": "http-dashboard", "path": "/health"}, "periodSeconds": 10}
    container |= {
        "ports": [pods.named_port("tcp-comm", pods.COMM_PORT), pods.named_port("http-dashboard", pods.HTTP_PORT)],
        "readinessProbe": health,
        # slow to lose patience: a scheduler that starts anew has forgotten everything
        "livenessProbe": health | {"initialDelaySeconds": 60, "timeoutSeconds": 10, "failureThreshold": 12},
        "resources": pods.make_resources(settings.scheduler.cpu, settings.scheduler.memory),
    }
    return pods.make_pod(
        settings, container, account=pods.account_of(settings, "scheduler"), nodes={"affinity": pods.off_spot()}
    )


def _make_service(selected: dict[str, str]) -> Manifest:
    ports = [("tcp-comm", pods.COMM_PORT), ("http-dashboard", pods.HTTP_PORT)]
    return {
        "type": "ClusterIP",
        "selector": dict(selected),
        "ports": [{"name": name, "protocol": "TCP", "port": port, "targetPort": name} for name, port in ports],
    }


def _make_worker(settings: ClusterSettings, name: str, pool: PoolSettings) -> Manifest:
    """Make the pod of one worker process, without nanny: Kubernetes restarts it, and sees how it ended."""
    args = ["dask", "worker", "--name", "$(DASK_WORKER_NAME)", "--nthreads", str(pool.threads)]
    args += ["--resources", f"GPU={pool.threads}"] if pool.gpu else []
    args += ["--memory-limit", str(parse_memory(pool.memory)), "--worker-port", str(pods.WORKER_PORT)]
    args += ["--dashboard-address", f"0.0.0.0:{pods.HTTP_PORT}", "--no-nanny"]
    if pool.lifetime_hours is not None:
        seconds = round(pool.lifetime_hours * 3600)
        args += ["--lifetime", f"{seconds}s", "--lifetime-stagger", f"{max(1, seconds // 10)}s"]
    container = pods.make_container(settings, "worker", image=settings.image_of(pool), args=args)
    cores = {"OMP_NUM_THREADS": str(max(1, int(parse_cpu(pool.cpu))))}  # libraries count the cores of the node
    address = {"DASK_SCHEDULER_ADDRESS": settings.scheduler_address(name)}
    container["env"] += pods.to_env({**address, **_SHORT_LOGS, **_WORKER_VARIABLES, **cores})
    container |= {
        "ports": [pods.named_port("tcp-worker", pods.WORKER_PORT), pods.named_port("http-dashboard", pods.HTTP_PORT)],
        "readinessProbe": {"httpGet": {"port": "http-dashboard", "path": "/health"}, "periodSeconds": 30},
        "resources": pods.make_resources(pool.cpu, pool.memory, gpu=pool.gpu),
    }
    pod = pods.make_pod(settings, container, account=pods.account_of(settings, "worker"), nodes=pods.choose_nodes(pool))
    pods.mount_secrets(pod, _secrets_of(settings))
    pods.mount_catalog(settings, pod)
    return pod


def _make_volume_claim(settings: ClusterSettings) -> Manifest:
    driver = settings.driver
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": pods.metadata_of(settings, f"{settings.name}-driver"),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            **({"storageClassName": driver.storage_class} if driver.storage_class else {}),
            "resources": {"requests": {"storage": driver.storage}},
        },
    }


def _make_driver(settings: ClusterSettings) -> Manifest:
    """Make the driver's Job, whose every attempt resumes where the ledger of the store ends.

    Never two at once: a pod is replaced only when it is gone. An eviction costs no attempt, a wrong request ends all.
    """
    rules = [
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": "driver", "operator": "In", "values": [_WRONG_REQUEST]},
        },
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": pods.metadata_of(settings, settings.driver_job),
        "spec": {
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": settings.driver.attempts,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": rules},
            "template": {
                "metadata": {"labels": _driver(settings), "annotations": dict(pods.SCRAPED)},
                "spec": _make_driver_pod(settings),
            },
        },
    }


def _make_driver_pod(settings: ClusterSettings) -> Manifest:
    driver = settings.driver
    command = ["mapper", driver.command, f"{pods.FOLDER}/map.yaml", "--cluster", "$(DASK_SCHEDULER_ADDRESS)"]
    args = [*command, "--log", f"{pods.FOLDER}/events.jsonl"]
    metrics = ["--metrics-port", str(pods.HTTP_PORT), "--metrics-host", "0.0.0.0"]  # noqa: S104 - of its own pod
    args += metrics if driver.command == "run" else []
    args += _driver_options(driver)
    container = pods.make_container(settings, "driver", image=settings.image, args=args)
    folder = {"name": "folder", "mountPath": pods.FOLDER}
    address = {"DASK_SCHEDULER_ADDRESS": settings.scheduler_address(settings.driver_pool)}
    container["env"] = pods.to_env(address) + container["env"]
    container["volumeMounts"].append(folder)
    container |= {
        "ports": [pods.named_port("http-metrics", pods.HTTP_PORT)],
        "resources": pods.make_resources(driver.cpu, driver.memory),
    }
    nodes = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _DRIVER_GRACE_SECONDS,
        "affinity": pods.off_spot(),
        "initContainers": [_make_map_copy(settings, folder)],
    }
    pod = pods.make_pod(settings, container, account=pods.account_of(settings, "driver"), nodes=nodes)
    pods.mount_secrets(pod, _secrets_of(settings))
    pod["volumes"] += [
        {"name": "folder", "persistentVolumeClaim": {"claimName": f"{settings.name}-driver"}},
        {"name": "map", "configMap": {"name": driver.map}},
    ]
    pods.mount_catalog(settings, pod)
    return pod


def _driver_options(driver: DriverSettings) -> list[str]:
    """Return the options of the command of a driver, with the store of the guide where that is given."""
    options = {"run": driver.options, "composite": driver.composite_options, "pyramid": driver.pyramid_options}
    word = {"run": "--guide", "composite": "--out"}.get(driver.command)
    return [*([word, driver.guide] if word and driver.guide else []), *options[driver.command]]


def _secrets_of(settings: ClusterSettings) -> dict[str, str | None]:
    """Return the names of the secrets of workers and driver, by what they are for."""
    return {"store": settings.secrets.store, "archive": settings.secrets.archive}


def _make_map_copy(settings: ClusterSettings, folder: Manifest) -> Manifest:
    """Make the container that copies the map description to the volume of its items and plan."""
    args = ["sh", "-c", f"cp --dereference {_MAP_FOLDER}/* {pods.FOLDER}/"]
    bare = settings.model_copy(update={"secrets": settings.secrets.model_copy(update={"tls": None})})
    copy = pods.make_container(bare, "map", image=settings.image, args=args)
    copy["volumeMounts"] += [folder, {"name": "map", "mountPath": _MAP_FOLDER, "readOnly": True}]
    return {**copy, "resources": pods.make_resources("100m", "64Mi")}


def _driver(settings: ClusterSettings) -> dict[str, str]:
    return {**pods.cluster_labels(settings), "app.kubernetes.io/component": "driver"}


class _Dumper(yaml.SafeDumper):
    """YAML writer without anchors, which help nobody who reads a manifest: repeated parts are written again."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def render_files(settings: ClusterSettings) -> dict[str, str]:
    """Return the contents of the files of a kustomize base, by name; the same settings give the same bytes."""
    files = {f"{name}.yaml": _to_text(objects) for name, objects in render_objects(settings).items()}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(files),
    }
    return {**files, "kustomization.yaml": _to_text([kustomization])}


def render_stream(settings: ClusterSettings) -> str:
    """Return all objects as one stream of YAML documents."""
    return _to_text(each for objects in render_objects(settings).values() for each in objects)


def write_files(files: Mapping[str, str], folder: Path) -> list[Path]:
    """Write rendered files into a folder, which is made if need be; other files in it stay. Returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in files]
    for path in paths:
        path.write_text(files[path.name], encoding="utf-8")
    return paths


def _to_text(objects: Iterable[Manifest]) -> str:
    return _HEADER + yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=120)
