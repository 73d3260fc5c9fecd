"""Run by ``with_operator.sh``: brings a rendered cluster up, makes a map on it, takes it down, and tells what it saw.

Arguments: the rendered manifests, the map, and the address of the scheduler of its pool. Prints one JSON document.
"""

import json
import subprocess
import sys
import time


def kubectl(*arguments):
    command = ["kubectl", "--namespace", "mapper", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def states():
    """Phase of every pod, by name."""
    pods = json.loads(kubectl("get", "pods", "--output", "json"))["items"]
    return {pod["metadata"]["name"]: pod["status"]["phase"] for pod in pods}


def processes():
    """Command lines of Dask processes; in a PID namespace of its own these are the cluster's."""
    listed = subprocess.run(["ps", "ax", "-o", "args"], check=True, capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if "dask scheduler" in line or "dask worker" in line]


def wait(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s: {states()}")
        time.sleep(0.2)


def main():
    manifests, map_path, address, pods = sys.argv[1:]
    kubectl("create", "--validate=false", "--filename", manifests)
    wait(lambda: list(states().values()).count("Running") == int(pods), 90)
    up = states()
    run = [sys.executable, "-m", "mapper.cli", "run", map_path, "--cluster", address, "--json"]
    finished = subprocess.run(run, check=False, capture_output=True, text=True)
    kubectl("delete", "--filename", manifests)
    wait(lambda: not states() and not processes(), 60)
    sys.stdout.write(
        json.dumps({"up": up, "code": finished.returncode, "said": finished.stdout, "errors": finished.stderr})
    )


if __name__ == "__main__":
    main()
