"""Admission: which locations a catalogue may name, in whatever form they are written."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.access.admission import PERSON, Document, allows_private, find_refusal, refuse_address, refuse_name
from mapper.access.rules import AccessRule, FileRule
from mapper.catalog.provider import load_provider
from mapper.errors import SpecError

ARCHIVE = Document(location="https://stac.archive.test/v1")
INSIDE = Document(location="http://10.1.2.3:8080/stac")
ON_DISK = Document(location="/data/catalog/catalog.json")
RULE = AccessRule()


def ways_to_write(address):
    """Forms in which a resolver takes an IPv4 address (RFC 6943, 3.1.1), and IPv6 addresses that carry it."""
    number, parts = int(ipaddress.IPv4Address(address)), address.split(".")
    return [
        address,
        f"{address}.",
        str(number),
        hex(number),
        oct(number).replace("0o", "0"),
        ".".join(hex(int(part)) for part in parts),
        ".".join(f"0{int(part):o}" for part in parts),
        f"{parts[0]}.{number & 0xFFFFFF}",
        f"{parts[0]}.{parts[1]}.{number & 0xFFFF}",
        address.translate({ord(sign): ord(sign) + 0xFEE0 for sign in "0123456789."}),
        f"[::ffff:{address}]",
        f"[64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}]",
        f"[2002:{number >> 16:x}:{number & 0xFFFF:x}::1]",
    ]


@pytest.mark.parametrize(
    "href",
    [
        "https://files.archive.test/a/B04.tif",
        "https://files.archive.test/a b/%C3%A9.tif?version=2",
        "https://9.9.9.9/B04.tif",
        "s3://bucket/a b+c#d.jp2",
        "gs://bucket/a/b.tif",
    ],
)
def test_files_of_archives_are_read(href):
    assert find_refusal(href, ARCHIVE, RULE) == ""


@pytest.mark.parametrize(
    ("href", "reason"),
    [
        ("/etc/passwd", "file of this machine"),
        ("file:///etc/passwd", "file of this machine"),
        ("FILE:/etc/passwd", "file of this machine"),
        ("file://localhost/etc/passwd", "file of this machine"),
        ("$HOME/secret.tif", "file of this machine"),
        ("~/secret.tif", "file of this machine"),
        ("/vsicurl/https://files.archive.test/a.tif", "file system of GDAL"),
        ("/vsis3/bucket/a.tif", "file system of GDAL"),
        ("https://files.archive.test/VsiZip/a.zip/a.tif", "file system of GDAL"),
        ("https://files.archive.test/%2576sicurl%252Fa", "file system of GDAL"),
        ("https://files.archive.test/a%252Fvsigzip%252Fb", "file system of GDAL"),
        ("<VRTDataset rasterXSize='1'/>", "a document"),
        ("https://files.archive.test/<GDAL_WMS>", "a document"),
        ('{"type": "FeatureCollection"}', "a document"),
        ("https://files.archive.test/a\n.tif", "control characters"),
        ("https://files.archive.test/a%00.tif", "control characters"),
        ("\\\\host\\share\\a.tif", "backslashes"),
        ("https://files.archive.test\\@127.0.0.1/a.tif", "backslashes"),
        ("//169.254.169.254/latest", "file of this machine"),
        ("vrt:///data/a.tif?bands=1", "kind vrt"),
        ("DERIVED_SUBDATASET:AMPLITUDE:/data/a.tif", "kind derived_subdataset"),
        ("GTIFF_DIR:1:/data/a.tif", "kind gtiff_dir"),
        ('NETCDF:"/data/a.nc":x', "quotes"),
        ("ftp://files.archive.test/a.tif", "kind ftp"),
        ("https:///a.tif", "no host"),
        ("https://files.archive.test:999999/a.tif", "no host"),
        ("s3://169.254.169.254:80?x=/a.tif", "no name of a bucket"),
        ("s3://u:p@bucket/a.tif", "no name of a bucket"),
        ("s3://bucket/a/../../other/b.tif", "out of its bucket"),
        ("http://localhost:8080/a.tif", "private network"),
        ("http://minio/a.tif", "private network"),
        ("http://kubernetes.default.svc/api", "private network"),
        ("http://metadata.google.internal/computeMetadata", "private network"),
        ("http://[fe80::1%25eth0]/a", "of the link"),
        ("http://[fd00:ec2::254]/latest", "machine's host"),
        ("https://files.archive.test/" + "%25" * 9 + "41", ""),
    ],
)
def test_what_an_archive_may_not_name_is_refused_and_why(href, reason):
    refusal = find_refusal(href, ARCHIVE, RULE)
    assert reason in refusal
    assert bool(refusal) == bool(reason)
    assert "\n" not in refusal


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.5", "172.20.1.1", "192.168.1.9", "169.254.169.254", "0.1.2.3"]
)
def test_no_way_of_writing_a_private_address_passes(address):
    for text in ways_to_write(address):
        assert find_refusal(f"http://{text}/a.tif", ARCHIVE, RULE), text


@given(st.ip_addresses(v=4))
def test_addresses_are_judged_as_the_registry_does_in_every_form(address):
    refusals = {bool(refuse_name(text.strip("[]"), private=False)) for text in ways_to_write(str(address))}
    special = str(address) == "168.63.129.16"
    assert refusals == {not address.is_global or address.is_multicast or special}


@given(st.integers(0, 2**32 - 1))
def test_numbers_are_read_as_the_resolver_reads_them(number):
    for text in ways_to_write(str(ipaddress.IPv4Address(number)))[2:9]:
        resolved = socket.inet_ntoa(socket.inet_aton(text))
        assert bool(refuse_name(text, private=False)) == bool(refuse_address(resolved, private=False))


@pytest.mark.parametrize("document", [ON_DISK, PERSON, INSIDE, Document(location="https://x.test", private=True)])
def test_whoever_is_inside_may_name_what_is_inside(document):
    assert allows_private(document, RULE)
    assert find_refusal("http://127.0.0.1:9/a.tif", document, RULE) == ""
    for text in ways_to_write("169.254.169.254"):
        assert find_refusal(f"http://{text}/latest", document, RULE), "the host of a machine is nobody's archive"


def test_files_of_this_machine_are_named_on_this_machine_or_by_leave_of_the_provider():
    lenient = AccessRule(files=FileRule(local=True))
    for href in ("/data/a b#2?.tif", "file:///data/a.tif"):
        assert find_refusal(href, ON_DISK, RULE) == find_refusal(href, PERSON, RULE) == ""
        assert find_refusal(href, INSIDE, RULE) != ""
        assert find_refusal(href, ARCHIVE, lenient) == ""
    for href in ("//host/share/a.tif", "file://host/share/a.tif", "/vsizip/a.zip/a.tif", "vrt:///a.tif"):
        assert find_refusal(href, ON_DISK, lenient), href


def test_a_provider_may_open_private_networks_and_no_more():
    lenient = AccessRule(files=FileRule(private=True))
    assert find_refusal("http://10.0.0.1/a.tif", ARCHIVE, lenient) == ""
    assert find_refusal("http://169.254.169.254/a.tif", ARCHIVE, lenient)
    assert find_refusal("/etc/passwd", ARCHIVE, lenient)


def test_drivers_that_open_further_files_are_no_choice():
    changes = {"collections": {"sentinel-2-l2a": {"access": {"files": {"drivers": ["GTiff", "vrt"]}}}}}
    with pytest.raises(SpecError, match="vrt opens further files"):
        load_provider("demo", override=changes)
    assert FileRule(drivers=("netCDF",)).drivers == ("netCDF",)
