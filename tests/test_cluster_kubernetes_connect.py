"""Reaching a scheduler from outside: TLS holds through a forwarded port, and keys are kept from others."""

import asyncio
import base64
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest
from distributed import Client
from distributed.comm.core import CommClosedError, connect
from distributed.security import Security

from mapper.cluster.kubernetes.api import open_api
from mapper.cluster.kubernetes.connect import certificates, connect_scheduler
from mapper.cluster.settings import parse_settings
from mapper.errors import ClusterError

pytest.importorskip("dask_kubernetes", reason="pip install mapper[kubernetes] brings kr8s")
pytest.importorskip("jsonpatch", reason="the stand-in for the API server needs jsonpatch")
from cluster_api import READY, stand_in

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
SETTINGS = parse_settings({"pools": {"gpu": {"gpu": True}}, "secrets": {"store": None}})
SELECTED = {"dask.org/cluster-name": "mapper-gpu", "dask.org/component": "scheduler"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with stand_in(tmp_path_factory.mktemp("server") / "api") as started:
        started.make_namespace()
        yield started


@pytest.fixture
def api(server, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))
    with open_api("mapper") as opened:
        yield opened


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Makes a folder with a certificate of its own authority, for a name that nobody calls it by."""

    def make(name):
        folder = tmp_path_factory.mktemp(name)
        made = ["-keyout", folder / "tls.key", "-out", folder / "tls.crt", "-subj", f"/CN={name}", "-days", "1"]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *made]
        subprocess.run(command, check=True, capture_output=True)
        shutil.copy(folder / "tls.crt", folder / "ca.crt")
        return folder

    return make


@contextmanager
def scheduler(folder, address):
    """A Dask scheduler that speaks to holders of a certificate alone."""
    prefix = "DASK_DISTRIBUTED__COMM__"
    variables = {
        f"{prefix}REQUIRE_ENCRYPTION": "True",
        f"{prefix}TLS__CA_FILE": str(folder / "ca.crt"),
        f"{prefix}TLS__SCHEDULER__CERT": str(folder / "tls.crt"),
        f"{prefix}TLS__SCHEDULER__KEY": str(folder / "tls.key"),
    }
    command = [sys.executable, "-m", "dask", "scheduler", "--protocol", "tls", "--host", f"tls://{address}"]
    command += ["--port", "8786", "--no-dashboard"]
    with subprocess.Popen(command, env=os.environ | variables, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection((address, 8786), timeout=1).close()
                    break
                except OSError:
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            yield address
        finally:
            process.kill()


def greet(address):
    """Connect as a client of Dask would."""

    async def greeting():
        comm = await connect(address, timeout=20, **Security().get_connection_args("client"))
        await comm.close()

    asyncio.run(greeting())


def keep(server, folder, name="mapper-tls"):
    data = {file: base64.b64encode((folder / file).read_bytes()).decode() for file in ("ca.crt", "tls.crt", "tls.key")}
    server.make("secrets", name, data=data)


@needs_openssl
def test_tls_holds_through_a_forwarded_port(server, api, authority):
    ours = authority("mapper")
    keep(server, ours)
    loopback = f"127.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 250}.7"
    server.make("services", "mapper-gpu-scheduler", spec={"selector": SELECTED})
    server.make("pods", "scheduler-1", labels=SELECTED, status={**READY, "podIP": loopback})
    with scheduler(ours, loopback), connect_scheduler(api, SETTINGS, "gpu") as address:
        assert address.startswith("tls://127.0.0.1:")
        with Client(address, timeout=30, set_as_default=False) as client:
            assert client.scheduler_info()["type"] == "Scheduler"
            assert client.run_on_scheduler(lambda: 42) == 42
        with pytest.raises(RuntimeError, match="encryption required"):
            greet(address.replace("tls:", "tcp:"))
        strange = authority("strange")
        files = {"ca-file": "ca.crt", "client.cert": "tls.crt", "client.key": "tls.key"}
        other = {f"distributed.comm.tls.{key}": str(strange / file) for key, file in files.items()}
        with dask.config.set(other), pytest.raises(CommClosedError):
            greet(address)


def test_keys_are_for_this_user_alone_and_gone_afterwards(server, api):
    held = {name: base64.b64encode(name.encode()).decode() for name in ("ca.crt", "tls.crt", "tls.key")}
    server.make("secrets", "held", data=held)
    settings = parse_settings({"secrets": {"tls": "held"}})
    with certificates(api, settings) as given:
        path = Path(given["distributed.comm.tls.client.key"])
        assert path.read_text() == "tls.key"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert given["distributed.comm.require-encryption"] is True
    assert not path.parent.exists()


def test_certificates_that_are_set_up_already_are_used(api):
    with dask.config.set({"distributed.comm.tls.client.cert": "mine.pem"}), certificates(api, SETTINGS) as given:
        assert given == {}
    with certificates(api, parse_settings({"secrets": {"tls": None}})) as given:
        assert given == {}


@pytest.mark.parametrize("data", [{}, {"ca.crt": "bm8="}, {"ca.crt": "?", "tls.crt": "bm8=", "tls.key": "bm8="}])
def test_a_secret_without_its_files_is_refused(server, api, data):
    name = f"poor-{len(data)}"
    server.make("secrets", name, data=data)
    with (
        pytest.raises(ClusterError, match=rf"Secret {name} has no .*it needs ca\.crt"),
        certificates(api, parse_settings({"secrets": {"tls": name}})),
    ):
        pass


def test_a_pool_without_scheduler_cannot_be_reached(api):
    settings = parse_settings({"pools": {"none": {}}, "secrets": {"tls": None}})
    with (
        pytest.raises(ClusterError, match="no service mapper-none-scheduler"),
        connect_scheduler(api, settings, "none"),
    ):
        pass


def test_a_name_that_answers_is_used_as_it_is(api, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        monkeypatch.setattr(type(SETTINGS), "scheduler_address", lambda *_: f"tcp://localhost:{port}")
        settings = parse_settings({"secrets": {"tls": None}})
        with connect_scheduler(api, settings, "gpu") as address:
            assert address == f"tcp://localhost:{port}"
