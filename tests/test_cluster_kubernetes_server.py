"""The server of a map on Kubernetes: what is rendered starts, and is reached by those that are meant to reach it."""

import pytest
from kustomized import by_name
from region import run_mapper

from mapper.cluster.kubernetes.objects import render_objects
from mapper.cluster.settings import parse_settings
from mapper.errors import SpecError

SERVER = {"store": "s3://maps/agb", "host": "maps.example.org"}
NAMED = {"token": "reader"}


def render(**server):
    objects = render_objects(parse_settings({"server": SERVER | server}))
    return by_name(each for group in objects.values() for each in group)


def deployment_of(objects):
    return objects["Deployment", "mapper-server"]["spec"]


def container_of(objects):
    (container,) = deployment_of(objects)["template"]["spec"]["containers"]
    return container


def test_nothing_is_served_unless_asked_for():
    assert "server" not in render_objects(parse_settings({}))


def test_what_the_container_is_told_is_a_command_of_mapper(tmp_path):
    token = tmp_path / "token"
    token.write_text("sixteen-letters-at-least")
    container = container_of(render(**NAMED, cors=["https://a.example", "https://b.example"]))
    words = [str(token) if word == "/etc/mapper/token/token" else word for word in container["args"]]
    words[words.index("s3://maps/agb")] = str(tmp_path / "none")
    code, text = run_mapper(*words[1:])
    assert code != 0
    assert "does not exist or is no store" in text


def test_requests_find_the_container():
    objects = render()
    ports = {port["name"]: port["containerPort"] for port in container_of(objects)["ports"]}
    service = objects["Service", "mapper-server"]["spec"]
    labels = deployment_of(objects)["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    assert [port["targetPort"] for port in service["ports"]] == ["http"]
    (rule,) = objects["Ingress", "mapper-server"]["spec"]["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": "mapper-server", "port": {"name": service["ports"][0]["name"]}}
    words = container_of(objects)["args"]
    assert words[words.index("--port") + 1] == str(ports["http"])
    policy = objects["NetworkPolicy", "mapper-server"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["ingress"][0]["ports"] == [{"protocol": "TCP", "port": ports["http"]}]


def test_the_server_is_no_part_of_the_cluster_that_is_taken_down():
    objects = render()
    cluster = objects["NetworkPolicy", "mapper"]["metadata"]["labels"]
    ours = [
        each for (kind, name), each in objects.items() if name.startswith("mapper-server") and kind != "DaskCluster"
    ]
    assert len(ours) == 6
    for each in ours:
        assert not cluster.items() <= each["metadata"]["labels"].items()


def test_certificates_of_dask_and_tokens_of_kubernetes_stay_away():
    pod = deployment_of(render(**NAMED))["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert {volume["name"] for volume in pod["volumes"]} == {"tmp", "secret-read", "token"}
    assert not [each["name"] for each in pod["containers"][0]["env"] if "TLS" in each["name"]]


@pytest.mark.parametrize(("certificate", "scheme"), [("maps-tls", "https"), (None, "http")])
def test_the_public_address_is_that_of_the_ingress(certificate, scheme):
    objects = render(certificate=certificate)
    words = container_of(objects)["args"]
    assert words[words.index("--public-url") + 1] == f"{scheme}://maps.example.org"
    assert ("tls" in objects["Ingress", "mapper-server"]["spec"]) is (certificate is not None)


@pytest.mark.parametrize("wrong", [{"host": "Maps_Example"}, {"replicas": 0}, {"store": ""}, {"port": 1}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(SpecError, match=next(iter(wrong))):
        render(**wrong)
