"""A file whose bytes were changed is read, or refused by name; nothing else (thousands: benchmarks/mutated.py)."""

import warnings

import pytest
from mutated_rasters import judge, mutate, rng_of, write_seeds
from rasterio.errors import NotGeoreferencedWarning

EACH = 4


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    return write_seeds(tmp_path_factory.mktemp("seeds"))


@pytest.mark.parametrize("kind", ["plain strips", "deflate tiles", "masked big TIFF", "alpha", "JPEG 2000", "scaled"])
def test_mutated_files_are_read_or_refused_by_name(tmp_path, seeds, kind):
    good = seeds[kind]
    for number in range(EACH):
        content, told = mutate(good.read_bytes(), rng_of("sample", number))
        path = tmp_path / f"{number}{good.suffix}"
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            assert not judge(path, good).startswith("fault"), told
