"""Object storage as addresses: right hosts, right quoting, keys from the named variables and from nowhere else."""

from urllib.parse import parse_qs, urlsplit

import pytest

from mapper.access.admission import is_remote
from mapper.access.files import Access
from mapper.access.rules import AccessRule, StorageRule
from mapper.access.storage import to_url
from mapper.access.tally import AssetName
from mapper.errors import AssetError, CorruptAssetError, TransientAssetError

PUBLIC = {"anonymous": True}
CDSE = {"endpoint": "https://eodata.test", "path_style": True, "key_env": "CDSE_KEY", "secret_env": "CDSE_SECRET"}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "CDSE_KEY", "CDSE_SECRET"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("href", "rule", "url"),
    [
        ("s3://bucket/a/b.tif", PUBLIC, "https://bucket.s3.us-east-1.amazonaws.com/a/b.tif"),
        ("s3://bucket/a/b.tif", PUBLIC | {"region": "eu-west-1"}, "https://bucket.s3.eu-west-1.amazonaws.com/a/b.tif"),
        ("s3://my.bucket/b.tif", PUBLIC, "https://s3.us-east-1.amazonaws.com/my.bucket/b.tif"),
        ("s3://bucket/b.tif", PUBLIC | {"path_style": True}, "https://s3.us-east-1.amazonaws.com/bucket/b.tif"),
        ("s3://bucket/b.tif", PUBLIC | {"endpoint": "https://store.test/"}, "https://bucket.store.test/b.tif"),
        ("s3://eodata/a b+c#d.jp2", PUBLIC | {"endpoint": "https://eodata.test", "path_style": True},
         "https://eodata.test/eodata/a%20b%2Bc%23d.jp2"),
        ("gs://bucket/a b.tif", {}, "https://storage.googleapis.com/bucket/a%20b.tif"),
        ("https://host.test/b.tif?v=2", {}, "https://host.test/b.tif?v=2"),
    ],
)  # fmt: skip
def test_locations_become_addresses(href, rule, url):
    assert is_remote(href)
    assert to_url(href, StorageRule(**rule)) == url


@pytest.mark.parametrize("href", ["/data/b.tif", "data/b.tif", "file:///data/b.tif", "/vsizip/data.zip/b.tif"])
def test_what_is_here_is_not_remote(href):
    assert not is_remote(href)


def test_keys_sign_an_address_and_are_not_in_it(monkeypatch):
    monkeypatch.setenv("CDSE_KEY", "KEY")
    monkeypatch.setenv("CDSE_SECRET", "very-secret")
    # of another program: nothing of it may get into the signature
    for name, value in (("ACCESS_KEY_ID", "OTHER"), ("SESSION_TOKEN", "other"), ("ENDPOINT", "https://other.test")):
        monkeypatch.setenv(f"AWS_{name}", value)
    url = to_url("s3://eodata/Sentinel-2/a b+c.jp2", StorageRule(**CDSE, region="default"))
    parts, query = urlsplit(url), parse_qs(urlsplit(url).query)
    assert (parts.netloc, parts.path) == ("eodata.test", "/eodata/Sentinel-2/a%20b%2Bc.jp2")
    assert query["X-Amz-Credential"][0].startswith("KEY/")
    assert "/default/s3/aws4_request" in query["X-Amz-Credential"][0]
    assert query["X-Amz-Expires"] == ["3600"]
    assert len(query["X-Amz-Signature"][0]) == 64
    assert "X-Amz-Security-Token" not in query
    assert "secret" not in url


def test_temporary_keys_bring_their_token(monkeypatch):
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN"):
        monkeypatch.setenv(f"AWS_{name}", name)
    query = parse_qs(urlsplit(to_url("s3://bucket/b.tif", StorageRule())).query)
    assert query["X-Amz-Security-Token"] == ["SESSION_TOKEN"]


def test_missing_keys_are_named_before_anything_is_asked(monkeypatch):
    monkeypatch.setenv("CDSE_KEY", "KEY")
    name, rule = AssetName(item="i", asset="B04", href="s3://eodata/b.jp2"), AccessRule(storage=StorageRule(**CDSE))
    access = Access()
    with pytest.raises(AssetError, match="CDSE_KEY and CDSE_SECRET") as caught:
        access.read(name, rule, lambda _: None)
    assert not isinstance(caught.value, TransientAssetError | CorruptAssetError)
    assert (caught.value.item, caught.value.asset, caught.value.href) == ("i", "B04", "s3://eodata/b.jp2")
    assert access.tally.requests == 0


@pytest.mark.parametrize("href", ["az://container/b.tif", "abfs://container@account/b.tif", "ftp://host/b.tif"])
def test_other_kinds_of_locations_are_refused(href):
    with pytest.raises(AssetError, match=href.split(":")[0]):
        to_url(href, StorageRule())
