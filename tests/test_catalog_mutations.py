"""A sample of what tests/benchmarks/spoilt.py does by the thousand: documents, pages and files with one thing wrong."""

import random

import pytest
from spoilt_catalogues import OTHER, REFUSED, SAME, SpoiltArchive, SpoiltCatalogue, SpoiltFile


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("spoilt")


def outcomes(made, number):
    return {made.spoil(random.Random(f"sample {k}")) for k in range(number)}


def test_one_spoilt_document_of_a_catalogue_changes_no_other_item(folder):
    assert outcomes(SpoiltCatalogue(folder / "catalogue", scenes=3), 40) == {SAME, OTHER, REFUSED}


def test_one_spoilt_page_changes_no_other_item(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    archive = SpoiltArchive(scenes=7)
    try:
        assert outcomes(archive, 15) >= {SAME, REFUSED}
    finally:
        archive.close()


def test_a_spoilt_file_gives_its_items_or_none(folder):
    assert outcomes(SpoiltFile(folder, scenes=4), 40) == {SAME, REFUSED}
