"""Catalogues, pages and files of items with one thing wrong, by the thousand; prints what came of them.

Not collected unless named; about 3 minutes on two quiet cores:

pytest -s -m benchmark tests/benchmarks/spoilt.py
MAPPER_SPOILT=5000 MAPPER_SEED=2 pytest -s -m benchmark tests/benchmarks/spoilt.py

Each batch runs in a process of its own, which must not crash; each search in it has to end within seconds, with the
same items, with one line that refuses, or with what the one document that was spoilt now says.
"""

import os
import random
import resource
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from spoilt_catalogues import SpoiltArchive, SpoiltCatalogue, SpoiltFile

NUMBER = int(os.environ.get("MAPPER_SPOILT", "700"))
"""Documents of each kind."""
SEED = int(os.environ.get("MAPPER_SEED", "1"))
LONGEST_S = 20.0
"""Longest time of one search in seconds."""
MEMORY_MB = 600
"""Growth of the process in MB."""


def run(kind):
    """Spoil documents of one kind; returns the outcomes, the longest time in seconds, and the growth in MB."""
    os.environ["NO_PROXY"] = "127.0.0.1"
    outcomes, longest = Counter(), 0.0
    with TemporaryDirectory() as folder:
        made = (
            SpoiltArchive()
            if kind == "pages"
            else {"catalogue": SpoiltCatalogue, "files": SpoiltFile}[kind](Path(folder))
        )
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(NUMBER):
            begun = time.monotonic()
            try:
                outcomes[made.spoil(random.Random(f"{SEED} {kind} {number}"))] += 1
            except Exception as error:
                raise AssertionError(f"{kind} {number} of seed {SEED}: {error!r}") from error
            longest = max(longest, time.monotonic() - begun)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return dict(outcomes), longest, grown


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["catalogue", "pages", "files"])
def test_spoilt(kind):
    begun = time.monotonic()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        outcomes, longest, grown = pool.submit(run, kind).result()
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    sys.stdout.write(
        f"\n{kind}: {sum(outcomes.values())} in {time.monotonic() - begun:.0f} s: {told}; "
        f"the longest took {longest:.1f} s, the process grew by {grown:.0f} MB\n"
    )
    assert longest < LONGEST_S
    assert grown < MEMORY_MB
