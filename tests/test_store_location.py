"""Locations: directories and buckets; faults in one line."""

import errno
from pathlib import Path

import icechunk
import pytest

from mapper.errors import StoreError, StoreFullError, StoreLockedError
from mapper.store.errors import explain_faults
from mapper.store.location import parse_location


@pytest.mark.parametrize(
    ("text", "scheme", "bucket", "prefix"),
    [
        ("s3://bucket/maps/agb.icechunk", "s3", "bucket", "maps/agb.icechunk"),
        ("gs://bucket/agb/", "gs", "bucket", "agb"),
        ("az://container/a/b", "az", "container", "a/b"),
    ],
)
def test_buckets_are_parsed_and_written_back(text, scheme, bucket, prefix):
    place = parse_location(text)
    assert (place.path, place.scheme, place.bucket, place.prefix) == (None, scheme, bucket, prefix)
    assert str(place) == text.rstrip("/")


def test_two_names_of_one_directory_are_one_location(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    names = [tmp_path / "real", "real", str(tmp_path / "link"), tmp_path / "x" / ".." / "real"]
    assert {parse_location(name).path for name in names} == {Path(tmp_path / "real").resolve()}


@pytest.mark.parametrize("text", ["ftp://bucket/a", "s3://bucket", "s3:///a", "gs://"])
def test_what_is_no_location_is_refused(text):
    with pytest.raises(StoreError, match="expected"):
        parse_location(text)


def test_storages_take_their_credentials_from_the_environment(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT", raising=False)
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    assert isinstance(parse_location("s3://bucket/a").open_storage(), icechunk.Storage)
    with pytest.raises(StoreError, match="AZURE_STORAGE_ACCOUNT_NAME"):
        parse_location("az://container/a").open_storage()
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    assert isinstance(parse_location("az://container/a").open_storage(), icechunk.Storage)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StoreFullError),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), StoreFullError),
        (icechunk.IcechunkError("x object store error: No space left on device (os error 28)\n |"), StoreFullError),
        (OSError(errno.EACCES, "Permission denied"), StoreError),
        (icechunk.IcechunkError("x manifest not found\n  | context:\n  | 0: icechunk"), StoreError),
    ],
)
def test_faults_become_one_line(fault, kind):
    with pytest.raises(StoreError) as caught, explain_faults("here"):
        raise fault
    assert caught.type is kind
    assert str(caught.value).startswith("here: ")
    assert "\n" not in str(caught.value)


def test_a_lost_race_of_two_committers_says_so():
    with pytest.raises(StoreLockedError, match="another run committed"), explain_faults("here"):
        raise icechunk.ConflictError("a", "b")
