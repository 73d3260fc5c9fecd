"""Hosts on one machine, one of which is cut off in the middle of a run without any packet telling so.

    python tests/network_hosts.py FOLDER

FOLDER holds a map as :func:`chaos.make_region` makes it. Scheduler and driver run on one host, a worker on each of two
others: network namespaces joined by a bridge, inside private network, mount and process namespaces, so that nothing
outside is touched and the kernel ends every process with this one. Prints one JSON object. Needs iproute2, util-linux,
and root or user namespaces.
"""

import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from chaos import driver_command, quiet, read_events, scheduler_command, settings_of, worker_command

BEFORE = 12
"""Tiles that come back before the cut."""
TIMEOUTS = {
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "8 s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12 s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5 s",
}
"""Shorter than on Kubernetes, where Dask's own hold: 5 minutes, 30 s, 30 s."""
_HOSTS = {"control": "10.77.0.1", "near": "10.77.0.2", "far": "10.77.0.3"}
_PATIENCE = 150
_SPACES = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What became of a run."""

    exit: int
    seconds: float
    cut_after: int
    """Tiles that had come back when the host was cut off."""
    silence: float
    """Longest time in seconds without a tile after that."""
    pids: dict[str, int]
    """Of each host's worker, as the records name them."""
    far_alive: bool
    """Whether the worker that was cut off was still running when it was."""


def unshared(*command):
    """A command in namespaces of its own."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, *_SPACES, *map(str, command)]


def can_have_hosts():
    """Whether network namespaces can be made here."""
    script = "mkdir -p /run/netns; mount -t tmpfs none /run/netns && ip netns add x && ip link add bridge0 type bridge"
    try:
        return subprocess.run(unshared("sh", "-c", script), capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def cut_off_a_host(folder, **timeouts):
    """Make the map of a folder while a host is cut off; what became of it."""
    command = unshared(sys.executable, __file__, folder)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | timeouts)
    return Cut(**json.loads(done.stdout))


def main():
    folder = Path(sys.argv[1])
    make_hosts()
    address = f"tcp://{_HOSTS['control']}:8786"
    scheduler = scheduler_command(_HOSTS["control"], 8786)
    start("control", "scheduler", scheduler, folder, **settings_of("scheduler"))
    workers = {
        host: start(host, host, [*worker_command(address, folder), "--host", _HOSTS[host]], folder)
        for host in ("near", "far")
    }
    log, started = folder / "run.jsonl", time.monotonic()
    driver = start("control", "driver", driver_command(folder / "map.yaml", address, log), folder)
    times = []
    while driver.poll() is None and time.monotonic() < started + _PATIENCE:
        returned = count_returned(log)
        if len(times) < BEFORE <= returned:
            far_alive = workers["far"].poll() is None
            ip("link", "set", "v-far", "down")
            cut = time.monotonic(), returned
        times += [time.monotonic()] * (returned - len(times))
        time.sleep(0.05)
    after = [cut[0], *times[cut[1] :]]
    report = Cut(
        exit=driver.poll() if driver.poll() is not None else -1,
        seconds=time.monotonic() - started,
        cut_after=cut[1],
        silence=max(b - a for a, b in itertools.pairwise(after)),
        pids={host: worker.pid for host, worker in workers.items()},
        far_alive=far_alive,
    )
    sys.stdout.write(json.dumps(asdict(report)))


def make_hosts():
    """Namespaces joined by a bridge."""
    Path("/run/netns").mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run/netns"], check=True)
    ip("link", "add", "bridge0", "type", "bridge")
    ip("link", "set", "bridge0", "up")
    for host, address in _HOSTS.items():
        ip("netns", "add", host)
        ip("link", "add", f"v-{host}", "type", "veth", "peer", "name", "eth0", "netns", host)
        ip("link", "set", f"v-{host}", "master", "bridge0", "up")
        ip("-n", host, "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", host, "link", "set", "eth0", "up")
        ip("-n", host, "link", "set", "lo", "up")


def ip(*words):
    """Configure the network."""
    subprocess.run(["ip", *words], check=True)


def start(host, name, command, folder, **variables):
    """Start a process on a host."""
    with (folder / f"{name}.log").open("wb") as log:
        words = ["ip", "netns", "exec", host, *map(str, command)]
        environment = TIMEOUTS | os.environ | quiet() | variables
        return subprocess.Popen(words, stdout=log, stderr=log, env=environment)


def count_returned(log):
    """Tiles that came back."""
    return sum(event["event"] == "TileFinished" for event in read_events(log))


if __name__ == "__main__":
    main()
