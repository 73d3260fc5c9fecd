"""Rendering a cluster: what the settings say, in objects that keep to rules; its processes are started for real."""

import os
import shutil
import socket
import subprocess
import sys

import dask
import pytest
import yaml
from distributed import Client
from distributed.security import Security
from kustomized import DEPLOY, OVERLAYS, by_name, kustomize, needs_kubectl, objects_of
from region import run_json, run_mapper

from mapper.cluster.kubernetes.objects import render_files, render_objects, render_stream
from mapper.cluster.settings import ClusterSettings, find_settings, parse_memory, parse_settings, read_settings
from mapper.errors import SpecError
from mapper.execute.executors import SHORT_LOGS
from mapper.store.map_store import MapStore

ANYWHERE = "0.0.0.0"  # noqa: S104 - what a pod listens on
SPOT = "cloud.google.com/gke-spot"
SERVER = {"store": "s3://maps/agb", "host": "maps.example.org"}
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def render(**content):
    return by_name(each for group in render_objects(parse_settings(content)).values() for each in group)


def pods_of(objects):
    """Every pod template, by what it is for."""
    for (kind, name), each in objects.items():
        if kind == "DaskCluster":
            yield f"{name} scheduler", each["spec"]["scheduler"]["spec"]
            yield f"{name} worker", each["spec"]["worker"]["spec"]
        elif kind == "Job":
            yield name, each["spec"]["template"]["spec"]


def worker_of(objects, name="mapper-readers"):
    return objects["DaskCluster", name]["spec"]["worker"]["spec"]


def variables_of(pod):
    return {each["name"]: each["value"] for each in pod["containers"][0]["env"]}


def words_of(container):
    """What a container is told, but the program; the address as its environment has it."""
    return [word.replace("$(DASK_SCHEDULER_ADDRESS)", "tcp://127.0.0.1:8786") for word in container["args"][1:]]


def nodes_of(pod):
    """(key, operator) of every rule about nodes."""
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return {(rule["key"], rule["operator"]) for term in terms for rule in term["matchExpressions"]}


def test_the_base_is_what_the_defaults_render():
    assert {path.name: path.read_text() for path in (DEPLOY / "base").iterdir()} == render_files(ClusterSettings())


def test_the_example_names_every_key_with_its_default():
    assert read_settings(DEPLOY / "cluster.yaml") == ClusterSettings()
    written = yaml.safe_load((DEPLOY / "cluster.yaml").read_text())
    whole = ClusterSettings().model_dump()
    assert written.keys() == whole.keys()
    assert written["pools"]["readers"].keys() == whole["pools"]["readers"].keys()
    for part in ("scheduler", "driver", "secrets", "neighbours"):
        assert written[part].keys() == whole[part].keys()


@needs_kubectl
def test_the_base_gives_every_object():
    assert by_name(kustomize(DEPLOY / "base")) == render()


@needs_kubectl
@pytest.mark.parametrize("overlay", sorted(path.name for path in OVERLAYS.iterdir()))
def test_an_overlay_gives_what_its_settings_render(overlay):
    rendered = objects_of(render_stream(read_settings(OVERLAYS / overlay / "cluster.yaml")))
    assert by_name(kustomize(OVERLAYS / overlay)) == by_name(rendered)


