"""A small cluster of real processes that are killed while they make a map, each started again as Kubernetes would.

Scheduler and workers are kept alive like the pods of a Deployment; the driver is a Job: it is started again until it
ends well, a bounded number of times. What must hold whatever is killed is in :mod:`chaos_checks`.
"""

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from chaos_checks import Watcher, checksums_of, find_faults
from region import Region

from mapper.cluster.kubernetes.objects import render_objects
from mapper.cluster.settings import ClusterSettings
from mapper.synthetic.scenes import write_scenes

KINDS = ("driver", "scheduler", "worker")
KILLS = 3
WORKERS = 2
DRIVER_ATTEMPTS = 10
_WRONG_REQUEST = 2
_PATIENCE = 300.0
"""Seconds after which a run counts as hung."""
_SLOW_TILE = 0.3
"""Seconds, see :mod:`slow_tiles`."""
_LAST = 8
"""Tiles at the end of a map that no kill waits for: they might all be back when it comes."""
_HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One SIGKILL, whose moment does not depend on how fast the machine is at that time."""

    victim: str
    seconds: float
    """After the start of the driver, or after so many tiles have come back and some are out."""
    tiles: int = -1
    """-1: while the driver is starting."""


@dataclass(frozen=True, kw_only=True)
class Calm:
    """An undisturbed run."""

    checksums: dict
    seconds: float
    """From the start of the driver to its end."""
    working: float
    """Seconds after the start of the driver when the first tiles were out."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A run, and what was wrong with it."""

    name: str
    killed: tuple[tuple[str, float, int], ...]
    """Victim, seconds after the start, tiles that had come back by then (-1: the driver was starting)."""
    exits: tuple[int, ...]
    """Exit codes of the driver."""
    seconds: float
    computed: int
    """Tiles that came back to a driver."""
    snapshots: int
    """Versions of the store that the reader checked, tile by tile."""
    collected: int
    """Objects and files that nothing referred to in the end, removed as garbage."""
    faults: tuple[str, ...]


def draw_kills(seed, calm):
    """Who is killed when: moments all over the undisturbed run, at least one of them while tiles are out."""
    chance = random.Random(seed)
    moments = [chance.uniform(0, calm.seconds) for _ in range(KILLS - 1)]
    moments.append(chance.uniform(calm.working, calm.seconds))
    return [_draw_kill(chance, moment, calm) for moment in sorted(moments)]


def _draw_kill(chance, moment, calm):
    kind = chance.choice(KINDS)
    number, delay = chance.randrange(WORKERS), chance.uniform(0, _SLOW_TILE)
    victim = f"worker-{number}" if kind == "worker" else kind
    if moment < calm.working:
        return Kill(victim=victim, seconds=moment)
    part = (moment - calm.working) / (calm.seconds - calm.working)
    tiles = int(part * (len(calm.checksums) - _LAST))
    return Kill(victim=victim, seconds=delay, tiles=tiles)


def make_region(folder, size_px=440):
    """Scenes of a map of 64 tiles, or another number of them, each a fraction of a second."""
    write_scenes(folder / "catalog", size_px=size_px, seed=11, tile_px=60, chunk_px=30, dates=1, margin_px=60)
    return Region(folder).change(model={"name": "bicubic"})


class Supervised:
    """A process that is started again whenever it ends.

    Args:
        name: For its log.
        command: What to run.
        folder: Where its log goes.
        done: Told an exit code, whether to leave it at that.
    """

    def __init__(self, name, command, folder, *, done=lambda _code: False, **variables):
        self.name, self.exits = name, []
        self._command, self._done = [str(word) for word in command], done
        self._log, self._environment = folder / f"{name}.log", os.environ | variables
        self._stopping = threading.Event()
        self._process = self._start()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    @property
    def is_alive(self):
        return self._thread.is_alive()

    def kill(self):
        """Kill it as it is now, or as soon as it is there again."""
        while self._process.poll() is not None and self.is_alive:
            time.sleep(0.01)
        self._process.kill()

    def wait(self, seconds):
        """Wait until it need not be started again; whether that came to be."""
        self._thread.join(seconds)
        return not self.is_alive

    def stop(self):
        self._stopping.set()
        self._process.kill()
        self._thread.join()

    def _start(self):
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)

    def _keep(self):
        while True:
            self.exits.append(self._process.wait())
            if self._done(self.exits[-1]) or self._stopping.is_set():
                return
            self._process = self._start()
            if self._stopping.is_set():
                self._process.kill()


