"""Run by ``with_operator.sh``: launches a cluster in several ways, makes maps on it, and tells what it saw.

Arguments: settings of the cluster, a folder with its certificates, two MAP.yaml. All commands of mapper run
with the rights of the launcher's role. Prints one JSON document.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

LAUNCHER = os.environ | {"KUBECONFIG": str(Path(os.environ["RUN"]) / "launcher")}


def kubectl(*arguments):
    command = ["kubectl", "--namespace", "mapper", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def make_secret(certificates):
    data = {path.name: base64.b64encode(path.read_bytes()).decode() for path in certificates.iterdir()}
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "mapper"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mapper-tls"}, "data": data},
    ]
    path = certificates.parent / "objects.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    kubectl("create", "--validate=false", "--filename", str(path))


def start(*arguments):
    command = [sys.executable, "-m", "mapper.cli", *map(str, arguments)]
    return subprocess.Popen(command, env=LAUNCHER, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    said, errors = process.communicate(timeout=300)
    return {"code": process.returncode, "said": said, "errors": errors}


def mapper(*arguments):
    return finish(start(*arguments))


def states():
    """Phase of every pod, by name."""
    pods = json.loads(kubectl("get", "pods", "--output", "json"))["items"]
    return {pod["metadata"]["name"]: pod["status"]["phase"] for pod in pods}


def processes(*words):
    """Process ids by command line; in a PID namespace of its own these are the cluster's."""
    listed = subprocess.run(["ps", "axww", "-o", "pid,args"], check=True, capture_output=True, text=True).stdout
    lines = [line.split(maxsplit=1) for line in listed.splitlines()]
    return {int(number): text for number, text in lines[1:] if any(word in text for word in words)}


def left():
    return {"pods": states(), "processes": list(processes("dask scheduler", "dask worker").values())}


def await_event(name, run, log):
    """Wait for the first event of a kind in a run's log."""
    deadline = time.monotonic() + 200
    while not (log.exists() and name in log.read_text()):
        if run.poll() is not None:
            raise RuntimeError(f"the run ended early: {finish(run)}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {name}: {states()}")
        time.sleep(0.05)


def launch_by_hand(settings, made):
    """Up, up again, a map on it, another size, down."""
    saw = {"up": mapper("cluster", "up", settings, "--wait", "180"), "pods": states()}
    saw["again"] = mapper("cluster", "up", settings, "--wait", "180")
    saw["run"] = mapper("run", made, "--cluster", "kubernetes:readers", "--settings", settings, "--json")
    saw["stays"] = states()
    saw["down"] = mapper("cluster", "down", settings)
    return saw | {"left": left()}


def stop_midway(made):
    """A run that brings its pool up is told to stop when it has begun."""
    log = made.parent / "events.jsonl"
    run = start("run", made, "--cluster", "kubernetes", "--log", log, "--commit-tiles", "1")
    await_event("TileFinished", run, log)
    up = states()
    run.send_signal(signal.SIGTERM)
    saw = {"run": finish(run), "up": up, "left": left()}
    shutil.copytree(made.parent / "map.icechunk", made.parent / "stopped.icechunk")
    return saw


def lose_the_api(made):
    """The API server dies when a run has begun with what is left of a map."""
    log = made.parent / "more.jsonl"
    run = start("run", made, "--cluster", "kubernetes", "--keep-cluster", "--log", log)
    await_event("RunStarted", run, log)
    (api,) = processes("kubernetes_api.py")
    os.kill(api, signal.SIGKILL)
    return {"run": finish(run), "left": list(processes("dask worker").values())}


def main():
    settings, certificates, by_hand, stopped = map(Path, sys.argv[1:])
    make_secret(certificates)
    saw = {"by_hand": launch_by_hand(settings, by_hand), "stopped": stop_midway(stopped), "lost": lose_the_api(stopped)}
    sys.stdout.write(json.dumps(saw))


if __name__ == "__main__":
    main()
