"""The real Dask operator brings up what is launched, with real processes, against a stand-in for the API server."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from chaos import make_region
from kustomized import DEPLOY
from region import JULY, run_json

pytest.importorskip("dask_kubernetes", reason="pip install mapper[kubernetes] brings the Dask operator")
pytest.importorskip("jsonpatch", reason="the stand-in for the API server needs jsonpatch")

HERE = Path(__file__).parent
MISSING = [tool for tool in ("kubectl", "unshare", "openssl", "ps") if shutil.which(tool) is None]
ENTER = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--mount", "--pid", "--fork", "true"]
POOLS = {
    "readers": {"size": 2, "cpu": 1, "memory": "2Gi", "threads": 1, "spot": True},
    "gpu": {"size": 1, "cpu": 1, "memory": "3Gi", "threads": 2, "gpu": True},
}
TILES = 16
NOTHING = {"pods": {}, "processes": []}


def may_enter_namespaces():
    return not MISSING and subprocess.run(ENTER, check=False, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not may_enter_namespaces(), reason=f"no namespaces here, or missing: {MISSING}")


def make_certificates(folder):
    folder.mkdir()
    made = ["-keyout", folder / "tls.key", "-out", folder / "tls.crt", "-subj", "/CN=mapper", "-days", "1"]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *made], check=True, capture_output=True)
    shutil.copy(folder / "tls.crt", folder / "ca.crt")
    return folder


@pytest.fixture(scope="module")
def saw(tmp_path_factory):
    """What three launches saw: one by hand, one that is told to stop, one whose API server dies."""
    folder = tmp_path_factory.mktemp("launches")
    demo = make_region(folder / "by_hand", size_px=240).change(guide=JULY)
    settings = demo.folder / "cluster.yaml"
    settings.write_text(yaml.safe_dump({"pools": POOLS, "secrets": {"store": None}}))
    maps = [demo.map, demo.copy(folder / "stopped").map]
    trial = [sys.executable, HERE / "operator_trial.py", settings, make_certificates(folder / "tls"), *maps]
    run = folder / "operator"
    given = os.environ | {"PYTHON": sys.executable, "RUN": str(run), "ROLE": str(DEPLOY / "launcher.yaml")}
    command = ["bash", HERE / "with_operator.sh", *trial]
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=590, check=False)
    logs = "".join(f"{path.name}: {path.read_text()[-800:]}\n" for path in sorted(run.glob("*.log")))
    assert done.returncode == 0, done.stderr + logs
    return json.loads(done.stdout.splitlines()[-1]) | {"folder": folder, "logs": logs}


def status_of(saw, name, store="map.icechunk"):
    status = run_json("status", saw["folder"] / name / store, "--json")
    return status["ok"] + status["empty"], status["tiles"]


def test_up_brings_up_all_pools_and_says_how_to_use_them(saw):
    up = saw["by_hand"]["up"]
    assert up["code"] == 0, up["errors"] + saw["logs"]
    pods = saw["by_hand"]["pods"]
    names = [name.rsplit("-", 1)[0].split("-worker-")[0] for name in pods]
    assert sorted(names) == sorted(
        [*["mapper-readers-default"] * 2, "mapper-readers-scheduler", "mapper-gpu-default", "mapper-gpu-scheduler"]
    )
    assert set(pods.values()) == {"Running"}
    assert "pool readers: 3 of 3 pods ready" in up["errors"]
    assert "mapper run MAP.yaml --cluster kubernetes:gpu --settings" in up["said"]


def test_up_twice_changes_nothing(saw):
    again = saw["by_hand"]["again"]
    assert again["code"] == 0, again["errors"]
    assert not {"made", "changed", "differ", "other"} & set(again["errors"].split()), again["errors"]


def test_a_map_is_made_over_tls_on_a_pool_that_stays(saw):
    run = saw["by_hand"]["run"]
    assert run["code"] == 0, run["errors"] + saw["logs"]
    assert "answers at tls://mapper-readers-scheduler.mapper:8786" in run["errors"]
    assert status_of(saw, "by_hand") == (TILES, TILES)
    assert saw["by_hand"]["stays"] == saw["by_hand"]["pods"]


def test_down_leaves_no_pod_and_no_process(saw):
    down = saw["by_hand"]["down"]
    assert down["code"] == 0, down["errors"] + saw["logs"]
    assert saw["by_hand"]["left"] == NOTHING
    assert "namespace mapper" in down["said"]


def test_a_run_that_is_stopped_takes_down_what_it_brought_up(saw):
    stopped = saw["stopped"]
    assert {name.split("-")[1] for name in stopped["up"]} == {"gpu"}, "only the pool that makes maps is needed"
    assert stopped["run"]["code"] != 0
    assert stopped["left"] == NOTHING, stopped["run"]["errors"]
    assert status_of(saw, "stopped", "stopped.icechunk")[0] >= 1


def test_a_run_goes_on_where_another_stopped_and_without_the_api_server(saw):
    run = saw["lost"]["run"]
    assert run["code"] == 0, run["errors"] + saw["logs"]
    assert status_of(saw, "stopped") == (TILES, TILES)
    assert len(saw["lost"]["left"]) == 1, "what is to be kept is kept"