@needs_kubectl
def test_images_can_be_moved_to_a_registry_by_an_overlay(tmp_path):
    shutil.copytree(DEPLOY / "base", tmp_path / "base")
    overlay = {"resources": ["base"], "images": [{"name": "mapper", "newName": "example.org/maps/mapper"}]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    moved = dict(pods_of(by_name(kustomize(tmp_path))))
    for name, pod in pods_of(render()):
        for was, now in zip(pod["containers"], moved[name]["containers"], strict=True):
            assert now["image"] == f"example.org/maps/{was['image']}"


def test_rendering_twice_gives_the_same_bytes():
    settings = read_settings(DEPLOY / "cluster.yaml")
    assert render_files(settings) == render_files(ClusterSettings())
    assert "&id" not in render_stream(settings)


def test_pods_pass_the_restricted_security_standard_and_hold_no_token():
    for name, pod in pods_of(render()):
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"] + pod.get("initContainers", []):
            allowed = container["securityContext"]
            assert allowed["capabilities"] == {"drop": ["ALL"]}
            assert allowed["readOnlyRootFilesystem"]
            assert not allowed["allowPrivilegeEscalation"]
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


def test_every_account_exists_and_none_has_rights():
    objects = render()
    accounts = {name for kind, name in objects if kind == "ServiceAccount"}
    assert {pod["serviceAccountName"] for _, pod in pods_of(objects)} == accounts
    assert not {kind for kind, _ in objects} & {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}


def test_only_workers_of_spot_pools_run_on_spot_nodes():
    objects = render(pools={"cheap": {"spot": True}, "steady": {}})
    for name, pod in pods_of(objects):
        spot = name == "mapper-cheap worker"
        assert ((SPOT, "In") in nodes_of(pod)) is spot, name
        assert ((SPOT, "NotIn") in nodes_of(pod)) is not spot, name
        assert (SPOT in {rule["key"] for rule in pod.get("tolerations", [])}) is spot, name


def test_a_gpu_worker_is_one_process_with_one_gpu():
    pod = worker_of(render(pools={"gpu": {"gpu": True, "threads": 3, "memory": "24Gi"}}), "mapper-gpu")
    (container,) = pod["containers"]
    assert container["image"].endswith("-cuda")
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in container["resources"]["requests"]
    assert [rule["key"] for rule in pod["tolerations"]] == ["nvidia.com/gpu"]
    words = " ".join(container["args"])
    assert "--nthreads 3 --resources GPU=3" in words
    assert "--no-nanny" in words
    assert f"--memory-limit {24 * 2**30}" in words


def test_the_driver_resumes_and_is_never_there_twice():
    job = render(driver={"attempts": 3, "options": ["--failure-budget", "100"]})["Job", "mapper-driver"]["spec"]
    assert (job["parallelism"], job["backoffLimit"], job["podReplacementPolicy"]) == (1, 3, "Failed")
    assert {rule["action"] for rule in job["podFailurePolicy"]["rules"]} == {"FailJob", "Ignore"}
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["containers"][0]["args"][-2:] == ["--failure-budget", "100"]
    assert variables_of(pod)["DASK_SCHEDULER_ADDRESS"] == "tls://mapper-gpu-scheduler.mapper:8786"


def test_what_the_driver_is_told_is_a_command_of_mapper():
    (container,) = render()["Job", "mapper-driver"]["spec"]["template"]["spec"]["containers"]
    assert container["args"][0] == "mapper"
    code, text = run_mapper(*words_of(container), "--dry-run")
    assert code == 2
    assert "/var/lib/mapper/map.yaml" in text


@pytest.mark.parametrize(
    ("command", "pool", "job", "options"),
    [
        ("run", "gpu", "driver", ["--guide", "s3://maps/guide", "--order", "rows"]),
        ("composite", "readers", "composite", ["--out", "s3://maps/guide", "--halo", "32"]),
        ("pyramid", "readers", "pyramid", ["--rebuild"]),
    ],
)
def test_each_command_of_the_driver_has_its_job_pool_and_options(command, pool, job, options):
    given = {"options": ["--order", "rows"], "composite_options": ["--halo", "32"], "guide": "s3://maps/guide"}
    given["pyramid_options"] = ["--rebuild"]
    pod = render(driver={"command": command, **given})["Job", f"mapper-{job}"]["spec"]["template"]["spec"]
    args = pod["containers"][0]["args"]
    assert args[:2] == ["mapper", command]
    assert args[-len(options) :] == options
    code, text = run_mapper(*words_of(pod["containers"][0]), *([] if command == "pyramid" else ["--dry-run"]))
    assert (code, "/var/lib/mapper/map.yaml" in text) == (2, True), text
    assert variables_of(pod)["DASK_SCHEDULER_ADDRESS"] == f"tls://mapper-{pool}-scheduler.mapper:8786"


def test_schedulers_and_workers_remember_few_messages():
    for cluster in (each["spec"] for (kind, _), each in render().items() if kind == "DaskCluster"):
        for part in ("scheduler", "worker"):
            found = dask.config.collect_env(variables_of(cluster[part]["spec"]))
            assert {key: dask.config.get(key, config=found) for key in SHORT_LOGS} == SHORT_LOGS


def test_settings_are_looked_for_beside_the_map(tmp_path):
    assert find_settings(None, tmp_path / "map.yaml") == ClusterSettings()
    (tmp_path / "cluster.yaml").write_text("name: alps")
    assert find_settings(None, tmp_path / "map.yaml").name == "alps"
    (tmp_path / "other.yaml").write_text("name: jura")
    assert find_settings(tmp_path / "other.yaml", tmp_path / "map.yaml").name == "jura"
    with pytest.raises(SpecError, match=r"none\.yaml"):
        find_settings(tmp_path / "none.yaml", tmp_path / "map.yaml")


def test_secrets_are_named_and_never_held():
    objects = render(secrets={"store": "keys", "archive": "keys", "tls": "certificates", "pull": "registry"})
    assert "Secret" not in {kind for kind, _ in objects}
    for name, pod in pods_of(objects):
        (container,) = pod["containers"]
        assert "envFrom" not in container, name
        assert not any("valueFrom" in each for each in container["env"]), name
        mounts = {each["name"]: each for each in container["volumeMounts"]}
        secrets = {each["secret"]["secretName"]: each["name"] for each in pod["volumes"] if "secret" in each}
        assert secrets.keys() == ({"certificates"} if "scheduler" in name else {"certificates", "keys"}), name
        if "keys" in secrets:
            assert mounts[secrets["keys"]]["readOnly"], name
            assert variables_of(pod)["MAPPER_SECRETS"] == mounts[secrets["keys"]]["mountPath"], name
        assert {"name": "tls", "secret": {"secretName": "certificates", "defaultMode": 0o440}} in pod["volumes"]
        assert not [each for each in pod.get("initContainers", []) if "tls" in str(each) or "secrets" in str(each)]
    assert objects["ServiceAccount", "mapper-worker"]["imagePullSecrets"] == [{"name": "registry"}]


def test_a_scheduler_leads_to_no_other_host():
    for cluster in (each["spec"] for (kind, _), each in render().items() if kind == "DaskCluster"):
        found = dask.config.collect_env(variables_of(cluster["scheduler"]["spec"]))
        routes = dask.config.get("distributed.scheduler.http.routes", config=found)
        assert set(dask.config.get("distributed.scheduler.http.routes")) - set(routes) == {"distributed.http.proxy"}
        assert "distributed.http.scheduler.api" in routes


def test_metrics_are_served_beyond_the_pod_where_they_are_asked_for():
    (container,) = render()["Job", "mapper-driver"]["spec"]["template"]["spec"]["containers"]
    assert container["args"][container["args"].index("--metrics-host") + 1] == ANYWHERE


def test_a_pool_has_taints_and_a_runtime_of_its_own():
    taint = {"key": "team", "operator": "Equal", "value": "maps", "effect": "NoExecute"}
    pools = {"readers": {"tolerations": [taint], "runtime_class": "gvisor", "spot": True}, "plain": {}}
    objects = render(pools=pools)
    pod, plain = worker_of(objects), worker_of(objects, "mapper-plain")
    assert pod["tolerations"][-1] == taint
    assert SPOT in {each["key"] for each in pod["tolerations"]}
    assert pod["runtimeClassName"] == "gvisor"
    assert "runtimeClassName" not in plain
    assert "tolerations" not in plain


def test_further_addresses_are_reached_on_their_ports_alone():
    objects = render(egress=[{"cidr": "10.7.0.0/16", "ports": [9000, 9001]}], server=SERVER)
    for name in ("mapper", "mapper-server"):
        rule = objects["NetworkPolicy", name]["spec"]["egress"][-1]
        assert rule["to"] == [{"ipBlock": {"cidr": "10.7.0.0/16"}}]
        assert [port["port"] for port in rule["ports"]] == [9000, 9001]


def test_accounts_bear_the_identity_that_a_cloud_gives_them():
    objects = render(
        accounts={"worker": {"eks.amazonaws.com/role-arn": "arn:a"}, "server": {"b/c": "d"}}, server=SERVER
    )
    found = {name: each["metadata"].get("annotations") for (kind, name), each in objects.items() if "Account" in kind}
    assert found["mapper-worker"] == {"eks.amazonaws.com/role-arn": "arn:a"}
    assert found["mapper-server"] == {"b/c": "d"}
    assert found["mapper-driver"] is found["mapper-scheduler"] is None


def test_a_static_catalogue_is_at_one_path_in_driver_and_workers():
    found = set()
    for name, pod in pods_of(render(catalog="scenes")):
        volumes = [
            each["name"]
            for each in pod["volumes"]
            if each.get("persistentVolumeClaim", {}).get("claimName") == "scenes"
        ]
        assert len(volumes) == ("scheduler" not in name), name
        found |= {
            (each["mountPath"], each["readOnly"])
            for each in pod["containers"][0]["volumeMounts"]
            if each["name"] in volumes
        }
    assert found == {("/var/lib/mapper/catalog", True)}


def test_the_server_has_keys_that_only_read():
    objects = render(server=SERVER, secrets={"archive": "archive"})
    pod = objects["Deployment", "mapper-server"]["spec"]["template"]["spec"]
    assert [each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each] == ["mapper-store-read"]
    assert "envFrom" not in pod["containers"][0]


def test_whoever_launches_may_read_one_secret():
    role = yaml.safe_load((DEPLOY / "launcher.yaml").read_text())
    (rule,) = [each for each in role["rules"] if "secrets" in each["resources"]]
    assert rule == {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mapper-tls"], "verbs": ["get"]}


def test_without_certificates_dask_speaks_in_the_clear():
    text = render_stream(parse_settings({"secrets": {"tls": None}}))
    assert "tls" not in text.lower()
    assert "tcp://mapper-gpu-scheduler.mapper:8786" in text


def test_the_network_policy_opens_the_ports_that_containers_serve():
    objects = render(egress_ports=[443, 9000])
    policy = objects["NetworkPolicy", "mapper"]["spec"]
    opened = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    served = {port["containerPort"] for _, pod in pods_of(objects) for port in pod["containers"][0].get("ports", [])}
    assert opened == served
    assert {port["port"] for port in policy["egress"][-1]["ports"]} == {443, 9000}
    assert all(rule["ports"] for rule in policy["egress"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"pool": {}}, "pool: unknown key"),
        ({"pools": {}}, "pools:"),
        ({"pools": {"readers": {"memory": "16GB"}}}, "expected a whole number of Mi, Gi or Ti"),
        ({"pools": {"readers": {"cpu": "many"}}}, "expected cores"),
        ({"pools": {"readers": {"size": 0}}}, "pools.readers.size"),
        ({"pools": {"Readers": {}}}, "pools"),
        ({"pools": {"a" * 60: {}}}, "longer than 53 characters"),
        ({"driver": {"pool": "cpu"}}, "driver.pool is cpu, the pools are readers, gpu"),
        ({"secrets": {"store": "my keys"}}, "secrets.store"),
        ({"egress": [{"cidr": "10.1.2.3/8", "ports": [9000]}]}, "egress.0.cidr"),
        ({"egress": [{"cidr": "10.0.0.0/8", "ports": []}]}, "egress.0.ports"),
        ({"pools": {"readers": {"tolerations": [{"key": "a", "operator": "Equal"}]}}}, "needs it"),
        ({"accounts": {"workers": {"a": "b"}}}, "accounts"),
        ({"image": f"mapper@sha256:{'a' * 64}"}, "pools.gpu.image"),
    ],
)
def test_wrong_settings_are_refused(content, words):
    with pytest.raises(SpecError, match="cluster settings") as refused:
        parse_settings(content)
    assert words in str(refused.value)


