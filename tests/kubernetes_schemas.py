"""Strict validation of Kubernetes manifests without a cluster: unknown fields are faults.

Dask's resources are checked against the schemas that come with its operator, closed so that an unknown field fails (an
API server would drop it and say nothing). Then the operator's own builders turn them into the Deployments and Services
that it would make, and these, like all other objects, are checked against the schemas of Kubernetes.
"""

import copy
from functools import cache
from pathlib import Path

import dask_kubernetes
import jsonschema
import kubernetes_validate
import yaml
from dask_kubernetes.operator.controller import controller
from dask_kubernetes.operator.validation import validate_cluster_name

KUBERNETES = "1.34"
_RESOURCES = Path(dask_kubernetes.__file__).parent / "operator/deployment/helm/dask-kubernetes-operator/crds"


def find_faults(manifest):
    """What is wrong with a manifest, one line each."""
    if manifest["apiVersion"].startswith("kubernetes.dask.org/"):
        errors = jsonschema.Draft7Validator(_dask_schemas()[manifest["kind"]]).iter_errors(manifest)
        faults = [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in errors]
        # what the schema refuses the builders may stumble over
        return faults or [fault for built in build(manifest) for fault in find_faults(built)]
    try:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{manifest['kind']}: {'.'.join(map(str, error.path))}: {error.message[:200]}"]
    return []


def build(cluster):
    """What the operator makes of a DaskCluster: the scheduler, its service, one worker."""
    metadata, spec = cluster["metadata"], copy.deepcopy(cluster["spec"])
    name, namespace = metadata["name"], metadata.get("namespace", "default")
    passed = (metadata.get("annotations", {}), metadata.get("labels", {}))
    validate_cluster_name(name)
    worker = spec["worker"]["spec"]
    return [
        controller.build_scheduler_deployment_spec(name, spec["scheduler"]["spec"], *passed),
        controller.build_scheduler_service_spec(name, spec["scheduler"]["service"], *passed),
        controller.build_worker_deployment_spec(f"{name}-default", namespace, name, "0", worker, *passed),
    ]


@cache
def _dask_schemas():
    schemas = {}
    for file in sorted(_RESOURCES.glob("*.yaml")):
        for definition in filter(None, yaml.safe_load_all(file.read_text())):
            schema = _close(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
            envelope = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
            schemas[definition["spec"]["names"]["kind"]] = schema | {"properties": schema["properties"] | envelope}
    return schemas


def _close(schema):
    """The same schema, which allows no property that it does not name."""
    if isinstance(schema, list):
        return [_close(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _close(part) for key, part in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if schema.get("type") == "object" and "properties" in schema and not is_open:
        schema["additionalProperties"] = False
    return schema
