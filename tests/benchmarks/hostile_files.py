"""Damaged and hostile files through their readers: a value or one line, nothing else. Not collected unless named:

pytest -s -m benchmark tests/benchmarks/hostile_files.py
MAPPER_FILES=10000 pytest -s -m benchmark tests/benchmarks/hostile_files.py
"""

import hashlib
import json
import os
import random
import resource
import sys
import time
from collections import Counter
from importlib import resources
from pathlib import Path

import pytest
import torch
from mutations import HOSTILE_VALUES, alias_bomb, change_value, hostile_safetensors, mutate

from mapper.benchmark.suite import read_suite
from mapper.cluster.settings import read_settings
from mapper.cost.prices import read_prices
from mapper.description import read_yaml
from mapper.errors import MapperError
from mapper.models.card import parse_card
from mapper.models.weights import load_model
from mapper.presets import read_preset
from mapper.spec import ModelSpec, read_spec
from mapper.training.config import read_config

FILES = int(os.environ.get("MAPPER_FILES", "900"))
BUDGET_BYTES = 500 * 2**20
LONGEST_SECONDS = 10
ROOT = Path(__file__).parents[2]


def read_map(path):
    return read_spec(path).map_grid


def read_suite_file(path):
    return read_suite(path, work=path.parent)


def read_preset_file(path):
    return read_preset(str(path))


YAML = {
    read_map: sorted((ROOT / "tests" / "golden" / "maps").glob("*.yaml")),
    read_preset_file: sorted((ROOT / "mapper" / "presets").glob("*.yaml")),
    read_config: sorted((ROOT / "mapper" / "training" / "recipes").glob("*.yaml")),
    read_suite_file: sorted((ROOT / "mapper" / "benchmark" / "suites").glob("*.yaml")),
    read_settings: [ROOT / "deploy" / "kubernetes" / "cluster.yaml"],
    read_prices: [ROOT / "deploy" / "prices.yaml"],
    read_yaml: [],
}


class Tally:
    """Outcomes of one kind of file, seconds of the slowest, and memory that all of them took."""

    def __init__(self, kind):
        self.kind, self.outcomes, self.slowest = kind, Counter(), 0.0
        self.before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def read(self, reader, *arguments):
        began = time.process_time()
        try:
            reader(*arguments)
        except MapperError as error:
            assert "\n" not in str(error), error  # noqa: PT017
            assert len(str(error)) < 4000, error  # noqa: PT017
            self.outcomes[type(error).__name__] += 1
        else:
            self.outcomes["read"] += 1
        self.slowest = max(self.slowest, time.process_time() - began)

    def report(self):
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.before) * 1024
        sys.stdout.write(
            f"\n{self.kind}: {self.outcomes.total():,} files, {dict(self.outcomes)}, "
            f"slowest {self.slowest:.2f} s of CPU, {grown / 2**20:.0f} MiB more memory\n"
        )
        assert self.slowest < LONGEST_SECONDS
        assert grown < BUDGET_BYTES


@pytest.mark.benchmark
def test_descriptions(tmp_path):
    rng, tally, path = random.Random(1), Tally("YAML"), tmp_path / "file.yaml"
    sources = [(reader, source.read_bytes()) for reader, paths in YAML.items() for source in paths]
    for number in range(FILES // 3):
        reader, content = rng.choice(sources)
        path.write_bytes(mutate(content, rng) if number % 10 else alias_bomb(rng.randint(2, 30), 10).encode())
        tally.read(reader, path)
    tally.report()


@pytest.fixture
def shipped():
    """Copies of a shipped model, to be damaged."""
    folder = Path(str(resources.files("mapper"))) / "models" / "shipped"
    torch.set_num_threads(1)
    return {end: (folder / f"msg-source-demo{end}").read_bytes() for end in (".json", ".safetensors")}


@pytest.mark.benchmark
def test_cards(shipped):
    rng, tally, card = random.Random(2), Tally("cards"), json.loads(shipped[".json"])
    for number in range(FILES // 3):
        text = mutate(shipped[".json"], rng).decode(errors="replace")
        tally.read(parse_card, text if number % 2 else json.dumps(change_value(card, rng, HOSTILE_VALUES)))
    tally.report()


@pytest.mark.benchmark
def test_weights(shipped, tmp_path):
    """Damage is found by the checksum of the card; where that was made to agree, by seal, header and shapes."""
    rng, tally, path = random.Random(3), Tally("safetensors"), tmp_path / "msg-source-demo.safetensors"
    made, card = list(hostile_safetensors().values()), json.loads(shipped[".json"])
    for number in range(FILES // 3):
        content = made[number % len(made)] if number < len(made) else mutate(shipped[".safetensors"], rng)
        if number % 3:
            card["assets"]["weights"]["file:checksum"] = f"1220{hashlib.sha256(content).hexdigest()}"
        path.write_bytes(content)
        path.with_suffix(".json").write_text(json.dumps(card))
        tally.read(load_model, ModelSpec(name="msg-source-demo", weights=path))
    assert tally.outcomes.keys() <= {"WeightsError", "read"}
    tally.report()
