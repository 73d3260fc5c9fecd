"""Bringing up and taking down, against a stand-in for the API of Kubernetes: what is made, changed, refused, left."""

import os
import signal
import sys
import uuid
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from kustomized import DEPLOY
from region import run_mapper

from mapper.cluster.kubernetes.launch import find_differences
from mapper.cluster.kubernetes.session import KubernetesOptions, open_pool
from mapper.cluster.settings import parse_settings
from mapper.errors import ClusterError

pytest.importorskip("dask_kubernetes", reason="pip install mapper[kubernetes] brings kr8s")
pytest.importorskip("jsonpatch", reason="the stand-in for the API server needs jsonpatch")
from cluster_api import stand_in

POOLS = {"readers": {"size": 2, "memory": "2Gi"}, "gpu": {"size": 1, "gpu": True}}
BARE = {"store": None, "tls": None}
DASK = "apis/kubernetes.dask.org/v1"
LABELS = {"app.kubernetes.io/part-of": "mapper", "app.kubernetes.io/instance": "mapper"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """With the operator's definitions, and a role for whoever launches."""
    with stand_in(tmp_path_factory.mktemp("server") / "api", role=DEPLOY / "launcher.yaml") as started:
        started.define_dask()
        yield started


@pytest.fixture
def ready(server, monkeypatch):
    """A namespace of its own for each test."""
    monkeypatch.setenv("KUBECONFIG", str(server.launcher))
    mine = replace(server, namespace=f"maps-{uuid.uuid4().hex[:6]}")
    mine.make_namespace()
    return mine


@pytest.fixture
def lonely(tmp_path, monkeypatch):
    """A server of its own, which knows nothing of Dask."""
    with stand_in(tmp_path / "api") as started:
        monkeypatch.setenv("KUBECONFIG", str(started.launcher))
        yield started


@pytest.fixture
def settings(request, tmp_path):
    """Writes settings; returns their path."""
    namespace = request.getfixturevalue("ready").namespace if "ready" in request.fixturenames else "mapper"

    def write(pools=POOLS, secrets=BARE, **more):
        path = tmp_path / "cluster.yaml"
        path.write_text(yaml.safe_dump({"namespace": namespace, "pools": pools, "secrets": secrets, **more}))
        return path

    return write


def up(path, *options):
    return run_mapper("cluster", "up", path, "--wait", 0, *options)


def test_the_operator_must_be_there(lonely, settings):
    lonely.make_namespace()
    code, text = up(settings())
    assert (code, "Dask operator is not installed" in text) == (1, True), text


def test_without_credentials_the_kubeconfig_is_asked_for(tmp_path, monkeypatch, settings):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, text = up(settings())
    assert (code, "KUBECONFIG" in text) == (1, True), text


def test_an_api_that_does_not_answer_is_named(lonely, settings):
    lonely.process.kill()
    lonely.process.wait()
    code, text = up(settings())
    assert (code, "does not answer" in text) == (1, True), text


def test_without_the_library_the_extra_is_named(monkeypatch, settings):
    monkeypatch.setitem(sys.modules, "kr8s.asyncio", None)
    code, text = up(settings())
    assert (code, "pip install mapper[kubernetes]" in text) == (1, True), text


def test_what_is_forbidden_is_named(tmp_path, monkeypatch, settings):
    role = yaml.safe_load((DEPLOY / "launcher.yaml").read_text())
    role["rules"] = [{**rule, "verbs": [v for v in rule["verbs"] if v != "create"]} for rule in role["rules"]]
    (tmp_path / "role.yaml").write_text(yaml.safe_dump(role))
    with stand_in(tmp_path / "strict", role=tmp_path / "role.yaml") as server:
        monkeypatch.setenv("KUBECONFIG", str(server.launcher))
        server.define_dask()
        server.make_namespace()
        code, text = up(settings())
    assert code == 1
    assert "does not let you create serviceaccounts" in text
    assert "launcher.yaml" in text


@pytest.mark.parametrize("key", ["store", "archive", "tls", "pull"])
def test_a_missing_secret_is_named_before_anything_is_made(ready, settings, monkeypatch, key):
    monkeypatch.setenv("KUBECONFIG", str(ready.kubeconfig))  # of somebody who may read all secrets
    code, text = up(settings(secrets=BARE | {key: "keys"}))
    assert code == 1
    assert f"there is no Secret keys in namespace {ready.namespace}, which `secrets.{key}` names" in text
    assert ready.names("api/v1", "serviceaccounts") == []


def test_a_launcher_may_read_its_certificates_alone_and_takes_other_secrets_as_there(ready, settings):
    code, text = up(settings(secrets=BARE | {"tls": "mapper-tls"}))
    assert code == 1
    assert f"there is no Secret mapper-tls in namespace {ready.namespace}" in text
    code, text = up(settings(secrets=BARE | {"store": "keys"}))
    assert (code, "may not read Secret keys: taken as there" in text) == (0, True), text


def test_up_makes_what_is_missing_and_nothing_twice(ready, settings):
    code, text = up(settings())
    assert code == 0, text
    assert ready.names(DASK, "daskclusters") == ["mapper-gpu", "mapper-readers"]
    assert ready.names("apis/batch/v1", "jobs") == []
    code, text = up(settings())
    assert (code, "made" in text, "changed" in text) == (0, False, False), text


def test_up_can_be_told_of_one_pool(ready, settings):
    assert up(settings(), "--pool", "gpu")[0] == 0
    assert ready.names(DASK, "daskclusters") == ["mapper-gpu"]
    code, text = up(settings(), "--pool", "writers")
    assert (code, "the pools are gpu, readers" in text) == (2, True), text


def test_sizes_and_rules_are_changed_and_what_needs_new_pods_is_told(ready, settings):
    up(settings())
    other = {"readers": {"size": 5, "memory": "8Gi"}, "gpu": POOLS["gpu"]}
    code, text = up(settings(other, egress_ports=[443, 9000]))
    assert code == 0, text
    assert "changed DaskCluster mapper-readers: 2 workers to 5" in text
    assert "changed NetworkPolicy mapper" in text
    assert "DaskCluster mapper-readers runs with other settings than these: spec.worker.spec" in text
    spec = ready.ask("GET", f"/{DASK}/namespaces/{ready.namespace}/daskclusters/mapper-readers")["spec"]["worker"]
    assert spec["replicas"] == 5
    assert spec["spec"]["containers"][0]["resources"]["limits"]["memory"] == "2Gi"
    policy = ready.ask("GET", f"/apis/networking.k8s.io/v1/namespaces/{ready.namespace}/networkpolicies/mapper")
    assert {port["port"] for port in policy["spec"]["egress"][-1]["ports"]} == {443, 9000}


def test_an_object_of_somebody_else_is_left_alone(ready, settings):
    ready.make("serviceaccounts", "mapper-worker")
    code, text = up(settings())
    assert code == 1
    assert f"ServiceAccount mapper-worker in namespace {ready.namespace} is not of this cluster" in text


def test_waiting_tells_what_pods_wait_for(ready, settings):
    ready.make_pods("mapper-readers", 3)
    pulling = [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]
    ready.make_pods("mapper-gpu", 1, phase="Pending", containerStatuses=pulling)
    code, text = run_mapper("cluster", "up", settings(), "--wait", 1)
    assert code == 1
    assert "not all pods are ready after 1 s" in text
    assert "pool readers: 3 of 3 pods ready" in text
    assert "pool gpu: 0 of 2 pods ready; 1 waiting (ImagePullBackOff: no such image); 1 not made yet" in text


def test_the_driver_needs_its_map(ready, settings):
    code, text = up(settings(), "--driver", "run")
    assert (code, "there is no ConfigMap mapper-map" in text) == (1, True), text
    ready.make("configmaps", "mapper-map", data={"map.yaml": "name: alps"})
    assert up(settings(), "--driver", "composite")[0] == 0
    assert up(settings(), "--driver", "run")[0] == 0
    assert ready.names("apis/batch/v1", "jobs") == ["mapper-composite", "mapper-driver"]
    assert up(settings(), "--driver", "fly")[0] == 2
    assert up(settings(), "--driver", "composite", "--pool", "gpu")[0] == 2  # works on the readers


def test_down_deletes_what_up_made_and_nothing_else(ready, settings):
    ready.make("configmaps", "mapper-map")
    ready.make("serviceaccounts", "others", {"app.kubernetes.io/part-of": "mapper"})
    assert up(settings(), "--driver", "run")[0] == 0
    code, text = run_mapper("cluster", "down", settings(pools={"renamed": {}}))
    assert code == 0, text
    assert "the driver's volume" in text
    for path in (f"{DASK} daskclusters", "apis/batch/v1 jobs", "apis/policy/v1 poddisruptionbudgets"):
        assert ready.names(*path.split()) == []
    assert ready.names("api/v1", "serviceaccounts") == ["others"]
    assert ready.names("api/v1", "persistentvolumeclaims") == ["mapper-driver"]
    assert run_mapper("cluster", "down", settings(), "--volume")[0] == 0
    assert ready.names("api/v1", "persistentvolumeclaims") == []


def test_down_of_one_pool_leaves_the_other_what_it_needs(ready, settings):
    up(settings())
    code, text = run_mapper("cluster", "down", settings(), "--pool", "gpu")
    assert code == 0, text
    assert ready.names(DASK, "daskclusters") == ["mapper-readers"]
    assert ready.names("apis/policy/v1", "poddisruptionbudgets") == ["mapper-readers-scheduler"]
    assert len(ready.names("api/v1", "serviceaccounts")) == 3
    assert ready.names("apis/networking.k8s.io/v1", "networkpolicies") == ["mapper"]


def test_down_waits_for_pods_and_tells_which_are_left(ready, settings):
    up(settings())
    ready.make_pods("mapper-gpu", 2, labels=LABELS)
    code, text = run_mapper("cluster", "down", settings(), "--wait", 1)
    assert code == 1
    assert "pods are still there after 1 s: mapper-gpu-0, mapper-gpu-1" in text


def test_only_a_namespace_that_was_made_here_is_deleted(lonely, settings):
    lonely.define_dask()
    assert up(settings())[0] == 0  # makes the namespace
    assert run_mapper("cluster", "down", settings(), "--namespace")[0] == 0
    lonely.make_namespace({"owner": "others"})
    code, text = run_mapper("cluster", "down", settings(), "--namespace")
    assert (code, "was not made by mapper" in text) == (1, True), text


def options(ready, notify, **more):
    settings = parse_settings({"namespace": ready.namespace, "pools": POOLS, "secrets": BARE})
    return KubernetesOptions(**{"settings": settings, "notify": notify, "wait": 1, **more})


def test_a_pool_that_does_not_come_up_is_taken_down_again(ready):
    said = []
    with pytest.raises(ClusterError, match="not made yet"), open_pool("gpu", options(ready, said.append)):
        pass
    assert ready.names(DASK, "daskclusters") == ready.names("api/v1", "serviceaccounts") == []
    assert "deleted DaskCluster mapper-gpu" in said


def test_what_was_up_before_stays_and_what_is_to_be_kept_too(ready, settings):
    up(settings(), "--pool", "gpu")
    with pytest.raises(ClusterError), open_pool("gpu", options(ready, print)):
        pass
    with pytest.raises(ClusterError), open_pool("readers", options(ready, print, keep=True)):
        pass
    assert ready.names(DASK, "daskclusters") == ["mapper-gpu", "mapper-readers"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_pods_come_up_takes_them_down(ready, number):
    before = signal.getsignal(number)

    def stop_at_the_first_report(text):
        if text.startswith("pool gpu: 0 of 2"):
            os.kill(os.getpid(), number)

    asked = options(ready, stop_at_the_first_report, wait=30)
    with pytest.raises((SystemExit, KeyboardInterrupt)), open_pool("gpu", asked):
        pass
    assert ready.names(DASK, "daskclusters") == []
    assert signal.getsignal(number) == before


def test_a_failure_to_take_down_is_told_and_the_first_failure_raised(lonely):
    lonely.define_dask()
    said = []

    def lose_the_api(text):
        said.append(text)
        if text.startswith("pool gpu: 0 of 2"):
            lonely.process.kill()
            lonely.process.wait()
            raise RuntimeError("the first failure")

    asked = options(lonely, lose_the_api, wait=30)
    with pytest.raises(RuntimeError, match="the first failure"), open_pool("gpu", asked):
        pass
    assert any("may still be up, and cost money" in text for text in said)


trees = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)


def with_defaults(tree):
    """What a server makes of an object: every mapping has one key more."""
    if isinstance(tree, dict):
        return {**{key: with_defaults(value) for key, value in tree.items()}, "default": 1}
    return [with_defaults(each) for each in tree] if isinstance(tree, list) else tree


@given(trees)
def test_defaults_of_the_server_are_no_differences(tree):
    assert list(find_differences(tree, with_defaults(tree))) == []


@given(st.dictionaries(st.text("abc", min_size=1, max_size=2), trees, min_size=1, max_size=3), st.data())
def test_every_change_is_a_difference(tree, data):
    key = data.draw(st.sampled_from(sorted(tree)))
    assert list(find_differences(tree, {**tree, key: object()})) == [key]
