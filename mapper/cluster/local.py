"""Workers on this machine: one process each, started by spawning, ended with the driver however it ends.

Whoever speaks to a scheduler can run code on its workers, and other users of a machine reach its loopback too. So the
processes of a cluster show each other a certificate that is made with the cluster and exists in their memory alone.
"""

import asyncio
import datetime as dt
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import dask
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from distributed import Client, LocalCluster, Nanny, Status
from distributed.security import Security

from mapper.errors import ClusterError
from mapper.execute.executors import SHORT_LOGS

_DEATH_SECONDS = 180
"""Seconds without a scheduler after which a worker ends itself."""
_LOOK_SECONDS = 0.05
_ROUTES = "distributed.scheduler.http.routes"
_PROXY = "distributed.http.proxy"
"""Route of a scheduler that leads on to other ports of the machine."""
_VALID = dt.timedelta(days=365)
_CLOCKS_DIFFER = dt.timedelta(days=1)


@contextmanager
def local_cluster(
    workers: int = 2, *, threads_per_worker: int = 2, memory_limit: str | int = "auto"
) -> Iterator[Client]:
    """Start worker processes and yield a connected client.

    Args:
        workers: Processes.
        threads_per_worker: Tiles at once in one process: one predicts while others read and write.
        memory_limit: Bytes for one worker, or as text (``4GiB``); beyond 95 % of it a worker is restarted.

    Raises:
        ValueError: If workers or threads are not positive.
        ClusterError: If there is no folder for temporary files.
    """
    if workers < 1 or threads_per_worker < 1:
        raise ValueError(f"workers and threads must be positive, got {workers} and {threads_per_worker}")
    # tiles are small results and big temporaries: spilling or pausing would only stall a worker that is working
    settings = {
        **SHORT_LOGS,
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.multiprocessing-method": "spawn",
        "distributed.comm.retry.count": 2,
        _ROUTES: [route for route in dask.config.get(_ROUTES) if route != _PROXY],
    }
    variables = _environment(workers)
    with (
        _restore_environment(variables),
        dask.config.set({**settings, "distributed.nanny.pre-spawn-environ": variables}),
        _make_folder() as directory,
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads_per_worker,
            memory_limit=memory_limit,
            processes=True,
            host="127.0.0.1",
            protocol="tls://",
            security=_make_security(),
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address=None,
            local_directory=directory,
            death_timeout=_DEATH_SECONDS,
            silence_logs=logging.ERROR,
        ) as cluster,
        _end_restarts(cluster),
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _make_folder() -> tempfile.TemporaryDirectory[str]:
    """Make the folder of the workers' files, which is removed when it is left."""
    try:
        return tempfile.TemporaryDirectory(prefix="mapper-workers-", ignore_cleanup_errors=True)
    except OSError as error:
        raise ClusterError(f"no folder for temporary files: {error}; name one that can be written in TMPDIR") from error


def _make_security() -> Security:
    """Make the certificate that all processes of one cluster show each other; it is on no disk.

    Dask's own has an RSA key, which takes longer to make than workers to start.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mapper-local")])
    now = dt.datetime.now(tz=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + _VALID)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    roles = {
        f"tls_{role}_{part}": text
        for role in ("client", "scheduler", "worker")
        for part, text in (("cert", public), ("key", private))
    }
    return Security(require_encryption=True, tls_ca_file=public, **roles)


@contextmanager
def _end_restarts(cluster: LocalCluster) -> Iterator[None]:
    """Prevent restarts of workers once the cluster is left: Dask fails to end a process that is just starting."""
    try:
        yield
    finally:
        cluster.sync(_await_restarts, cluster)


async def _await_restarts(cluster: LocalCluster) -> None:
    for nanny in list(cluster.workers.values()):
        while _is_starting(nanny):  # noqa: ASYNC110 - it has no event to wait for
            await asyncio.sleep(_LOOK_SECONDS)
        nanny.close_gracefully()


def _is_starting(nanny: Nanny) -> bool:
    return nanny.status == Status.running and (nanny.process is None or nanny.process.status == Status.starting)


@contextmanager
def _restore_environment(names: Iterable[str]) -> Iterator[None]:
    """Restore variables at the end: Dask sets those of its workers here too, where the next cluster would obey them."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _environment(workers: int) -> dict[str, str]:
    """Return variables to set before numerical libraries load: Dask's own would leave torch a single thread."""
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    configured = dict(dask.config.get("distributed.nanny.pre-spawn-environ", {}))
    return configured | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": "1"}
