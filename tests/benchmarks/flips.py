"""Single flipped bits in the shards of a map, and how many each reader finds.

    pytest -s -m benchmark tests/benchmarks/flips.py

Every byte of a shard is covered: those of chunks and their checksums, of the index and of its own. Each flip is tried
on every reader that reads the band, through a store that is opened anew; without one, all of them read. FLIPS is the
number of flips, WORKERS of processes; each has a map of its own.
"""

import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from bit_flips import Readers, draw_flips, make_little_map

from mapper.errors import StoreError

FLIPS = int(os.environ.get("FLIPS", "1000"))
WORKERS = int(os.environ.get("WORKERS", "2"))


def try_flips(folder, count, seed):
    """Flips that each reader found, and those that it did not, by reader; of every band, chunk and index."""
    folder.mkdir()
    spec = make_little_map(folder)
    readers, found, missed = Readers(spec, folder), Counter(), []
    for flip in draw_flips(spec, count, seed=seed):
        readers.renew()
        with flip.done():
            for name, read in readers.of(flip).items():
                try:
                    read(flip)
                    missed.append((name, flip.band, str(flip.tile), flip.bit))
                except StoreError:
                    found[name] += 1
    readers.renew()
    for flip in draw_flips(spec, 3, seed=seed):  # without a flip, all of them read
        for read in readers.of(flip).values():
            read(flip)
    return found, missed


@pytest.mark.benchmark
def test_every_reader_finds_every_flipped_bit(tmp_path):
    start, share = time.monotonic(), FLIPS // WORKERS
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        parts = [pool.submit(try_flips, Path(tmp_path) / str(seed), share, seed) for seed in range(WORKERS)]
        results = [part.result() for part in parts]
    found = sum((each for each, _ in results), Counter())
    missed = [each for _, some in results for each in some]
    lines = [f"{share * WORKERS} flipped bits, {found.total()} readings of them, {time.monotonic() - start:.0f} s"]
    for name, count in sorted(found.items()):
        lines.append(f"  {name:<18} found {count:>5}, missed {sum(1 for each in missed if each[0] == name)}")
    sys.stdout.write("\n".join(["", *lines, ""]))
    assert not missed, missed[:10]
