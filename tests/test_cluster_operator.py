"""The real Dask operator brings up what is rendered, with real processes, against a stand-in for the API server."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from region import run_json

from mapper.cluster.manifests import render_stream
from mapper.cluster.settings import parse_settings

pytest.importorskip("dask_kubernetes", reason="pip install mapper[kubernetes] brings the Dask operator")
pytest.importorskip("jsonpatch", reason="the stand-in for the API server needs jsonpatch")

HERE = Path(__file__).parent
MISSING = [tool for tool in ("kubectl", "unshare", "openssl", "ps") if shutil.which(tool) is None]
ENTER = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--mount", "--pid", "--fork", "true"]


def may_enter_namespaces():
    return not MISSING and subprocess.run(ENTER, check=False, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not may_enter_namespaces(), reason=f"no namespaces here, or missing: {MISSING}")


def make_certificates(folder):
    folder.mkdir()
    made = ["-keyout", folder / "tls.key", "-out", folder / "tls.crt", "-subj", "/CN=mapper", "-days", "1"]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *made], check=True, capture_output=True)
    shutil.copy(folder / "tls.crt", folder / "ca.crt")
    prefix = "DASK_DISTRIBUTED__COMM__TLS__"
    return {
        f"{prefix}CA_FILE": str(folder / "ca.crt"),
        f"{prefix}CLIENT__CERT": str(folder / "tls.crt"),
        f"{prefix}CLIENT__KEY": str(folder / "tls.key"),
    }


def test_the_operator_brings_up_two_pools_over_tls_and_leaves_nothing(region, tmp_path):
    region.change(model={"name": "bicubic"})
    pools = {
        "readers": {"size": 2, "cpu": 1, "memory": "1Gi", "threads": 1, "spot": True},
        "gpu": {"size": 1, "cpu": 1, "memory": "1Gi", "gpu": True},
    }
    variables = make_certificates(tmp_path / "tls")
    text = render_stream(parse_settings({"pools": pools})).replace("/etc/mapper/tls", str(tmp_path / "tls"))
    manifests = tmp_path / "manifests.yaml"
    manifests.write_text(text)
    address = "tls://mapper-readers-scheduler.mapper:8786"
    trial = [sys.executable, HERE / "operator_trial.py", manifests, region.map, address, "5"]
    run = tmp_path / "operator"
    given = os.environ | variables | {"PYTHON": sys.executable, "RUN": str(run)}
    command = ["bash", HERE / "with_operator.sh", *trial]
    done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=300, check=False)
    logs = "".join(f"{path.name}: {path.read_text()[-800:]}\n" for path in sorted(run.glob("*.log")))
    assert done.returncode == 0, done.stderr + logs
    saw = json.loads(done.stdout.splitlines()[-1])
    names = {name.rsplit("-", 1)[0].split("-worker-")[0] for name in saw["up"]}
    assert names == {f"mapper-{pool}-{part}" for pool in pools for part in ("scheduler", "default")}
    assert saw["code"] == 0, saw["errors"] + logs
    status = run_json("status", region.store, "--json")
    assert status["ok"] + status["empty"] == status["tiles"]
