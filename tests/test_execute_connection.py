"""A scheduler's address that cannot be right ends at once, with one line; a half-made client leaves nothing behind."""

import logging
import subprocess
import sys
import threading
import time

import dask
import pytest
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st

from mapper.errors import ClusterError, SpecError
from mapper.execute import connection
from mapper.execute.connection import check_address, connect, warn_of_clear_text

WRONG = {
    "tcp://10.0.0.7": "tcp://10.0.0.7:8786",
    "tcp://scheduler:": "port is missing",
    "tcp://scheduler:0": "port is missing",
    "tcp://scheduler:70000": "1 to 65535",
    "tcp://scheduler:many": "1 to 65535",
    "tcp://:8786": "host is missing",
    "tcp://::1:8786": "brackets",
    "tcp://[::1:8786": "brackets",
    "tpc://scheduler:8786": "did you mean tcp?",
    "TLS://scheduler:8786": "did you mean tls?",
    "gopher://scheduler:8786": "expected tcp or tls",
    "https://scheduler:8787/status": "page",
    "tcp://scheduler:8786/info": "nothing follows the port",
    "tcp://scheduler:8786?a=b": "nothing follows the port",
    "tcp://sched uler:8786": "spaces",
    "tcp://scheduler:8786\n": "spaces",
}


@pytest.mark.parametrize(("address", "words"), WRONG.items())
def test_an_address_that_cannot_be_right_is_refused_with_what_was_meant(address, words):
    with pytest.raises(SpecError) as refused:
        check_address(address)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_no_text_does_more_than_be_refused(text):
    try:
        check_address(f"tcp://{text}")
    except SpecError as error:
        assert str(error)  # noqa: PT017


def test_a_password_in_an_address_is_not_repeated():
    with pytest.raises(SpecError, match="no name or password") as refused:
        check_address("tcp://me:hunter2@scheduler:8786")
    assert "hunter2" not in str(refused.value)
    assert "me:" not in str(refused.value)


@pytest.mark.parametrize("address", ["tcp://scheduler:8786", "tcp://10.0.0.7:1", "tcp://[::1]:8786", "ws://a.b.c:80"])
def test_an_address_that_can_be_right_is_taken(address):
    check_address(address)


def test_certificates_are_asked_for_by_name(tmp_path):
    with pytest.raises(SpecError, match="DASK_DISTRIBUTED__COMM__TLS__CA_FILE"):
        check_address("tls://scheduler:8786")
    missing = {
        f"distributed.comm.tls.{key}": str(tmp_path / "no.crt") for key in ("ca-file", "client.cert", "client.key")
    }
    with dask.config.set(missing), pytest.raises(SpecError, match="cannot be read"):
        check_address("tls://scheduler:8786")
    (tmp_path / "no.crt").write_text("no certificate")
    with dask.config.set(missing), pytest.raises(SpecError, match="cannot be read"):
        check_address("tls://scheduler:8786")


def test_what_must_be_encrypted_is_not_spoken_to_in_the_clear():
    with dask.config.set({"distributed.comm.require-encryption": True}), pytest.raises(SpecError, match="tls://"):
        check_address("tcp://scheduler:8786")


def test_a_host_that_nobody_knows_ends_before_the_patience_with_schedulers(monkeypatch):
    monkeypatch.setattr(connection, "_NAME_SECONDS", 0.0)
    monkeypatch.setattr(connection, "_LOOK_SECONDS", 0.0)
    with pytest.raises(ClusterError, match="the host is not known"):
        connect("tcp://no-such-host.invalid:8786", timeout_s=600)


@pytest.mark.parametrize("error", [TypeError("no context"), RuntimeError("refused"), OSError("gone"), MemoryError()])
def test_a_client_that_cannot_be_made_is_closed(monkeypatch, error):
    async def fail(self, **_):
        del self
        raise error

    monkeypatch.setattr(Client, "_ensure_connected", fail)
    before = threading.active_count()
    began = time.monotonic()
    with pytest.raises(ClusterError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        connect("tcp://127.0.0.1:9", timeout_s=600)
    assert time.monotonic() - began < 5
    assert threading.active_count() <= before


HALF_MADE = """
from distributed import Client
from mapper.execute.connection import connect
for error in AssertionError(), ValueError():
    async def fail(self, timeout=None):
        raise error
    Client._ensure_connected = fail
    try:
        connect("tcp://127.0.0.1:9", timeout_s=600)
    except BaseException as error:
        print(type(error).__name__)
"""


def test_a_process_ends_at_once_after_clients_that_were_not_made():
    done = subprocess.run([sys.executable, "-c", HALF_MADE], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["AssertionError", "ClusterError"]
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "tcp://localhost:1", "tcp://[::1]:2", "tls://10.0.0.9:1"])
def test_loopback_and_encryption_need_no_warning(address, caplog):
    with caplog.at_level(logging.WARNING):
        warn_of_clear_text(address)
    assert not caplog.records


def test_a_scheduler_elsewhere_in_the_clear_is_warned_of_once(caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            warn_of_clear_text("tcp://192.0.2.17:8786")
    (record,) = caplog.records
    assert "tcp://192.0.2.17:8786 is not encrypted" in record.getMessage()


def test_a_scheduler_is_connected_to():
    with (
        LocalCluster(n_workers=1, processes=False, protocol="tcp", dashboard_address=None) as cluster,
        connect(cluster.scheduler_address, timeout_s=10) as client,
    ):
        assert client.submit(abs, -7).result() == 7
