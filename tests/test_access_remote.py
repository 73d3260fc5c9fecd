"""Remote files: read whole or in parts, through every fault that passes; told apart from files that are broken."""

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
from fault_server import serve_faults
from rasterio.windows import Window

from mapper.access.files import Access, gdal_environment
from mapper.access.retry import REQUEST_RETRY
from mapper.access.rules import AccessRule, Limits, SigningRule
from mapper.access.tally import AssetName
from mapper.access.throttle import LocalThrottle
from mapper.errors import AssetError, CorruptAssetError, TransientAssetError

QUICK = replace(REQUEST_RETRY, initial_backoff_s=0.01, max_backoff_s=0.02, read_timeout_s=10, attempts=3)
HASTY = replace(QUICK, read_timeout_s=0.4)
"""For servers that stall; a busy machine may stall a little too."""
PART = Window(50, 30, 300, 290)
PASSING = {
    "429": "HTTP 429", "503": "HTTP 503", "reset": "connection reset", "stall": "timed out",
    "cut": "short body", "short": "short body",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiled TIFF, the same pixels as lossless JPEG 2000, a TIFF that was cut, and one that is none."""
    folder = tmp_path_factory.mktemp("archive")
    pixels = np.random.default_rng(4).integers(0, 4000, (512, 512)).astype(np.uint16)
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 3e5, 0, -10, 57e5)}
    size = {"width": 512, "height": 512, "count": 1, "dtype": "uint16"}
    tiled = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    with rasterio.open(folder / "b.tif", "w", driver="GTiff", **tiled, **size, **place) as b:
        b.write(pixels, 1)
    with rasterio.open(
        folder / "b.jp2", "w", driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES", BLOCKXSIZE=128, **size, **place
    ) as b:
        b.write(pixels, 1)
    content = (folder / "b.tif").read_bytes()
    (folder / "cut.tif").write_bytes(content[: len(content) // 2])
    (folder / "none.tif").write_bytes(b"no raster at all" * 500)
    (folder / "empty.tif").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def pixels(folder):
    with rasterio.open(folder / "b.tif") as dataset:
        return dataset.read(1)


@pytest.fixture
def serve(folder):
    """Start servers: ``serve("--first", "429")``."""
    running = []

    def start(*options):
        running.append(serve_faults(folder, *options))
        return running[-1].__enter__()

    yield start
    for server in running:
        server.__exit__(None, None, None)


def read(server, *, file="b.tif", access=None, rule=None, window=PART, query=""):
    name = AssetName(item="scene", asset="B04", href=f"{server.address}/{file}{query}")
    with gdal_environment():
        return (access or Access(retry=QUICK)).read(
            name, rule or AccessRule(), lambda dataset: dataset.read(1, window=window)
        )


def retry_for(fault):
    return HASTY if fault == "stall" else QUICK


def cut(pixels):
    rows, cols = PART.toslices()
    return pixels[rows, cols]


@pytest.mark.parametrize("file", ["b.tif", "b.jp2"])
def test_a_part_of_a_file_is_read_and_paid_for(serve, pixels, file, folder):
    server, access = serve(), Access(retry=QUICK)
    np.testing.assert_array_equal(read(server, file=file, access=access), cut(pixels))
    log = server.log()
    assert access.tally.requests == len(log)
    assert access.tally.bytes_read == sum(entry["last"] - entry["first"] + 1 for entry in log)
    if file == "b.tif":  # JPEG 2000 is read a megabyte at a time
        assert access.tally.bytes_read < (folder / file).stat().st_size
    assert (log[0]["first"], log[0]["last"]) == (0, 32 * 1024 - 1)
    assert len({entry["client"] for entry in log}) == 1, "the connection is kept"


@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_is_tried_again_and_noted(serve, pixels, fault, where, caplog):
    caplog.set_level(logging.INFO)
    server, access = (
        serve("--first", *["none"] * where, fault, fault, "--stall", "1.2"),
        Access(retry=retry_for(fault)),
    )
    np.testing.assert_array_equal(read(server, access=access), cut(pixels))
    assert [(retry.reason, retry.attempt) for retry in access.tally.retries] == [(PASSING[fault], k) for k in (1, 2)]
    assert {(retry.item, retry.asset) for retry in access.tally.retries} == {("scene", "B04")}
    assert {f"http://{retry.host}" for retry in access.tally.retries} == {server.address}
    assert caplog.text.count(PASSING[fault]) == 2
    assert access.tally.requests == len(server.log())


@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize("fault", PASSING)
def test_what_does_not_pass_is_worth_another_attempt_at_the_tile_and_is_not_remembered(serve, pixels, fault, where):
    server = serve("--first", *["none"] * where, *[fault] * QUICK.attempts, "--stall", "1.2")
    with pytest.raises(TransientAssetError, match=f"B04.*scene.*{PASSING[fault]}, 3 attempts"):
        read(server, access=Access(retry=retry_for(fault)))
    np.testing.assert_array_equal(read(server), cut(pixels))


def test_no_server_is_worth_another_attempt():
    class Nowhere:
        address = "http://127.0.0.1:9"

    with pytest.raises(TransientAssetError, match="no connection, 3 attempts"):
        read(Nowhere)


@pytest.mark.parametrize(
    ("file", "said"),
    [("cut.tif", "truncated"), ("none.tif", "not recognized"), ("absent.tif", "does not exist"), ("empty.tif", "416")],
)
def test_a_broken_file_is_corrupt_at_once_and_named(serve, file, said):
    server, access = serve(), Access(retry=QUICK)
    with pytest.raises(CorruptAssetError, match=said) as caught:
        read(server, file=file, access=access)
    error = caught.value
    assert (error.item, error.asset, error.href) == ("scene", "B04", f"{server.address}/{file}")
    assert not access.tally.retries


def test_a_file_cut_behind_the_part_that_is_read_is_good(serve, pixels):
    window = Window(0, 0, 64, 64)
    np.testing.assert_array_equal(read(serve(), file="cut.tif", window=window), pixels[:64, :64])


@pytest.mark.parametrize(
    ("fault", "said"), [("403", "denied"), ("401", "denied"), ("400", "HTTP 400"), ("html", "login")]
)
def test_a_denial_is_neither_corrupt_nor_transient(serve, fault, said):
    with pytest.raises(AssetError, match=said) as caught:
        read(serve("--first", fault))
    assert type(caught.value) is AssetError


def test_a_file_that_changes_while_it_is_read_is_read_anew(serve, pixels):
    server = serve("--first", "none", "tag")
    with pytest.raises(TransientAssetError, match="changed"):
        read(server)
    np.testing.assert_array_equal(read(server), cut(pixels))


def test_a_server_that_gives_only_whole_files_is_borne(serve, pixels):
    server = serve("--first", "whole")
    np.testing.assert_array_equal(read(server), cut(pixels))
    assert len(server.log()) == 1


def test_far_parts_of_a_file_are_asked_for_at_the_same_time(serve, pixels):
    server = serve("--delay", "0.3")
    np.testing.assert_array_equal(read(server, window=Window(0, 0, 64, 512)), pixels[:, :64])
    times = [entry["time"] for entry in server.log()]
    assert len(times) > 6
    assert times[-1] - times[1] < 3 * 0.3


def test_a_server_is_left_alone_for_as_long_as_it_asks(serve):
    paused, slept = [], []

    class Noting(LocalThrottle):
        def pause(self, host, seconds):
            paused.append((host, seconds))

    server = serve("--first", "429", "503", "--retry-after", "0.3")
    access = Access(retry=QUICK, throttle=Noting(sleep=slept.append))
    start = time.monotonic()
    read(server, access=access)
    assert paused == [(server.address.removeprefix("http://"), 0.3)] * 2
    assert time.monotonic() - start >= 0.6
    assert [retry.wait_s for retry in access.tally.retries] == [0.3, 0.3]


def test_requests_are_paced(serve):
    server = serve()
    rule = AccessRule(limits=Limits(requests_per_second=50, burst=1))
    access = Access(retry=QUICK, throttle=LocalThrottle())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: read(server, access=access, rule=rule), range(8)))
    times = [entry["time"] for entry in server.log()]
    assert len(times) >= 16
    assert (len(times) - 1) / (times[-1] - times[0]) < 55


def tokens(server):
    return AccessRule(signing=SigningRule(kind="token-service", tokens=f"{server.address}/token", hosts=(".0.0.1",)))


def test_a_signature_that_is_refused_is_made_anew_and_never_told(folder, pixels, caplog):
    caplog.set_level(logging.DEBUG, "mapper")
    with serve_faults(folder.parent, "--token-life", "60", "--first", "403", "none", "403") as server:
        access, file = Access(retry=QUICK), f"{folder.name}/b.tif"
        np.testing.assert_array_equal(read(server, file=file, access=access, rule=tokens(server)), cut(pixels))
        assert [retry.reason for retry in access.tally.retries] == ["HTTP 403, signed anew"] * 2
        assert sum(entry["fault"] == "token" for entry in server.log()) == 3
        with pytest.raises(CorruptAssetError) as caught:
            read(server, file=f"{folder.name}/absent.tif", rule=tokens(server), query="?se=1&sig=secret")
    assert "sig=" not in f"{caught.value!r} {caplog.text}"
    assert caught.value.href.endswith("absent.tif")


def test_a_signature_that_is_refused_again_and_again_is_a_denial(folder):
    with serve_faults(folder.parent, "--token-life", "60", "--first", *["403"] * 9) as server:
        with pytest.raises(AssetError, match="denied") as caught:
            read(server, file=f"{folder.name}/b.tif", rule=tokens(server))
        assert type(caught.value) is AssetError
        assert sum(entry["status"] == 403 for entry in server.log()) == 3


def test_files_outlive_their_tokens(folder, pixels):
    access = Access(retry=QUICK)
    with serve_faults(folder.parent, "--token-life", "0.3") as server:
        for _ in range(4):
            got = read(server, file=f"{folder.name}/b.tif", access=access, rule=tokens(server))
            np.testing.assert_array_equal(got, cut(pixels))
            time.sleep(0.2)
        assert sum(entry["fault"] == "token" for entry in server.log()) >= 2


def test_threads_read_the_same_through_many_faults(serve, pixels):
    kinds = [fault for fault in PASSING if fault != "stall"]
    server = serve("--share", "0.2", "--seed", "5", "--kinds", *kinds)
    access = Access(retry=replace(QUICK, attempts=9))
    with ThreadPoolExecutor(6) as pool:
        for got in pool.map(lambda _: read(server, access=access), range(40)):
            np.testing.assert_array_equal(got, cut(pixels))
    met = [entry["fault"] for entry in server.log() if entry["fault"] != "none"]
    assert len(met) > 10
    assert sorted(PASSING[fault] for fault in met) == sorted(retry.reason for retry in access.tally.retries)


def test_whatever_fails_over_an_open_file_names_it(serve):
    name = AssetName(item="scene", asset="B04", href=f"{serve().address}/b.tif")
    with pytest.raises(CorruptAssetError, match=r"asset B04 of item scene .*ZeroDivisionError"):
        Access().read(name, AccessRule(), lambda _: 1 // 0)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0), ("7", 7), ("1.5", 1.5), ("-3", 0), ("9999", 120), ("soon", 0),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30), ("Sat, 21 Nov 2026 11:00:00 GMT", 0),
    ],
)  # fmt: skip
def test_pauses_are_asked_for_in_seconds_or_as_a_date(header, seconds):
    now = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert REQUEST_RETRY.retry_after(header, now=now) == seconds


def test_pauses_grow_to_a_ceiling_and_spread():
    policy = replace(REQUEST_RETRY, initial_backoff_s=1, max_backoff_s=10)
    for failures, longest in ((1, 1), (3, 4), (9, 10), (5000, 10)):
        delays = [policy.delay(failures) for _ in range(200)]
        assert 0 <= min(delays) < 0.1 * longest
        assert 0.9 * longest < max(delays) <= longest
