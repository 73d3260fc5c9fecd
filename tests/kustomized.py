"""The manifests in deploy/kubernetes, as kubectl puts them together."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).parents[1] / "deploy" / "kubernetes"
OVERLAYS = DEPLOY / "overlays"
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def objects_of(text):
    return [each for each in yaml.safe_load_all(text) if each]


def kustomize(folder):
    command = ["kubectl", "kustomize", str(folder)]
    return objects_of(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def by_name(manifests):
    return {(each["kind"], each["metadata"]["name"]): each for each in manifests}
