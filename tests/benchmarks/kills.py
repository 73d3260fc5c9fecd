"""Every command that writes, killed at a random moment and called again, and a table of what became of it.

    python tests/benchmarks/kills.py [--kills 108] [--seed 1] [--only COMMAND] [--folder DIR]

Each command first runs undisturbed. Then a copy of the same folder is its place, a SIGKILL ends it at a moment drawn
from all of that time (``gc``: when a number of objects, drawn at random, is gone), and it is called once more, with
nothing done by hand in between; an export that had its file in place already is not, since it would be refused. The
call must end well, the result must equal the undisturbed one to the bit, no tile that was committed may be made again,
no lock may be in the way, and nothing may be left over. Ends with 1 if not.
"""

import argparse
import hashlib
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import yaml
import zarr

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos_checks import find_left_over, find_recomputed
from region import JULY, Region, run_mapper

from mapper.store.garbage import collect_garbage
from mapper.store.map_store import MapStore
from mapper.store.verify import verify_store
from mapper.synthetic.scenes import write_scenes

CONTEXT = multiprocessing.get_context("forkserver")
RECIPE = {
    "model": {"options": {"width": 2}},
    "patch_px": 40,
    "batch": 2,
    "steps": 40,
    "checkpoint_every": 4,
    "threads": 1,
}
PATIENCE = 120
"""Seconds after which a call counts as hung."""
MUCH = 1500
"""Files that nothing refers to, for ``gc`` to remove."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command, the folder that it is called in, and what must be the same afterwards."""

    name: str
    template: Path
    arguments: Callable[[Region], list[object]]
    result: Callable[[Region], object]
    """All that the command made, comparable."""
    faults: Callable[[Region], list[str]]
    is_done: Callable[[Region], bool] = lambda _: False
    """Whether a file is there as a whole, so that another call would rightly be refused."""
    is_due: Callable[[Region, int], bool] | None = None
    """Whether so many objects are gone already; None: kills go by the clock."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One kill and what came of it."""

    command: str
    moment: str
    struck: bool
    """Whether the command was still at work."""
    faults: tuple[str, ...]


def call(arguments, log):
    """Call the program in a process whose imports are done; exits with its code."""
    with Path(log).open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from mapper.cli import main  # noqa: PLC0415 - imported before, where processes are forked

    sys.argv = ["mapper", *map(str, arguments)]
    main()


def start(command, place):
    process = CONTEXT.Process(target=call, args=(command.arguments(place), place.folder / "call.log"))
    process.start()
    return process


def finish(process):
    """Wait for the end of a call; its exit code, or None if it hung."""
    process.join(PATIENCE)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


def rest(command, folder):
    """Seconds and result of an undisturbed call."""
    place = Region(command.template).copy(folder / f"{command.name}-calm")
    started = time.monotonic()
    code = finish(start(command, place))
    seconds = time.monotonic() - started
    faults = command.faults(place)
    if code or faults:
        said = (place.folder / "call.log").read_text()
        raise RuntimeError(f"{command.name} undisturbed: code {code}, {faults}, {said}")
    return seconds, command.result(place)


def strike(command, number, chance, calm, folder):
    """Kill a command at a random moment, call it again, and compare."""
    seconds, expected = calm
    place = Region(command.template).copy(folder / f"{command.name}-{number}")
    process = start(command, place)
    moment = await_moment(command, place, process, chance, seconds)
    process.kill()
    process.join()
    struck = process.exitcode != 0
    code = 0 if command.is_done(place) else finish(start(command, place))
    faults = [f"called again it left with {code}: {(place.folder / 'call.log').read_text()[-600:]}"] * (code != 0)
    if not faults:
        faults += command.faults(place)
        faults += ["the result differs from the undisturbed one"] * (command.result(place) != expected)
    if not faults:
        shutil.rmtree(place.folder)
    return Trial(command=command.name, moment=moment, struck=struck, faults=tuple(faults))


def await_moment(command, place, process, chance, seconds):
    """Wait until it is time to kill; when that was."""
    if command.is_due is None:
        moment = chance.uniform(0, seconds)
        process.join(moment)
        return f"{moment:.2f} of {seconds:.2f} s"
    gone = chance.randrange(MUCH)
    while process.exitcode is None and not command.is_due(place, gone):
        time.sleep(0.0005)
    return f"{gone} of {MUCH} objects gone"


