"""Connection from this machine to a scheduler on Kubernetes: its address, and certificates for it.

Inside the cluster a scheduler is found by its name. From elsewhere a port is forwarded through the API of Kubernetes:
all traffic of driver and scheduler then passes the API server, and breaks with it. Dask checks that the
other side has a certificate of the same authority, and never under which name it was called: so TLS holds through a
forwarded port as well, from end to end.
"""

import base64
import binascii
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import dask

from mapper.cluster.kubernetes.api import KubernetesApi
from mapper.cluster.kubernetes.pods import COMM_PORT
from mapper.cluster.settings import ClusterSettings
from mapper.errors import ClusterError

_TLS = "distributed.comm.tls"
_FILES = {"ca.crt": "ca-file", "tls.crt": "client.cert", "tls.key": "client.key"}
_ATTEMPT_SECONDS = 3.0
_CONNECT_SECONDS = 10.0
_PAUSE_SECONDS = 0.5


@contextmanager
def connect_scheduler(api: KubernetesApi, settings: ClusterSettings, pool: str) -> Iterator[str]:
    """Connect to the scheduler of a pool; yields its address, and Dask is configured with certificates meanwhile.

    Raises:
        ClusterError: If there is no scheduler, or no certificate to show it.
    """
    with certificates(api, settings) as files, dask.config.set(files):
        address = settings.scheduler_address(pool)
        if _accepts_connections(address):
            yield address
            return
        service = f"{settings.cluster_name(pool)}-scheduler"
        with api.forward(service, COMM_PORT) as port:
            yield f"{urlsplit(address).scheme}://127.0.0.1:{port}"


@contextmanager
def certificates(api: KubernetesApi, settings: ClusterSettings) -> Iterator[Mapping[str, object]]:
    """Yield Dask's settings for a client: none if it is set up already, or nothing is encrypted.

    The files are the secret's, in a folder that only this user may open and that is removed afterwards.

    Raises:
        ClusterError: If the secret is missing, or has not the three files.
    """
    name = settings.secrets.tls
    if name is None or dask.config.get(f"{_TLS}.client.cert", None):
        yield {}
        return
    secret = api.get("Secret", name)
    if secret is None:
        raise ClusterError(f"there is no Secret {name} in namespace {settings.namespace}, which `secrets.tls` names")
    with tempfile.TemporaryDirectory(prefix="mapper-tls-") as folder:  # of mode 0700
        paths = {
            f"{_TLS}.{key}": str(_write(Path(folder) / file, secret.get("data", {}), name))
            for file, key in _FILES.items()
        }
        yield {**paths, "distributed.comm.require-encryption": True}


def _write(path: Path, content: Mapping[str, str], secret: str) -> Path:
    try:
        data = base64.b64decode(content[path.name], validate=True)
    except (KeyError, binascii.Error) as error:
        raise ClusterError(f"Secret {secret} has no {path.name}; it needs {', '.join(_FILES)}") from error
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    return path


def _accepts_connections(address: str) -> bool:
    """Return True if a name is known here and takes connections, now or soon."""
    parts = urlsplit(address)
    deadline = time.monotonic() + _CONNECT_SECONDS
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((parts.hostname, parts.port), timeout=_ATTEMPT_SECONDS):
                return True
        except socket.gaierror:
            return False
        except OSError:  # a pod may be ready a little before its service leads to it
            time.sleep(_PAUSE_SECONDS)
    return False
