"""`mapper run MAP.yaml` of a continent as a process of its own, until it has handed out some tiles.

python handing.py FOLDER TILES: prints a line of JSON when the first tile is handed out, and one after so many; then the
process ends. Nothing is read or predicted, and the model has no weights: see :mod:`continent`.
"""

import itertools
import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from unittest import mock

import continent
import psutil

from mapper.cli.program import app
from mapper.plan import job
from mapper.run import runner


def count_tiles(tiles):
    """In place of :func:`mapper.run.runner.compute_input`: says when the first tile and the last have come."""
    numbers = itertools.count(1)

    def compute(context, throttle, tile):
        number = next(numbers)
        if number in (1, tiles):
            tell(number)
        if number == tiles:
            os._exit(0)
        if number > tiles:
            time.sleep(60)  # the other thread ends the process when it has told
        return continent.compute_nothing(context, throttle, tile)

    return compute


def tell(number):
    process = psutil.Process()
    cpu = sum(process.cpu_times()[:2])
    facts = {"tile": number, "wall": time.time() - process.create_time(), "cpu": cpu}
    sys.stdout.write(json.dumps(facts | {"mb": process.memory_info().rss / 1e6}) + "\n")
    sys.stdout.flush()


def main():
    folder, tiles = Path(sys.argv[1]), int(sys.argv[2])
    idle = continent.IDLE | {"compute_input": count_tiles(tiles)}
    make_context = partial(job.make_context, card=continent.CARD)
    with mock.patch.multiple(runner, **idle), mock.patch.object(job, "make_context", make_context):
        app(["run", str(folder / "map.yaml")])


if __name__ == "__main__":
    main()