def contents_of(location):
    """Checksum of every array at main, by its path."""
    return digest_arrays(MapStore.open(location).ledger.session.store)


def digest_arrays(store):
    """Checksum of every array of a Zarr store, by its path; not of the ledger: it tells times and commits."""
    arrays = zarr.open_group(store, mode="r").members(max_depth=None)
    return {
        path: digest(node[...])
        for path, node in arrays
        if isinstance(node, zarr.Array) and not path.startswith("ledger/")
    }


def digest(values):
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def store_faults(location):
    """All that is wrong with a store after it was made or mended."""
    faults = list(find_recomputed(MapStore.open(location).ledger))
    collect_garbage(location)
    faults += find_left_over(location)
    verdict = verify_store(location)
    return faults + ([] if verdict.is_complete else [f"verify: {verdict.to_text()}"])


def copy_of(place):
    """Checksums of all arrays of an exported Zarr store, the names of its files and of what lies beside it."""
    out = place.folder / "out.zarr"
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*"))
    return digest_arrays(out), files, sorted(path.name for path in place.folder.iterdir())


def image_of(place):
    """Checksum of an exported GeoTIFF's pixels, and the names of what lies beside it."""
    with rasterio.open(place.folder / "out.tif") as file:
        return digest(file.read()), sorted(path.name for path in place.folder.iterdir())