@pytest.mark.parametrize("text", ["- a list", "name: [", None])
def test_a_file_that_holds_no_settings_is_refused(tmp_path, text):
    path = tmp_path / "cluster.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SpecError, match=r"cluster settings .*cluster\.yaml"):
        read_settings(path)


def test_quantities_are_bytes():
    assert parse_memory("512Mi") == 2**29
    assert parse_memory("2Ti") == 2**41


def test_the_command_prints_or_writes(tmp_path):
    settings = tmp_path / "cluster.yaml"
    settings.write_text("name: alps\npools: {readers: {size: 3}}\n")
    code, text = run_mapper("cluster", "render", settings)
    assert code == 0
    assert by_name(objects_of(text))["DaskCluster", "alps-readers"]["spec"]["worker"]["replicas"] == 3
    code, _ = run_mapper("cluster", "render", settings, "--out", tmp_path / "out")
    assert code == 0
    written = {path.name for path in (tmp_path / "out").iterdir()}
    listed = yaml.safe_load((tmp_path / "out" / "kustomization.yaml").read_text())["resources"]
    assert written == {*listed, "kustomization.yaml"}


def test_the_command_refuses_wrong_settings(tmp_path):
    settings = tmp_path / "cluster.yaml"
    settings.write_text("pools: {readers: {workers: 3}}\n")
    code, text = run_mapper("cluster", "render", settings)
    assert code == 2
    assert "pools.readers.workers: unknown key" in text


