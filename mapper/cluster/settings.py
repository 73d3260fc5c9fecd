"""Settings of a cluster on Kubernetes: one small section of YAML, with a default for everything.

Names of objects are ``<name>-<pool>``, so that several maps can be made in one namespace. Sizes are fixed: the Dask
operator scales down without looking which pool it takes a worker from.
"""

import ipaddress
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from mapper import __version__
from mapper.description import Part, describe_faults, read_yaml
from mapper.errors import SpecError

_LONGEST_CLUSTER_NAME = 53
"""Characters in a name that the Dask operator allows."""
_UNITS = {"Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def parse_memory(quantity: str) -> int:
    """Return the bytes of a Kubernetes quantity, for example ``16Gi``.

    Raises:
        ValueError: If it is no positive number of Mi, Gi or Ti.
    """
    found = re.fullmatch(r"(\d+)(Mi|Gi|Ti)", quantity)
    if not found or int(found[1]) == 0:
        raise ValueError("expected a whole number of Mi, Gi or Ti, such as 16Gi")
    return int(found[1]) * _UNITS[found[2]]


def parse_cpu(quantity: str) -> Decimal:
    """Return the cores of a Kubernetes quantity, for example ``4`` or ``500m``.

    Raises:
        ValueError: If it is no positive number of cores.
    """
    found = re.fullmatch(r"(\d+)(m?)", quantity)
    if not found or int(found[1]) == 0:
        raise ValueError("expected cores, such as 4, or thousandths, such as 500m")
    return Decimal(found[1]) / (1000 if found[2] else 1)


def _check_memory(quantity: str) -> str:
    parse_memory(quantity)
    return quantity


def _check_cpu(quantity: str) -> str:
    parse_cpu(quantity)
    return quantity


def _to_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Memory = Annotated[str, AfterValidator(_check_memory)]
Cpu = Annotated[str, BeforeValidator(_to_text), AfterValidator(_check_cpu)]
ObjectName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
"""Name of a Secret, ConfigMap or storage class."""
Label = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$")]
"""Lower-case letters, digits and hyphens, as in names of hosts."""
Image = Annotated[str, Field(min_length=1, pattern=r"^\S+$")]
HostName = Annotated[
    str, Field(max_length=253, pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$")
]


Command = Literal["run", "composite", "pyramid"]
Role = Literal["scheduler", "worker", "driver", "server"]
Port = Annotated[int, Field(ge=1, le=65535)]


def _check_network(text: str) -> str:
    ipaddress.ip_network(text)  # raises ValueError, which says what is wrong
    return text


class Toleration(Part):
    """Taint of nodes that pods of a pool bear with."""

    key: Annotated[str, Field(min_length=1)]
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    """Value of the taint, where the operator is ``Equal``."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """None: every effect."""

    @model_validator(mode="after")
    def _has_value(self) -> Self:
        if (self.operator == "Equal") != (self.value is not None):
            raise ValueError("a value belongs to operator: Equal, which needs it")
        return self


class EgressRule(Part):
    """Addresses outside the namespace that pods may reach on further ports."""

    cidr: Annotated[str, AfterValidator(_check_network)]
    """Range of addresses, for example ``10.1.0.0/16``."""
    ports: Annotated[tuple[Port, ...], Field(min_length=1)]
    """TCP ports."""


class PoolSettings(Part):
    """Pool of workers of one kind, under a scheduler of their own."""

    size: int = Field(default=4, ge=1)
    """Number of workers, one in each pod."""
    cpu: Cpu = "4"
    """Cores of a worker; its request and its limit."""
    memory: Memory = "16Gi"
    """Memory of a worker; its request and its limit."""
    threads: int = Field(default=3, ge=1)
    """Tiles that a worker has at once: they overlap in reading, predicting and writing, and each needs its memory."""
    gpu: bool = False
    """True for one GPU in each worker."""
    spot: bool = False
    """True for spot nodes only, which may be taken away at any time; False for none of them."""
    image: Image | None = None
    """Image of the workers; None: the cluster's, with ``-cuda`` behind its tag for GPUs."""
    node_selector: Mapping[str, str] = Field(default_factory=dict)
    """Labels of the nodes to run on, for example ``cloud.google.com/gke-accelerator: nvidia-l4``."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints of nodes to bear with, beside those of spot nodes and GPUs."""
    runtime_class: ObjectName | None = None
    """Runtime class of the workers, for example ``nvidia``; None: the cluster's default."""
    grace_seconds: int = Field(default=20, ge=1)
    """Seconds between the signal to stop and the kill: less than the notice of spot nodes (25 s at best for some)."""
    lifetime_hours: float | None = Field(default=None, gt=0)
    """Hours after which a worker stops and starts anew, within a tenth of it at random; None: it stays."""


class SchedulerSettings(Part):
    """Scheduler of each pool: never on spot nodes."""

    cpu: Cpu = "1"
    memory: Memory = "2Gi"


class DriverSettings(Part):
    """Driver that plans, submits tiles and commits them: a Job, never on spot nodes."""

    command: Command = "run"
    """Command of mapper: ``run`` makes the map, ``composite`` its guide, for a run to read; ``pyramid`` its levels."""
    guide: Annotated[str, Field(min_length=1)] | None = None
    """Store that ``composite`` writes and ``run`` reads; None: beside the map's, and ``run`` reads the archives."""
    pool: str | None = None
    """Name of the pool in use; None: for ``run`` the first with GPUs, for the others without, else the first."""
    map: ObjectName = "mapper-map"
    """Name of the ConfigMap that holds ``map.yaml`` and the files it names."""
    cpu: Cpu = "2"
    memory: Memory = "8Gi"
    storage: Memory = "10Gi"
    """Size of the volume for the frozen items and the plan, which outlives an attempt."""
    storage_class: ObjectName | None = None
    """Storage class of the volume; None: the cluster's default."""
    attempts: int = Field(default=10, ge=1)
    """Failures of the driver that are tolerated, evictions not counted; one more ends the Job."""
    options: tuple[str, ...] = ()
    """Options for ``mapper run``, for example ``--failure-budget`` and ``100``."""
    composite_options: tuple[str, ...] = ()
    """Options for ``mapper composite``."""
    pyramid_options: tuple[str, ...] = ()
    """Options for ``mapper pyramid``."""


class SecretNames(Part):
    """Names of secrets that the operator of the cluster makes; their contents never enter a manifest.

    Pods see them as files, one a key, which processes of mapper take as environment variables of their own: see
    :mod:`mapper.cluster.secret_files`.
    """

    store: ObjectName | None = "mapper-store"
    """Secret with the keys of the target store for workers and driver, which write; None: they have no need of it."""
    read: ObjectName | None = "mapper-store-read"
    """Secret with keys that may only read the store, for the server; None: it has no need of it."""
    archive: ObjectName | None = None
    """Secret with the keys of the archives."""
    tls: ObjectName | None = "mapper-tls"
    """Secret with ``ca.crt``, ``tls.crt`` and ``tls.key`` for traffic between Dask processes; None: unencrypted."""
    pull: ObjectName | None = None
    """Secret of the registry that the images come from."""


class Neighbours(Part):
    """Namespaces whose pods may ask a scheduler or worker for its state."""

    operator: Label = "dask-operator"
    """Namespace of the Dask operator."""
    monitoring: Label = "monitoring"
    """Namespace of Prometheus."""


class ServerSettings(Part):
    """Server of a finished or growing map for analysts."""

    store: Annotated[str, Field(min_length=1)]
    """Location of the map, for example ``s3://bucket/prefix``."""
    host: HostName
    """Name of the host under which the Ingress answers."""
    replicas: int = Field(default=2, ge=1)
    cpu: Cpu = "1"
    memory: Memory = "1Gi"
    token: ObjectName | None = None
    """Secret whose key ``token`` every client must send; None: public."""
    cors: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Origins whose pages may read, or ``*``."""
    certificate: ObjectName | None = "mapper-server-tls"
    """Secret with the certificate of the host; None: no TLS at the Ingress."""
    ingress_class: ObjectName | None = None
    """Class of the Ingress; None: the cluster's default."""
    ingress_namespace: Label = "ingress-nginx"
    """Namespace of the ingress controller, which alone reaches the server."""


def _default_pools() -> dict[str, PoolSettings]:
    return {
        "readers": PoolSettings(size=8, spot=True),
        "gpu": PoolSettings(size=2, memory="24Gi", gpu=True, spot=True),
    }


class ClusterSettings(Part):
    """Settings of a cluster on Kubernetes: pools of workers, and the driver that uses one of them."""

    name: Label = "mapper"
    """First part of the names of all objects."""
    namespace: Label = "mapper"
    image: Image = f"mapper:{__version__}"
    pools: Mapping[Label, PoolSettings] = Field(default_factory=_default_pools, min_length=1)
    scheduler: SchedulerSettings = SchedulerSettings()
    driver: DriverSettings = DriverSettings()
    server: ServerSettings | None = None
    """Server of the map; None: the map is not served from here."""
    secrets: SecretNames = SecretNames()
    neighbours: Neighbours = Neighbours()
    egress_ports: tuple[Port, ...] = (443,)
    """TCP ports of archives and stores; pods reach nothing else outside the namespace but DNS."""
    egress: tuple[EgressRule, ...] = ()
    """Further ports of certain addresses that pods reach."""
    accounts: Mapping[Role, Mapping[str, str]] = Field(default_factory=dict)
    """Annotations of the ServiceAccount of a role, for example ``eks.amazonaws.com/role-arn``."""
    catalog: ObjectName | None = None
    """PersistentVolumeClaim with a static catalogue, which driver and workers see beside ``map.yaml`` as ``catalog/``,
    read-only; None: items come from an archive."""

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        for pool in self.pools:
            if len(self.cluster_name(pool)) > _LONGEST_CLUSTER_NAME:
                raise ValueError(f"{self.cluster_name(pool)} is longer than {_LONGEST_CLUSTER_NAME} characters")
        if self.driver.pool is not None and self.driver.pool not in self.pools:
            raise ValueError(f"driver.pool is {self.driver.pool}, the pools are {', '.join(self.pools)}")
        unnamed = [name for name, pool in self.pools.items() if pool.gpu and pool.image is None]
        if "@" in self.image and unnamed:
            raise ValueError(f"an image by digest has no other for GPUs: give pools.{unnamed[0]}.image too")
        return self

    def cluster_name(self, pool: str) -> str:
        """Return the name of the DaskCluster of a pool."""
        return f"{self.name}-{pool}"

    def image_of(self, pool: PoolSettings) -> str:
        """Return the image of the workers of a pool."""
        return pool.image or (f"{self.image}-cuda" if pool.gpu else self.image)

    @property
    def driver_pool(self) -> str:
        """Return the name of the pool whose workers the driver uses."""
        wants_gpu = self.driver.command == "run"
        fitting = (name for name, pool in self.pools.items() if pool.gpu is wants_gpu)
        return self.driver.pool or next(fitting, next(iter(self.pools)))

    @property
    def driver_job(self) -> str:
        """Return the name of the driver's Job: one for each command."""
        return f"{self.name}-{'driver' if self.driver.command == 'run' else self.driver.command}"

    def task_memory(self, pool: str) -> int:
        """Return the bytes that a tile may use on a worker of a pool."""
        return parse_memory(self.pools[pool].memory) // self.pools[pool].threads

    def scheduler_address(self, pool: str) -> str:
        """Return the address of the scheduler of a pool inside Kubernetes, for workers and driver."""
        protocol = "tls" if self.secrets.tls else "tcp"
        return f"{protocol}://{self.cluster_name(pool)}-scheduler.{self.namespace}:8786"


def parse_settings(content: Mapping[str, Any]) -> ClusterSettings:
    """Validate the settings of a cluster.

    Raises:
        SpecError: With one clause for each fault: where, what was got, what is wrong.
    """
    try:
        return ClusterSettings.model_validate(content)
    except ValidationError as error:
        raise SpecError(f"cluster settings: {describe_faults(error, 'cluster')}") from error


def read_settings(path: Path | str) -> ClusterSettings:
    """Read the settings of a cluster from a YAML file.

    Raises:
        SpecError: If it cannot be read, or is wrong.
    """
    content = read_yaml(path, what="cluster settings")
    if not isinstance(content, dict):
        raise SpecError(f"cluster settings {path} are a YAML mapping, got {type(content).__name__}")
    return parse_settings(content)


def find_settings(path: Path | None, beside: Path) -> ClusterSettings:
    """Return the settings in a file; by default in ``cluster.yaml`` beside another file, else those built in.

    Args:
        path: The file; None looks for it.
        beside: For example a MAP.yaml.

    Raises:
        SpecError: If they cannot be read, or are wrong.
    """
    default = beside.parent / "cluster.yaml"
    if path is None and not default.exists():
        return ClusterSettings()
    return read_settings(path or default)
