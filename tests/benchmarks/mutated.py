"""Thousands of mutated TIFF and JPEG 2000 files through the readers of blocks and source maps; prints the outcomes.

Not collected unless named; about 3 minutes on two quiet cores:

pytest -s -m benchmark tests/benchmarks/mutated.py
MAPPER_FILES=10000 pytest -s -m benchmark tests/benchmarks/mutated.py

Each file is read in a process that may take so much more memory and so many seconds, and is started again where it
ends. A changed byte of plain numbers is another number, and no reader can tell. A deflated block ends with a checksum
(RFC 1950), but libtiff stops before it: flipped bits are found where they break the codes, which are most of them.
"""

import logging
import os
import resource
import sys
import time
import warnings
from collections import Counter
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from mutated_rasters import OUTCOMES, judge, limit_memory, mutate, rng_of, write_seeds

FILES = int(os.environ.get("MAPPER_FILES", "2100"))
SECONDS = 20
MORE_BYTES = 1 << 30
FOUND = 0.75


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_mutations():
    started, faults = time.perf_counter(), []
    with TemporaryDirectory() as folder:
        seeds = write_seeds(Path(folder) / "seeds")
        reader = Reader()
        outcomes = {kind: Counter() for kind in seeds}
        for number in range(FILES):
            kind = list(seeds)[number % len(seeds)]
            content, told = mutate(seeds[kind].read_bytes(), rng_of("bulk", number))
            path = Path(folder) / f"mutated{seeds[kind].suffix}"
            path.write_bytes(content)
            found = reader.judge(path, seeds[kind])
            outcomes[kind][found.split(":")[0]] += 1
            faults += [f"{kind}, {number}, {told}: {found}"] if found.startswith("fault") else []
        flips = flip_deflated(reader, seeds["deflate tiles"], Path(folder) / "flipped.tif")
    report(outcomes, flips, reader, time.perf_counter() - started)
    assert not faults, "\n".join(faults[:20])
    assert flips["other"] <= (1 - FOUND) * flips.total()


class Reader:
    """A process that judges files, one at a time, and is replaced where it hangs or ends."""

    def __init__(self):
        self.largest = 0
        self._start()

    def judge(self, path, good):
        self._pipe.send((path, good))
        if not self._pipe.poll(SECONDS):
            self._process.kill()
            found = "fault: hangs"
        else:
            try:
                found, largest = self._pipe.recv()
            except EOFError:
                found = "fault: ends the process"
            else:
                self.largest = max(self.largest, largest)
                return found
        self._process.join()
        self._start()
        return found

    def _start(self):
        context = get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=serve, args=(there,), daemon=True)
        self._process.start()
        there.close()
        self._pipe.recv()  # imports take longer than a file


def serve(pipe):
    """Judge the files that come through a pipe, with limited memory."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    pipe.send("ready")
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limit_memory(MORE_BYTES)
    with suppress(EOFError):  # nobody sends any more
        while True:
            path, good = pipe.recv()
            pipe.send((judge(path, good), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun))


def flip_deflated(reader, good, path):
    """Flip one bit each in the blocks of a deflated file; returns the outcomes."""
    content, outcomes = good.read_bytes(), Counter()
    rng = rng_of("flips", 0)
    for _ in range(FILES // 7):
        changed = bytearray(content)
        changed[rng.randrange(1000, len(changed))] ^= 1 << rng.randrange(8)
        path.write_bytes(changed)
        outcomes[reader.judge(path, good).split(":")[0]] += 1
    return outcomes


def report(outcomes, flips, reader, seconds):
    """Print what became of the files of each kind."""
    lines = [f"{'kind':18}" + "".join(f"{name:>9}" for name in OUTCOMES)]
    rows = [*outcomes.items(), ("flipped, deflated", flips)]
    lines += [f"{kind:18}" + "".join(f"{found[name]:9}" for name in OUTCOMES) for kind, found in rows]
    total = sum(found.total() for _, found in rows)
    lines.append(f"{total} files in {seconds:.0f} s, at most {reader.largest / 1024:.0f} MiB more memory than imports")
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