@pytest.fixture
def certificates(tmp_path):
    """A certificate and key that Dask processes show each other, signed by themselves."""
    folder = tmp_path / "tls"
    folder.mkdir()
    made = ["-keyout", folder / "tls.key", "-out", folder / "tls.crt", "-subj", "/CN=mapper", "-days", "1"]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *made], check=True, capture_output=True)
    shutil.copy(folder / "tls.crt", folder / "ca.crt")
    return folder


@pytest.fixture
def start(tmp_path):
    """Start a rendered container as a process of this machine, on an address of its own."""
    processes = []

    def run(pod, address, **variables):
        (container,) = pod["containers"]
        given = {name: value.replace("/etc/mapper", str(tmp_path)) for name, value in variables_of(pod).items()}
        given |= variables
        words = [given.get(word.removeprefix("$(").removesuffix(")"), word) for word in container["args"]]
        words = [word.replace(ANYWHERE, address).replace("/var/lib/mapper", str(tmp_path)) for word in words]
        if "--metrics-port" in words:  # the ports of a pod are its own, those of this machine are shared
            words[words.index("--metrics-port") + 1] = "0"
            words[words.index("--metrics-host") + 1] = "127.0.0.1"
        programs = {"dask": ["-m", "dask"], "mapper": ["-m", "mapper.cli"]}
        command = [sys.executable, *programs[words[0]], *words[1:]]
        log = (tmp_path / f"{address}.log").open("wb")
        processes.append((subprocess.Popen(command, env=os.environ | given, stdout=log, stderr=log), log))
        return processes[-1][0]

    yield run
    for process, log in reversed(processes):
        process.kill()
        process.wait()
        log.close()


