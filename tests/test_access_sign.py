"""Signing: tokens come from a service, are kept until shortly before they expire, and never stay in what is stored."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mapper.access.rules import SigningRule
from mapper.access.sign import Signer, sign, unsign
from mapper.catalog.provider import load_provider
from mapper.errors import AssetError, TransientAssetError

BLOB = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/33/U/B02.tif"


class TokenService(BaseHTTPRequestHandler):
    """Gives numbered tokens; ``server.statuses`` holds faults to give first, ``server.minutes`` how long one lasts."""

    def log_message(self, *_):
        """Keep quiet."""

    def do_GET(self):
        self.server.asked.append(self.path)
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        expires = datetime.now(UTC) + timedelta(minutes=self.server.minutes)
        token = f"se=later&sig=token-{len(self.server.asked)}"
        expiry = self.server.expiry or expires.strftime("%Y-%m-%dT%H:%M:%SZ")
        body = json.dumps({"token": token, "msft:expiry": expiry}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def rule_of(tokens):
    blobs = (".blob.core.windows.net",)
    return SigningRule(kind="token-service", tokens=tokens, hosts=blobs, public=("ai4edatasetspublicassets",))


@pytest.fixture
def service():
    server = ThreadingHTTPServer(("127.0.0.1", 0), TokenService)
    server.asked, server.statuses, server.minutes, server.expiry = [], [], 45, ""
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def signer(service):
    return Signer(rule=rule_of(f"http://127.0.0.1:{service.server_port}/token"), backoff_s=0.01)


def test_a_token_is_asked_for_once_per_container(service, signer):
    assert signer.sign(BLOB) == f"{BLOB}?se=later&sig=token-1"
    assert signer.sign(BLOB.replace("B02", "B03")).endswith("B03.tif?se=later&sig=token-1")
    signer.sign("https://sentinel1euwestrtc.blob.core.windows.net/sentinel1-grd-rtc/vv.tif")
    assert service.asked == ["/token/sentinel2l2a01/sentinel2-l2", "/token/sentinel1euwestrtc/sentinel1-grd-rtc"]


def test_many_threads_share_one_token(service, signer):
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(signer.sign, [BLOB] * 40))) == 1
    assert len(service.asked) == 1


@pytest.mark.parametrize(("life_s", "used_s"), [(45 * 60, 40 * 60), (10 * 60, 8 * 60), (60, 48)])
def test_a_token_is_renewed_some_time_before_it_expires(service, signer, life_s, used_s):
    start = datetime.now(UTC)
    service.minutes, elapsed = life_s / 60, [0]
    signer = replace(signer, clock=lambda: start + timedelta(seconds=elapsed[0]))
    first = signer.sign(BLOB)
    elapsed[0] = used_s - 2
    assert signer.sign(BLOB) == first
    elapsed[0] = used_s + 2
    assert signer.sign(BLOB) != first


def test_a_token_that_was_refused_is_used_no_more_but_a_newer_one_is(service, signer):
    first = signer.sign(BLOB)
    signer.forget(first)
    second = signer.sign(BLOB)
    assert second != first
    signer.forget(first)  # another thread hears of it late
    assert signer.sign(BLOB) == second
    assert len(service.asked) == 2


def test_an_answer_without_a_token_is_no_token(service, signer):
    service.expiry = "later"
    with pytest.raises(AssetError, match="answered no token"):
        signer.sign(BLOB)


def test_signing_what_is_signed_replaces_the_signature(signer):
    signed = signer.sign(BLOB)
    assert signer.sign(signed) == signed
    assert unsign(signed) == BLOB


@pytest.mark.parametrize(
    "href",
    [
        "/data/B02.tif",
        "https://host.test/B02.tif?version=2",
        "https://ai4edatasetspublicassets.blob.core.windows.net/a/b",
    ],
)
def test_what_needs_no_signature_is_left_alone(service, signer, href):
    assert signer.sign(href) == href
    assert not service.asked


def test_a_busy_service_is_asked_again(service, signer):
    service.statuses = [429, 503]
    assert signer.sign(BLOB).endswith("token-3")


def test_a_service_that_stays_busy_is_worth_another_attempt(service, signer):
    service.statuses = [503] * 9
    with pytest.raises(TransientAssetError, match="503") as error:
        signer.sign(BLOB)
    assert error.value.href == BLOB


def test_a_refusal_is_not(service, signer):
    service.statuses = [404]
    with pytest.raises(AssetError, match="404") as error:
        signer.sign(BLOB)
    assert not isinstance(error.value, TransientAssetError)


def test_a_service_that_is_not_there_is_worth_another_attempt():
    with pytest.raises(TransientAssetError, match="no token"):
        Signer(rule=rule_of("http://127.0.0.1:9"), backoff_s=0.01).sign(BLOB)


def test_providers_say_whether_they_sign():
    rules = [load_provider(name).rule("sentinel-2-l2a").access.signing for name in ("demo", "planetary-computer")]
    assert sign(BLOB, rules[0]) == BLOB
    assert sign("/data/B02.tif", rules[1]) == "/data/B02.tif"


@pytest.mark.parametrize(
    ("href", "bare"),
    [
        (f"{BLOB}?st=1&se=2&sig=x%2B", BLOB),
        ("https://b.s3.amazonaws.com/k?X-Amz-Signature=a&X-Amz-Date=b", "https://b.s3.amazonaws.com/k"),
        ("https://host.test/a.tif?version=2", "https://host.test/a.tif?version=2"),
        ("s3://bucket/a b#c.tif", "s3://bucket/a b#c.tif"),
    ],
)
def test_only_signatures_are_taken_off(href, bare):
    assert unsign(href) == bare
