"""Kubernetes objects as files: a folder that ``kubectl apply -k`` takes, or one stream for ``kubectl apply -f -``."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from mapper.cluster.kubernetes.objects import render_objects
from mapper.cluster.kubernetes.pods import Manifest
from mapper.cluster.settings import ClusterSettings

_HEADER = "# Rendered by `mapper cluster render`.\n"


class _Dumper(yaml.SafeDumper):
    """YAML writer without anchors, which help nobody who reads a manifest: repeated parts are written again."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def render_files(settings: ClusterSettings) -> dict[str, str]:
    """Return the contents of the files of a kustomize base, by name; the same settings give the same bytes."""
    files = {f"{name}.yaml": _to_text(objects) for name, objects in render_objects(settings).items()}
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(files),
    }
    return {**files, "kustomization.yaml": _to_text([kustomization])}


def render_stream(settings: ClusterSettings) -> str:
    """Return all objects as one stream of YAML documents."""
    return _to_text(each for objects in render_objects(settings).values() for each in objects)


def write_files(files: Mapping[str, str], folder: Path) -> list[Path]:
    """Write rendered files into a folder, which is made if need be; other files in it stay. Returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in files]
    for path in paths:
        path.write_text(files[path.name], encoding="utf-8")
    return paths


def _to_text(objects: Iterable[Manifest]) -> str:
    return _HEADER + yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=120)
