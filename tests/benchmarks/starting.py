"""How long `mapper run MAP.yaml` takes to begin, and in what memory, for maps of very many tiles; measures and prints.

Not collected unless named; about a minute on two cores that have nothing else to do:

pytest -s -m benchmark tests/benchmarks/starting.py
MAPPER_TILES=10000,100000 pytest -s -m benchmark tests/benchmarks/starting.py

Each start is a process of its own, from the interpreter to the tile: see :mod:`handing`. The first plans the map; for
the second nine tiles of ten are done: their states are written into the ledger of the store, their pixels are not.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import continent
import numpy as np
import pytest

from mapper.catalog.freeze import open_items
from mapper.catalog.inventory import inventory_path
from mapper.plan.job import plan_path
from mapper.plan.plan_file import load_plan
from mapper.plan.selection import order_tasks
from mapper.spec import read_spec
from mapper.store.map_store import MapStore
from mapper.store.product import map_product

SIZES = [int(size) for size in os.environ.get("MAPPER_TILES", "10000,100000").split(",")]
DATES = int(os.environ.get("MAPPER_DATES", "24"))
DONE_SHARE = 0.9
HANDED = 64
MILLION = 1_000_000
HERE = Path(__file__).parent


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_starting(tmp_path):
    rows = [measure(tmp_path / str(size), size) for size in SIZES]
    say(f"\n{'':30}" + "".join(f"{row['tiles']:>14,}" for row in rows) + "     1,000,000")
    for name in rows[0]:
        if name != "tiles":
            values = "".join(f"{row[name]:14.1f}" for row in rows)
            say(f"{name:30}{values}{extrapolate([row['tiles'] for row in rows], [row[name] for row in rows]):14.1f}")
    say(
        "1,000,000 tiles: the straight line through the two sizes that were measured, as nothing here but order_tasks\n"
        "grows faster than tiles and items, and items grow with the area, as tiles do"
    )


def measure(folder, size):
    """Seconds and megabytes for one map."""
    folder.mkdir()
    path = continent.describe_map(folder, size)
    spec = read_spec(path)
    continent.keep_items(folder, dates=DATES)
    first = start(folder)
    items = open_items(inventory_path(path))
    plan = load_plan(plan_path(path), items)
    MapStore.create(spec.store, map_product(spec))
    continent.pretend(spec.store, order_tasks(plan.tasks, "blocks")[: round(DONE_SHARE * len(plan))])
    again = start(folder)
    facts = {"tiles": len(plan), "items": len(items)}
    for name, found in (("plan and start", first), ("resume", again)):
        for number, words in ((1, "to the first tile"), (HANDED, f"to tile {HANDED}")):
            facts |= {f"{name}, s {words}": found[number]["wall"], f"{name}, CPU s {words}": found[number]["cpu"]}
            facts |= {f"{name}, MB of the driver {words[3:]}": found[number]["mb"]}
    files = {"items": inventory_path(path), "plan": plan_path(path)}
    return facts | {f"MB of the file of {name}": file.stat().st_size / 1e6 for name, file in files.items()}


def start(folder):
    """What a start took until the first tile was handed out, and until some more were."""
    began = time.perf_counter()
    command = [sys.executable, HERE / "handing.py", folder, str(HANDED)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    say(f"  {folder.name}: {time.perf_counter() - began:.1f} s in all")
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    say(f"    {found}")
    return {facts["tile"]: facts for facts in found}


def extrapolate(sizes, values):
    """A straight line, through the origin where there is one point only."""
    if len(sizes) == 1:
        return values[0] * MILLION / sizes[0]
    return float(np.polyval(np.polyfit(sizes, values, 1), MILLION))


def say(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