@dataclass(kw_only=True)
class Cluster:
    """A scheduler and its workers, all under supervision."""

    folder: Path
    address: str
    processes: dict[str, Supervised] = field(default_factory=dict)

    def run(self, region, *, name, kills=(), calm=None, attempts=DRIVER_ATTEMPTS):
        """Make a map in a folder of its own while processes are killed; with ``calm`` everything is checked."""
        place = region.copy(self.folder / f"run-{name}")
        log, started = place.folder / "run.jsonl", time.monotonic()
        with Watcher(place) as watcher:
            driver = Supervised(
                "driver",
                driver_command(place.map, self.address, log),
                place.folder,
                done=_count_down(attempts),
                **quiet(),
            )
            try:
                killed = tuple(self._kill(kill, driver, log, started) for kill in kills)
                ended = driver.wait(_PATIENCE)
            finally:
                driver.stop()
        seconds = time.monotonic() - started
        events = read_events(log)
        faults = [] if ended and driver.exits[-1] == 0 else [f"no end: the driver left with {driver.exits}"]
        collected = 0
        if calm:
            faults += ["a kill came too late"] * sum(victim == "nobody" for victim, *_ in killed)
            found, collected = find_faults(place, watcher, calm.checksums)
            faults += found
        report = Report(
            name=name,
            killed=killed,
            exits=tuple(driver.exits),
            seconds=seconds,
            computed=sum(event["event"] == "TileFinished" for event in events),
            snapshots=watcher.snapshots,
            collected=collected,
            faults=tuple(faults),
        )
        return report, place

    def rest(self, region):
        """An undisturbed run."""
        started = time.time()
        report, place = self.run(region, name="calm")
        if report.faults:
            raise RuntimeError(f"an undisturbed run went wrong: {report.faults}, see {place.folder}")
        first, *_ = read_events(place.folder / "run.jsonl")
        working = datetime.fromisoformat(first["time"]).timestamp() - started
        return Calm(checksums=checksums_of(place), seconds=report.seconds, working=working)

    def _kill(self, kill, driver, log, started):
        """Wait for the moment of a kill, and kill; who it was, when, and how far the driver was."""
        while not _is_due(kill, log, started):
            if not driver.is_alive or time.monotonic() > started + _PATIENCE:
                return "nobody", time.monotonic() - started, kill.tiles
            time.sleep(0.02)
        if kill.tiles >= 0:
            time.sleep(kill.seconds)
        victim = driver if kill.victim == "driver" else self.processes[kill.victim]
        victim.kill()
        return kill.victim, time.monotonic() - started, kill.tiles


@contextmanager
def start_cluster(folder, **changes):
    """A scheduler on a fixed port, and workers, with the settings of a cluster on Kubernetes or others."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    cluster = Cluster(folder=folder, address=f"tcp://127.0.0.1:{port}")
    variables = {role: settings_of(role) | quiet() | changes for role in ("scheduler", "worker")}
    with ExitStack() as stack:
        command = scheduler_command("127.0.0.1", port)
        cluster.processes["scheduler"] = Supervised("scheduler", command, folder, **variables["scheduler"])
        stack.callback(cluster.processes["scheduler"].stop)
        for number in range(WORKERS):
            name = f"worker-{number}"
            command = [*worker_command(cluster.address, folder), "--host", "127.0.0.1", "--name", name]
            cluster.processes[name] = Supervised(name, command, folder, **variables["worker"])
            stack.callback(cluster.processes[name].stop)
        yield cluster


def driver_command(map_path, address, log):
    """A driver that commits often."""
    options = ["--cluster", address, "--commit-tiles", 8, "--log", log]
    return [sys.executable, "-m", "mapper.cli", "run", map_path, *options]


def scheduler_command(host, port):
    """A scheduler on a port that stays the same."""
    options = ["--host", host, "--port", port, "--no-dashboard", "--dashboard-address", f"{host}:0", "--no-show"]
    return [sys.executable, "-m", "dask", "scheduler", *options]


def worker_command(address, folder):
    """A worker as a pod runs it, whose tiles take longer."""
    options = ["--nthreads", 2, "--no-nanny", "--no-dashboard", "--memory-limit", 0, "--local-directory", folder]
    return [sys.executable, "-m", "dask", "worker", address, *options, "--preload", _HERE / "slow_tiles.py"]


def settings_of(role):
    """Dask's settings of schedulers or workers as a cluster on Kubernetes has them."""
    settings = ClusterSettings.model_validate({"pools": {"readers": {}}, "secrets": {"tls": None}})
    spec = render_objects(settings)["pool-readers"][0]["spec"][role]["spec"]
    variables = {variable["name"]: variable.get("value") for variable in spec["containers"][0]["env"]}
    return {name: value for name, value in variables.items() if name.startswith("DASK_DISTRIBUTED__")}


def quiet():
    """Variables of processes that share two cores."""
    return {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def read_events(log):
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def _is_due(kill, log, started):
    events = read_events(log)
    returned = sum(event["event"] == "TileFinished" for event in events)
    if kill.tiles < 0:
        return time.monotonic() >= started + kill.seconds or returned > 0  # a start that is faster than usual
    return returned >= kill.tiles and _are_out(events)


def _are_out(events):
    """Whether the driver at work waits for tiles: not while it starts, nor when it has all of them."""
    starts = [number for number, event in enumerate(events) if event["event"] == "RunStarted"]
    if not starts or events[-1]["event"] == "RunFinished":
        return False
    mine = events[starts[-1] :]
    return sum(event["event"] == "TileFinished" for event in mine) < mine[0]["tiles"]


def _count_down(attempts):
    """Whether a Job is over, told its pod's exit codes one by one."""
    exits = []

    def done(code):
        exits.append(code)
        return code in (0, _WRONG_REQUEST) or len(exits) >= attempts

    return done
