"""What is in deploy/kubernetes is valid to the last field."""

import copy

import pytest
from kustomized import OVERLAYS, kustomize, needs_kubectl, objects_of

from mapper.cluster.kubernetes.objects import render_stream
from mapper.cluster.settings import parse_settings

pytest.importorskip("dask_kubernetes", reason="pip install mapper[kubernetes] brings Dask's own schemas")
pytest.importorskip("kubernetes_validate", reason="kubernetes-validate brings the schemas of Kubernetes")
from kubernetes_schemas import build, find_faults

SERVER = {"store": "s3://maps/agb", "host": "maps.example.org"}
DEFAULTS = objects_of(render_stream(parse_settings({"server": SERVER})))


@needs_kubectl
@pytest.mark.parametrize("overlay", sorted(path.name for path in OVERLAYS.iterdir()))
def test_every_object_of_an_overlay_is_valid(overlay):
    found = kustomize(OVERLAYS / overlay)
    assert found
    assert [fault for each in found for fault in find_faults(each)] == []


@pytest.mark.parametrize("manifest", DEFAULTS, ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_every_object_of_the_defaults_is_valid(manifest):
    assert find_faults(manifest) == []


FIELDS = [
    ("DaskCluster", "spec.worker.replicas"),
    ("DaskCluster", "spec.worker.spec.tolerations"),
    ("DaskCluster", "spec.worker.spec.terminationGracePeriodSeconds"),
    ("DaskCluster", "spec.worker.spec.containers.0.resources"),
    ("DaskCluster", "spec.worker.spec.containers.0.securityContext.readOnlyRootFilesystem"),
    ("DaskCluster", "spec.worker.spec.volumes.1.secret.secretName"),
    ("DaskCluster", "spec.scheduler.spec.containers.0.readinessProbe"),
    ("DaskCluster", "spec.scheduler.spec.affinity.nodeAffinity"),
    ("DaskCluster", "spec.scheduler.service.ports.0.targetPort"),
    ("Job", "spec.backoffLimit"),
    ("Job", "spec.podFailurePolicy.rules.0.onExitCodes"),
    ("Job", "spec.template.spec.restartPolicy"),
    ("NetworkPolicy", "spec.egress"),
    ("NetworkPolicy", "spec.ingress.1.from.0.namespaceSelector"),
    ("PersistentVolumeClaim", "spec.accessModes"),
    ("PodDisruptionBudget", "spec.minAvailable"),
    ("ServiceAccount", "automountServiceAccountToken"),
    ("Deployment", "spec.replicas"),
    ("Deployment", "spec.strategy.rollingUpdate.maxSurge"),
    ("Deployment", "spec.template.spec.containers.0.livenessProbe"),
    ("Deployment", "spec.template.spec.topologySpreadConstraints.0.labelSelector"),
    ("Service", "spec.sessionAffinity"),
    ("Ingress", "spec.rules.0.host"),
    ("Ingress", "spec.tls.0.secretName"),
]


@pytest.mark.parametrize(("kind", "path"), FIELDS, ids=lambda value: value)
def test_a_misspelt_field_is_caught(kind, path):
    manifest = copy.deepcopy(next(each for each in DEFAULTS if each["kind"] == kind))
    *parents, last = path.split(".")
    part = manifest
    for parent in parents:
        part = part[int(parent) if parent.isdigit() else parent]
    part[f"{last}s"] = part.pop(last)
    assert any(f"{last}s" in fault for fault in find_faults(manifest))


def test_a_value_of_the_wrong_type_is_caught():
    manifest = copy.deepcopy(next(each for each in DEFAULTS if each["kind"] == "DaskCluster"))
    manifest["spec"]["worker"]["replicas"] = "two"
    assert find_faults(manifest)


def test_variations_of_the_settings_are_valid():
    pools = {"only": {"gpu": True, "lifetime_hours": 12, "node_selector": {"kind": "gpu"}}}
    secrets = {"tls": None, "store": None, "archive": "keys", "pull": "registry"}
    server = SERVER | {"token": "reader", "cors": ["*"], "certificate": None, "ingress_class": "nginx"}
    content = {"pools": pools, "secrets": secrets, "driver": {"storage_class": "fast"}, "server": server}
    settings = parse_settings(content)
    assert [fault for each in objects_of(render_stream(settings)) for fault in find_faults(each)] == []


def test_a_budget_guards_the_one_scheduler_that_the_operator_makes():
    budgets = [each["spec"]["selector"]["matchLabels"] for each in DEFAULTS if each["kind"] == "PodDisruptionBudget"]
    for cluster in (each for each in DEFAULTS if each["kind"] == "DaskCluster"):
        scheduler, service, worker = build(cluster)
        labels = scheduler["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()
        guarded = [budget for budget in budgets if budget.items() <= labels.items()]
        assert len(guarded) == 1
        assert not guarded[0].items() <= worker["spec"]["template"]["metadata"]["labels"].items()


def test_the_network_policy_holds_for_the_pods_that_the_operator_makes():
    policy = next(each for each in DEFAULTS if each["kind"] == "NetworkPolicy")
    selected = policy["spec"]["podSelector"]["matchLabels"].items()
    for cluster in (each for each in DEFAULTS if each["kind"] == "DaskCluster"):
        scheduler, _, worker = build(cluster)
        for made in (scheduler, worker):
            template = made["spec"]["template"]["metadata"]
            assert selected <= template["labels"].items()
            assert template["annotations"]["prometheus.io/port"] == "8787"


def test_a_worker_finds_its_scheduler_where_the_settings_say():
    for cluster in (each for each in DEFAULTS if each["kind"] == "DaskCluster"):
        scheduler, service, worker = build(cluster)
        variables = {each["name"]: each["value"] for each in worker["spec"]["template"]["spec"]["containers"][0]["env"]}
        assert variables["DASK_SCHEDULER_ADDRESS"] == f"tls://{service['metadata']['name']}.mapper:8786"
        assert variables["DASK_WORKER_NAME"] == worker["metadata"]["name"]
        assert len(scheduler["spec"]["template"]["spec"]["containers"]) == 1
