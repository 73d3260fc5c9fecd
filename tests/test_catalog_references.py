"""References of documents: addresses as urllib joins them, paths as names."""

import os
from pathlib import Path
from urllib.parse import quote, urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pystac.utils import make_absolute_href

from mapper.access.storage import is_remote
from mapper.catalog.references import base_of, find_file, path_of, resolve, to_reference

SEGMENTS = st.text("abAB09._-%# ?&=+~ü€\\:'()", min_size=1, max_size=6)
NAMES = SEGMENTS.filter(lambda name: name.strip(". "))
DOCUMENT = "https://archive.test/stac/collections/c/items/a?f=json"


@given(st.lists(st.sampled_from(["..", ".", "a", "b%20c", "d e", "ü"]), min_size=1, max_size=6), st.booleans())
def test_references_of_an_address_are_joined_as_urllib_and_pystac_join_them(parts, rooted):
    href = f"{'/' * rooted}{'/'.join(parts)}"
    assert resolve(href, DOCUMENT) == urljoin(DOCUMENT, href)
    if not rooted:
        assert resolve(href, DOCUMENT) == make_absolute_href(href, DOCUMENT, start_is_dir=False) or ".." in parts


@pytest.mark.parametrize(
    ("href", "base", "absolute"),
    [
        ("/files/x.tif", "http://h.test:8764/collections/c/items/x", "http://h.test:8764/files/x.tif"),
        ("x.tif?version=2&v=a%26b", DOCUMENT, "https://archive.test/stac/collections/c/items/x.tif?version=2&v=a%26b"),
        ("//mirror.test/x.tif", DOCUMENT, "https://mirror.test/x.tif"),
        ("S3://b/x%20y.tif", DOCUMENT, "S3://b/x%20y.tif"),
        ("x%20y.tif", "s3://bucket/a/b/item.json", "s3://bucket/a/b/x y.tif"),
        ("../../../../x.tif", "s3://bucket/a/b/item.json", "s3://bucket/x.tif"),
        ("/x.tif", "gs://bucket/a/b/item.json", "gs://bucket/x.tif"),
        ("./B04.tif", "/data/a/a.json", "/data/a/B04.tif"),
        ("../b/B04.tif", "/data/a/a.json", "/data/b/B04.tif"),
        ("../../../../etc/x", "/data/a/a.json", "/etc/x"),
        ("B04.tif", "https://h.test/a/a.json", "https://h.test/a/B04.tif"),
        ("/vsis3/b/B04.tif", "https://h.test/a/a.json", "/vsis3/b/B04.tif"),
        ("s3://b/B04.tif", "/data/a/a.json", "s3://b/B04.tif"),
        ("B04%20.tif", "", "B04%20.tif"),
        ("file:///data/a%20b%23.tif", "/data/a.json", "/data/a b#.tif"),
        ("FILE://localhost/data/x.tif?y", "", "/data/x.tif"),
        ("file:/data/x.tif", "/elsewhere/a.json", "/data/x.tif"),
    ],
)
def test_locations_become_absolute(href, base, absolute):
    assert resolve(href, base) == absolute


@pytest.mark.parametrize("href", ["", "  ", "a\x00b", "a\nb", "a\tb", "\x7f", "file://other.test/x", "file:x", "a%00b"])
def test_what_is_no_location_is_refused(href):
    with pytest.raises(ValueError, match=r"location|names no file"):
        resolve(href, "/data/a.json")


@pytest.mark.parametrize("href", ["file:///etc/passwd", "/etc/passwd", "../../../../../etc/passwd", "//etc/passwd"])
@pytest.mark.parametrize("link", [None, "/var/item.json", "file:///var/item.json", "../x.json", "https://other.test/a"])
def test_what_came_from_elsewhere_names_no_path_of_this_machine(href, link):
    here = base_of({"links": [{"rel": "self", "href": link}]}, DOCUMENT)
    assert is_remote(here)
    assert not resolve(href, here).startswith("/")


def test_the_self_link_goes_before_the_document_and_is_relative_to_it():
    assert base_of({"links": [{"rel": "self", "href": "../b/b.json"}]}, "https://h.test/a/a.json") == (
        "https://h.test/b/b.json"
    )
    assert base_of({"links": []}, "https://h.test/search") == "https://h.test/search"
    assert base_of({}, "") == ""


@given(NAMES, NAMES)
def test_a_path_comes_back_from_its_reference_and_from_its_uri(folder, name):
    path = Path("/nowhere") / folder / name
    assert find_file(to_reference(f"{folder}/{name}"), Path("/nowhere")) == path
    assert path_of(f"file://{quote(str(path))}") == str(path)
    assert path_of(path.as_uri()) == str(path)
    assert resolve(to_reference(str(path)), "/elsewhere/item.json") == os.path.normpath(path)


@pytest.mark.parametrize("name", ["a#1.tif", "a?b.tif", "per%20cent.tif", "a%2Fb.tif"])
def test_a_document_that_encodes_nothing_is_read_where_its_files_are(tmp_path, name):
    (tmp_path / name).touch()
    assert resolve(name, str(tmp_path / "item.json")) == str(tmp_path / name)


def test_of_two_files_the_one_counts_that_the_standard_names(tmp_path):
    for name in ("per cent.tif", "per%20cent.tif", "map", "map#2"):
        (tmp_path / name).touch()
    base = str(tmp_path / "item.json")
    assert resolve("per%20cent.tif", base) == str(tmp_path / "per cent.tif")
    assert resolve("per%2520cent.tif", base) == str(tmp_path / "per%20cent.tif")
    assert resolve("map#2", base) == str(tmp_path / "map")
    assert resolve("map%232", base) == str(tmp_path / "map#2")
    assert resolve("x" * 300 + "#", base) == str(tmp_path / ("x" * 300))
