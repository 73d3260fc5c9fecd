"""A cluster for as long as a block of code needs it, from a notebook or a script."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

from mapper.cluster.kubernetes.session import KUBERNETES, UP_SECONDS, KubernetesOptions, find_pool, open_pool
from mapper.cluster.local import local_cluster
from mapper.cluster.settings import ClusterSettings, read_settings


@contextmanager
def open_cluster(
    where: str | Path | ClusterSettings = "local",
    *,
    pool: str | None = None,
    workers: int = 2,
    keep: bool = False,
    wait: float = UP_SECONDS,
) -> Iterator[Client]:
    """Open a Dask cluster, and close it again; progress is printed.

    A pool on Kubernetes that is up already is used and left up. For example::

        import mapper

        with mapper.open_cluster("cluster.yaml", pool="readers") as client:
            print(client.dashboard_link)
            mapper.run("map.yaml", cluster=client)
            agb = mapper.open_map("s3://maps/agb", chunks={"y": 2048, "x": 2048})["agb"]
            agb.mean().compute(scheduler=client)  # by the workers, chunk by chunk

    The client is not Dask's default: pass it on.

    Args:
        where: ``local`` for processes of this machine, or the settings of a cluster on Kubernetes: a file, or as read.
        pool: On Kubernetes; None: the one that makes maps.
        workers: Local processes.
        keep: Leave up on Kubernetes what was brought up.
        wait: Seconds until all pods are ready.

    Raises:
        SpecError: If settings are wrong, or there is no such pool.
        ClusterError: If the cluster does not come up.
    """
    if where == "local":
        with local_cluster(workers) as client:
            yield client
        return
    settings = where if isinstance(where, ClusterSettings) else read_settings(where)
    options = KubernetesOptions(settings=settings, keep=keep, wait=wait, notify=print)
    with (
        open_pool(find_pool(f"{KUBERNETES}:{pool or ''}", settings), options) as address,
        Client(address, set_as_default=False) as client,
    ):
        yield client
