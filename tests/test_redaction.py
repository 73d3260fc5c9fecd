"""Redaction: nothing secret stays of an address, whatever stands around it, and nothing else is lost."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapper.cli.program import _Redacted
from mapper.errors import AssetError, SearchError
from mapper.redaction import redact, redact_all, redact_href
from mapper.text import describe_error

WORDS = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_.~%", min_size=6, max_size=20)


@pytest.mark.parametrize(
    ("href", "bare"),
    [
        ("https://u:p@h.test:8080/a/b.tif?X-Amz-Signature=1#t", "https://h.test:8080/a/b.tif"),
        ("https://h.test/a b.tif?token=x y", "https://h.test/a b.tif"),
        ("https://h.test/a.tif?", "https://h.test/a.tif"),
        ("https://h.test?key=1", "https://h.test"),
        ("HTTPS://u@h.test/a", "HTTPS://h.test/a"),
        ("s3://bucket/a b#c.tif", "s3://bucket/a b#c.tif"),
        ("gs://bucket/a.tif?X-Goog-Signature=1", "gs://bucket/a.tif"),
        ("s3://key:secret@bucket/a.tif", "s3://bucket/a.tif"),
        ("tcp://u:p@h:8786", "tcp://h:8786"),
        ("/data/a?b#c.tif", "/data/a?b#c.tif"),
    ],
)
def test_an_address_keeps_its_place_alone(href, bare):
    assert redact_href(href) == bare
    assert redact_href(bare) == bare


def test_harmless_keys_stay_in_order():
    href = "https://h.test/a?v=2&sig=x&%76ersion=3&v=4&V=5"
    assert redact_href(href, harmless=("v", "version")) == "https://h.test/a?v=2&%76ersion=3&v=4"


@given(WORDS, WORDS, WORDS, st.sampled_from(["http", "https", "s3", "gs"]))
def test_no_secret_stays_in_any_text(user, key, value, scheme):
    secret = f"S{value}"
    address = f"{scheme}://{user}:{secret}@h.test/a.tif?{key}={secret}&b={secret}"
    for text in (
        address,
        f"cannot read ({address}): HTTP 403",
        f'"{address}", then {address}.',
        f"url: /a?{key}={secret}",
    ):
        assert secret not in redact(text)
        assert secret not in str(redact_all({"a": [text, {"b": (text,)}]}))
        assert secret not in str(SearchError(text))
        assert secret not in describe_error(ValueError(text))


def test_texts_without_addresses_stay():
    for text in ("found 3 of 4 items: why? a=b", "(DN - 1000) / 10000: baseline 05.10", "Mg/ha, 1/11250", "a\nb"):
        assert redact(text, paths=True) == text
    assert redact("see https://h.test/a, or (https://h.test/b).") == "see https://h.test/a, or (https://h.test/b)."


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/someone/data/B04.tif", "B04.tif"),
        ("/home/some one/data/B04.tif", "B04.tif"),
        ("item a (/home/someone/B04.tif): truncated", "item a (B04.tif): truncated"),
        ("item a (file:///home/someone/B04.tif): truncated", "item a (B04.tif): truncated"),
        ("store: /home/someone/map.icechunk\nname: x", "store: map.icechunk\nname: x"),
        ("s3://bucket/a/b at 1 and https://h.test/a/b", "s3://bucket/a/b at 1 and https://h.test/a/b"),
        ("catalog/catalog.json", "catalog/catalog.json"),
    ],
)
def test_folders_of_this_machine_are_not_shown(text, shown):
    assert redact(text, paths=True) == shown
    assert redact(text) == text


def test_errors_and_log_lines_are_redacted_wherever_they_were_made():
    error = AssetError("asset B04 (https://u:SECRET@h.test/a?t=SECRET)", item="a")
    assert "SECRET" not in str(error)
    assert (type(error), error.item) == (AssetError, "a")
    record = logging.LogRecord(
        "urllib3", logging.WARNING, "", 0, "Retrying after '%s': %s", ("reset", "/a?t=SECRET"), None
    )
    assert (
        _Redacted("%(levelname)s %(name)s: %(message)s").format(record) == "WARNING urllib3: Retrying after 'reset': /a"
    )
