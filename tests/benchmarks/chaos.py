"""Many maps made while processes are killed, and a table of what became of them.

    python tests/benchmarks/chaos.py [--runs 30] [--first-seed 1] [--folder DIR] [--json FILE]

A scheduler, two workers and a driver, all real processes on this machine, make a map of 64 tiles; in each run three of
them are killed (SIGKILL) at random moments and started again, as Kubernetes would. Ends with 1 if any map differs from
that of an undisturbed run, a committed tile was made again, a reader saw part of a tile, or anything was left over.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from chaos import draw_kills, make_region, start_cluster

HEAD = (
    "seed  killed (seconds after the start, tiles back)                      starts   s  tiles  again  seen  gc  faults"
)


def main() -> int:
    """Make the maps; the exit code."""
    arguments = parse_arguments()
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="chaos-"))
    began = time.monotonic()
    region = make_region(folder / "region")
    with start_cluster(folder) as cluster:
        calm = cluster.rest(region)
        say(f"undisturbed: {calm.seconds:.1f} s, of which {calm.working:.1f} s until the first tile is out\n{HEAD}")
        reports = []
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.runs):
            report, place = cluster.run(region, name=str(seed), kills=draw_kills(seed, calm), calm=calm)
            reports.append(report)
            say(describe(report, len(calm.checksums)))
            if not report.faults:
                shutil.rmtree(place.folder)
        restarts = sum(len(process.exits) for process in cluster.processes.values())
    if arguments.json:
        Path(arguments.json).write_text(json.dumps([asdict(report) for report in reports], indent=1))
    say(summarize(reports, calm, time.monotonic() - began, restarts))
    failed = any(report.faults for report in reports)
    if failed:
        say(f"logs and stores of the runs that went wrong: {folder}")
    elif not arguments.folder:
        shutil.rmtree(folder)
    return int(failed)


def parse_arguments() -> argparse.Namespace:
    """Of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--folder", help="for scenes, stores and logs; default: a temporary one")
    parser.add_argument("--json", help="write the reports to this file as well")
    return parser.parse_args()


def describe(report, tiles: int) -> str:
    """One run as a line of the table."""
    kills = ", ".join(
        f"{victim} {seconds:.1f} s {f'({back})' if back >= 0 else '(starting)'}"
        for victim, seconds, back in report.killed
    )
    counts = f"{len(report.exits):6d} {report.seconds:4.0f} {report.computed:5d} {report.computed - tiles:6d}"
    faults = "; ".join(report.faults) or "none"
    return f"{report.name:>4s}  {kills:68s} {counts} {report.snapshots:5d} {report.collected:4d}  {faults}"


def summarize(reports, calm, seconds: float, restarts: int) -> str:
    """What all runs came to."""
    kills = Counter(victim.partition("-")[0] for report in reports for victim, _, _ in report.killed)
    taken = [report.seconds for report in reports]
    again = [report.computed - len(calm.checksums) for report in reports]
    wrong = sum(bool(report.faults) for report in reports)
    return (
        f"{len(reports)} runs, {sum(kills.values())} kills {dict(kills)}, {wrong} runs with faults, {seconds:.0f} s\n"
        f"a run took {statistics.median(taken):.1f} s (median), {max(taken):.1f} s at worst; undisturbed "
        f"{calm.seconds:.1f} s\n"
        f"tiles made again because they were not committed: {statistics.median(again):g} (median), {max(again)} at "
        f"worst, of {len(calm.checksums)}\n"
        f"scheduler and workers were started again {restarts} times, drivers "
        f"{sum(len(report.exits) - 1 for report in reports)} times"
    )


def say(text: str) -> None:
    """To whoever runs this, at once."""
    print(text, flush=True)  # noqa: T201 - a program


if __name__ == "__main__":
    sys.exit(main())