def digest_file(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights_of(place):
    """Weights that were trained, and the names of all that was written."""
    folder = place.folder / "weights"
    return digest_file(folder / "mine.safetensors"), sorted(path.name for path in folder.iterdir())


def history_of(place):
    """Number of versions, and the contents of the last."""
    versions = list(MapStore.open(place.store).repository.ancestry(branch="main"))
    return len(versions), contents_of(place.store)


def make_templates(folder):
    """Folders as commands find them: scenes; a map and its levels; one with garbage, with a history, or damaged."""
    scenes = folder / "scenes"
    write_scenes(scenes / "catalog", size_px=240, seed=11, tile_px=60, chunk_px=30, dates=1, margin_px=60)
    region = Region(scenes).change(model={"name": "bicubic"}, guide=JULY)
    (scenes / "train.yaml").write_text(yaml.safe_dump(recipe_of()))
    must("search", region.map)
    made = region.copy(folder / "made")
    must("run", made.map, "--commit-tiles", "1")
    levels = made.copy(folder / "levels")
    must("pyramid", levels.store)
    return {
        "scenes": scenes,
        "made": made.folder,
        "levels": levels.folder,
        "garbage": litter(levels.copy(folder / "garbage")).folder,
        "damaged": damage(levels.copy(folder / "damaged")).folder,
    }


def recipe_of():
    return {"name": "mine", "out": "weights", "data": [{"kind": "wald", "maps": ["map.yaml"]}], **RECIPE}


def must(*arguments):
    code, said = run_mapper(*arguments)
    if code:
        raise RuntimeError(f"mapper {arguments}: {said}")


def litter(place):
    """Leave files that no version refers to: chunks under names of Icechunk's, and some that were never finished."""
    chunks = place.store / "chunks"
    chance = random.Random(5)
    for number in range(MUCH):
        name = "".join(chance.choice("0123456789ABCDEFGHJKMNPQRSTVWXYZ") for _ in range(19)) + "0"
        (chunks / (f"{name}#1" if number % 10 == 0 else name)).write_bytes(b"x" * 1000)
    return place


def damage(place):
    """Spoil the largest shards of a map: pixels that the ledger does not know."""
    shards = sorted((place.store / "chunks").iterdir(), key=lambda path: path.stat().st_size)[-3:]
    for path in shards:
        whole = bytearray(path.read_bytes())
        whole[len(whole) // 2] ^= 255
        path.write_bytes(whole)
    return place


def commands(templates):
    """All commands that are killed."""
    at = {name: Path(path) for name, path in templates.items()}
    few = ["--commit-tiles", 1]

    def map_faults(place):
        return store_faults(place.store)

    def guide_faults(place):
        return store_faults(place.folder / "map.guide.icechunk")

    def repaired(place):
        collect_garbage(place.store)
        verdict = verify_store(place.store)
        return [*find_left_over(place.store), *([] if verdict.is_complete else [verdict.to_text()])]

    def uncollected(place):
        left = list(find_left_over(place.store))
        return left + ["a second collection found more"] * bool(collect_garbage(place.store).objects)

    return [
        Command(name="run", template=at["scenes"], arguments=lambda r: ["run", r.map, *few],
                result=lambda r: contents_of(r.store), faults=map_faults),
        Command(name="composite", template=at["scenes"], arguments=lambda r: ["composite", r.map, *few],
                result=lambda r: contents_of(r.folder / "map.guide.icechunk"), faults=guide_faults),
        Command(name="pyramid", template=at["made"], arguments=lambda r: ["pyramid", r.store, *few],
                result=lambda r: contents_of(r.store), faults=map_faults),
        Command(name="export-zarr", template=at["levels"],
                arguments=lambda r: ["export", r.store, "--out", r.folder / "out.zarr"],
                result=copy_of, is_done=lambda r: (r.folder / "out.zarr").exists(), faults=lambda _: []),
        Command(name="export-geotiff", template=at["levels"],
                arguments=lambda r: ["export", r.store, "--out", r.folder / "out.tif"],
                result=image_of, is_done=lambda r: (r.folder / "out.tif").exists(), faults=lambda _: []),
        Command(name="train", template=at["scenes"], arguments=lambda r: ["train", r.folder / "train.yaml"],
                result=weights_of, faults=lambda _: []),
        Command(name="gc", template=at["garbage"], arguments=lambda r: ["store", "gc", r.store],
                result=lambda r: contents_of(r.store), faults=uncollected, is_due=is_gone),
        Command(name="expire", template=at["levels"],
                arguments=lambda r: ["store", "expire", r.store, "--older-than", "0"],
                result=history_of, faults=map_faults),
        Command(name="repair", template=at["damaged"], arguments=lambda r: ["verify", r.map, "--repair"],
                result=lambda r: contents_of(r.store), faults=repaired),
    ]  # fmt: skip


def is_gone(place, number):
    """Whether so many of the files that nothing refers to are gone."""
    with os.scandir(place.store / "chunks") as entries:
        there = sum(1 for _ in entries)
    if place.folder not in _FIRST:
        _FIRST[place.folder] = there
    return _FIRST[place.folder] - there > number


_FIRST: dict[Path, int] = {}
"""Files that were there before anything was removed, by place."""


def main():
    """Kill commands, and print what became of them; the exit code."""
    arguments = parse_arguments()
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="kills-"))
    CONTEXT.set_forkserver_preload(["mapper.cli", "mapper.run.runner", "mapper.cli.maps", "torch", "mapper.serve"])
    began, chance = time.monotonic(), random.Random(arguments.seed)
    chosen = [each for each in commands(make_templates(folder)) if arguments.only in (None, each.name)]
    calm = {each.name: rest(each, folder) for each in chosen}
    trials = []
    for number in range(arguments.kills):
        command = chosen[number % len(chosen)]
        trials.append(strike(command, number, chance, calm[command.name], folder))
        say(f"{number + 1:4d}  {describe(trials[-1])}")
    say(summarize(trials, calm, time.monotonic() - began))
    failed = any(trial.faults for trial in trials)
    if failed:
        say(f"what was left of the trials that went wrong: {folder}")
    elif not arguments.folder:
        shutil.rmtree(folder)
    return int(failed)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=108)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="this command alone")
    parser.add_argument("--folder", help="for scenes, stores and logs; default: a temporary one")
    return parser.parse_args()


def describe(trial):
    late = "" if trial.struck else " (was done)"
    return f"{trial.command:15s} {trial.moment}{late}: {'; '.join(trial.faults) or 'no fault'}"


def summarize(trials, calm, seconds):
    """All trials by command: kills, how many struck a command at work, faults, seconds of an undisturbed call."""
    lines = ["command          kills  at work  faults  undisturbed"]
    for name, (calm_seconds, _) in calm.items():
        mine = [trial for trial in trials if trial.command == name]
        struck, wrong = sum(trial.struck for trial in mine), sum(bool(trial.faults) for trial in mine)
        lines.append(f"{name:15s} {len(mine):6d} {struck:8d} {wrong:7d} {calm_seconds:8.2f} s")
    return "\n".join([*lines, f"{len(trials)} kills in {seconds:.0f} s"])


def say(text):
    print(text, flush=True)  # noqa: T201 - a program


if __name__ == "__main__":
    sys.exit(main())