def security(folder):
    files = {"tls_client_cert": "tls.crt", "tls_client_key": "tls.key", "tls_ca_file": "ca.crt"}
    return Security(require_encryption=True, **{name: str(folder / file) for name, file in files.items()})


@needs_openssl
def test_the_rendered_processes_make_a_map_over_tls(certificates, start, region, tmp_path):
    """Scheduler, worker and driver as they are rendered, but for their addresses and folders."""
    region.change(model={"name": "bicubic"})
    keys = tmp_path / "secrets" / "store"
    keys.mkdir(parents=True)
    (keys / "A_KEY_OF_A_STORE").write_text("of nobody\n")
    objects = render(pools={"readers": {"memory": "1Gi", "cpu": 1, "threads": 2}})
    pool = objects["DaskCluster", "mapper-readers"]["spec"]
    host, other = (f"127.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 250}.{last}" for last in (1, 2))
    address = {"DASK_SCHEDULER_ADDRESS": f"tls://{host}:8786"}
    start(pool["scheduler"]["spec"], host)
    worker_pod = pool["worker"]["spec"]
    worker_pod["containers"][0]["args"] += ["--host", other]
    worker = start(worker_pod, other, **address, DASK_WORKER_NAME="readers-0")
    driver_pod = objects["Job", "mapper-driver"]["spec"]["template"]["spec"]
    assert start(driver_pod, "driver", **address).wait(timeout=300) == 0
    made_by = {record.worker for record in MapStore.open(region.store).ledger.records()}
    assert made_by == {f"{socket.gethostname()}:{worker.pid}"}

    with Client(address["DASK_SCHEDULER_ADDRESS"], security=security(certificates), set_as_default=False) as client:
        (found,) = client.scheduler_info()["workers"].values()
        assert (found["nthreads"], found["memory_limit"]) == (2, 2**30)
        assert list(client.run(os.getenv, "A_KEY_OF_A_STORE").values()) == ["of nobody"]
    with pytest.raises(OSError, match=r"timed out|closed"):
        Client(f"tcp://{host}:8786", timeout=2, set_as_default=False)

    batches = run_json("status", region.store, "--json")["commits"]
    assert start(driver_pod, "driver", **address).wait(timeout=200) == 0
    assert run_json("status", region.store, "--json")["commits"] == batches, "a driver that starts anew found work"
    worker.terminate()
    assert worker.wait(timeout=worker_pod["terminationGracePeriodSeconds"]) is not None
