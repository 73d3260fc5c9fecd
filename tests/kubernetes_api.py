"""In-memory Kubernetes API server with a process kubelet: runs a real operator without a cluster.

Real: REST discovery, create/read/update/delete, list and watch with resourceVersion, label and field
selectors, merge and JSON patch, conflict detection, finalizers, ownerReference garbage collection,
validation of custom resources against the openAPIV3Schema of their CRD, port-forward by WebSocket, a role
for whoever comes with the second kubeconfig.
Absent: other authentication, scheduling (nodeSelector, taints, resource limits), admission, defaulting,
pruning of unknown fields, exec, a separate status subresource.

The kubelet runs the first container of each Deployment (one replica) as a local process with its own
address in 127.0.0.0/8 and starts it again when it exits; secrets become its files and variables. A deleted
pod is gone when its process is; one with a readiness probe is ready when its first port is open. Jobs and
bare Pods are stored, not run.
A Service has the address of the Deployment of the same name; its names go to a hosts file that stands
in for cluster DNS. Listens on 127.0.0.1 only. Linux only (one process group per pod).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import copy
import datetime as dt
import itertools
import json
import os
import pathlib
import re
import secrets
import signal
import sys
import time
import uuid
from dataclasses import dataclass

import jsonpatch
import jsonschema
import yaml
from aiohttp import WSMsgType, web

Type = tuple[str, str, str]  # group, version, plural
Key = tuple[Type, str | None, str]  # type, namespace, name


@dataclass(frozen=True)
class Resource:
    kind: str
    namespaced: bool = True
    schema: dict | None = None
    short_names: tuple[str, ...] = ()


KUBELET = "kubernetes-api/kubelet"  # finalizer: keeps a pod for as long as its process
LAUNCHER = "launcher"  # token that a role holds for
VERBS = {"POST": "create", "GET": "get", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
ANYWHERE = "0.0.0.0"  # noqa: S104 - what a container listens on
PODS, SERVICES, DEPLOYMENTS = ("", "v1", "pods"), ("", "v1", "services"), ("apps", "v1", "deployments")
CRDS = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")
BUILT_IN = {
    PODS: Resource("Pod", short_names=("po",)),
    SERVICES: Resource("Service", short_names=("svc",)),
    DEPLOYMENTS: Resource("Deployment", short_names=("deploy",)),
    CRDS: Resource("CustomResourceDefinition", namespaced=False),
    ("", "v1", "namespaces"): Resource("Namespace", namespaced=False),
    ("", "v1", "nodes"): Resource("Node", namespaced=False),
    ("", "v1", "events"): Resource("Event"),
    ("", "v1", "configmaps"): Resource("ConfigMap"),
    ("", "v1", "secrets"): Resource("Secret"),
    ("", "v1", "serviceaccounts"): Resource("ServiceAccount"),
    ("", "v1", "persistentvolumeclaims"): Resource("PersistentVolumeClaim"),
    ("batch", "v1", "jobs"): Resource("Job"),
    ("policy", "v1", "poddisruptionbudgets"): Resource("PodDisruptionBudget", short_names=("pdb",)),
    ("networking.k8s.io", "v1", "networkpolicies"): Resource("NetworkPolicy"),
}


class ApiError(Exception):
    def __init__(self, code: int, reason: str, message: str):
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message

    def response(self) -> web.Response:
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "details": {}}
        return web.json_response(
            status | {"code": self.code, "reason": self.reason, "message": self.message}, status=self.code
        )


def now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def group_version(type_: Type) -> str:
    return "/".join(filter(None, type_[:2]))


def without_nulls(value):
    """Drop null fields, as the API server does for fields that are not nullable."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return [without_nulls(v) for v in value] if isinstance(value, list) else value


def merge(target, patch):
    """JSON merge patch (RFC 7386). Strategic merge patches are treated the same way."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def label_matches(term: str, labels: dict) -> bool:
    if m := re.fullmatch(r"(\S+)\s+(in|notin)\s+\((.*)\)", term):
        key, operator, values = m.groups()
        return (labels.get(key) in [v.strip() for v in values.split(",")]) == (operator == "in")
    if m := re.fullmatch(r"([^!=\s]+)\s*(!=|==?)\s*(\S*)", term):
        key, operator, value = m.groups()
        return (labels.get(key) == value) != (operator == "!=")
    return term[1:] not in labels if term.startswith("!") else term in labels


def field_matches(term: str, obj: dict) -> bool:
    path, operator, value = re.fullmatch(r"([^!=]+)(!=|==?)(.*)", term).groups()
    for name in path.split("."):
        obj = (obj or {}).get(name)
    return (str(obj) == value) != (operator == "!=")


def selected(obj: dict, query) -> bool:
    labels = obj["metadata"].get("labels") or {}
    label_terms = re.split(r",(?![^(]*\))", query.get("labelSelector", ""))
    field_terms = query.get("fieldSelector", "").split(",")
    return all(label_matches(t.strip(), labels) for t in label_terms if t.strip()) and all(
        field_matches(t, obj) for t in field_terms if t
    )


class Names:
    """Addresses by (namespace, name), published in a hosts file."""

    def __init__(self, hosts: pathlib.Path | None):
        self.hosts, self.addresses = hosts, {}
        self.network = 1 + secrets.randbelow(250)  # another stand-in on this machine has most likely another

    def address(self, namespace: str, name: str) -> str:
        n = self.addresses.setdefault((namespace, name), len(self.addresses))
        return f"127.{self.network}.{n // 254}.{n % 254 + 1}"

    def publish(self, namespace: str, name: str) -> str:
        address, host = self.address(namespace, name), f"{name}.{namespace}"
        if self.hosts:
            with self.hosts.open("a") as file:  # append: a bind-mounted file must keep its inode
                file.write(f"{address} {host} {host}.svc {host}.svc.cluster.local\n")
        return address


class Store:
    """All objects, and the log of every change that watches replay."""

    def __init__(self, names: Names):
        self.names, self.resources, self.objects = names, dict(BUILT_IN), {}
        self.log: list[tuple[Type, str, dict]] = []  # index + 1 is the resourceVersion
        self.condition, self.listeners = asyncio.Condition(), []

    @property
    def version(self) -> int:
        return len(self.log)

    async def emit(self, type_: Type, event: str, obj: dict) -> None:
        obj["metadata"]["resourceVersion"] = str(self.version + 1)
        self.log.append((type_, event, copy.deepcopy(obj)))
        async with self.condition:
            self.condition.notify_all()
        for listener in self.listeners:
            listener(type_, event, obj)

    async def wait_beyond(self, version: int, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            async with self.condition:
                await asyncio.wait_for(self.condition.wait_for(lambda: self.version > version), seconds)

    def select(self, type_: Type, namespace: str | None, query) -> list[dict]:
        return [
            obj
            for (t, ns, _), obj in self.objects.items()
            if t == type_ and namespace in (None, ns) and selected(obj, query)
        ]

    def validate(self, type_: Type, obj: dict) -> None:
        if schema := self.resources[type_].schema:
            errors = itertools.islice(jsonschema.Draft7Validator(schema).iter_errors(obj), 5)
            text = "; ".join(f"{'.'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in errors)
            if text:
                raise ApiError(422, "Invalid", text)

    async def create(self, type_: Type, namespace: str | None, obj: dict) -> dict:
        resource, obj = self.resources[type_], without_nulls(copy.deepcopy(obj))
        meta = obj.setdefault("metadata", {})
        meta.setdefault("name", meta.get("generateName", "x-") + uuid.uuid4().hex[:6])
        if resource.namespaced:
            meta["namespace"] = meta.get("namespace") or namespace or "default"
        key = (type_, meta.get("namespace"), meta["name"])
        if key in self.objects:
            raise ApiError(409, "AlreadyExists", f'{type_[2]} "{meta["name"]}" already exists')
        obj = {"apiVersion": group_version(type_), "kind": resource.kind} | obj
        self.validate(type_, obj)
        meta.update(uid=str(uuid.uuid4()), creationTimestamp=now(), generation=1)
        if type_ == CRDS:
            self.define(obj["spec"])
        if type_ == SERVICES:
            obj["spec"] = {"type": "ClusterIP", "clusterIP": self.names.publish(*key[1:])} | obj["spec"]
            obj.setdefault("status", {"loadBalancer": {}})
        self.objects[key] = obj
        await self.emit(type_, "ADDED", obj)
        return obj

    def define(self, crd: dict) -> None:
        names, namespaced = crd["names"], crd["scope"] == "Namespaced"
        for version in crd["versions"]:
            schema = (version.get("schema") or {}).get("openAPIV3Schema")
            short = tuple(names.get("shortNames", ()))
            type_ = (crd["group"], version["name"], names["plural"])
            self.resources[type_] = Resource(names["kind"], namespaced, schema, short)

    async def update(self, key: Key, new: dict) -> dict:
        old, meta = self.objects[key], new["metadata"]
        if meta.get("resourceVersion", old["metadata"]["resourceVersion"]) != old["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", f'{key[0][2]} "{key[2]}" has been modified; apply to the latest version')
        if new == old:
            return old
        self.validate(key[0], new)
        if new.get("spec") != old.get("spec"):
            meta["generation"] = old["metadata"].get("generation", 1) + 1
        self.objects[key] = new
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            await self.remove(key)
        else:
            await self.emit(key[0], "MODIFIED", new)
        return new

    async def delete(self, key: Key) -> dict:
        obj = self.objects[key]
        if not obj["metadata"].get("finalizers"):
            await self.remove(key)
        elif not obj["metadata"].get("deletionTimestamp"):
            obj = copy.deepcopy(obj)
            obj["metadata"]["deletionTimestamp"] = now()
            self.objects[key] = obj
            await self.emit(key[0], "MODIFIED", obj)
        return obj

    async def remove(self, key: Key) -> None:
        if (obj := self.objects.pop(key, None)) is None:
            return
        await self.emit(key[0], "DELETED", obj)
        for other, child in list(self.objects.items()):
            owners = child["metadata"].get("ownerReferences", [])
            if other in self.objects and any(o.get("uid") == obj["metadata"]["uid"] for o in owners):
                await self.delete(other)


class Kubelet:
    """One local process per Deployment, in its own process group, restarted when it exits."""

    def __init__(self, store: Store, logs: pathlib.Path, programs: pathlib.Path, grace: float):
        self.store, self.logs, self.programs, self.grace = store, logs, programs, grace
        self.running: dict[str, tuple[asyncio.Event, asyncio.Task]] = {}
        self.pods: dict[str, asyncio.Event] = {}
        store.listeners.append(self.on_event)

    def on_event(self, type_: Type, event: str, obj: dict) -> None:
        uid = obj["metadata"]["uid"]
        if type_ == DEPLOYMENTS and event == "ADDED":
            stop = asyncio.Event()
            self.running[uid] = stop, asyncio.create_task(self.run(copy.deepcopy(obj), stop))
        elif type_ == DEPLOYMENTS and event == "DELETED" and uid in self.running:
            self.running[uid][0].set()
        elif type_ == PODS and obj["metadata"].get("deletionTimestamp") and uid in self.pods:
            self.pods[uid].set()

    async def close(self) -> None:
        for stop, _ in self.running.values():
            stop.set()
        await asyncio.gather(*(task for _, task in self.running.values()), return_exceptions=True)

    def log(self, pod: str) -> pathlib.Path:
        return self.logs / f"{pod}.log"

    async def run(self, deployment: dict, stop: asyncio.Event) -> None:
        meta = deployment["metadata"]
        for generation in itertools.count(1):
            pod = await self.create_pod(deployment, f"{meta['name']}-{generation}")
            key = (PODS, meta["namespace"], pod["metadata"]["name"])
            uid = pod["metadata"]["uid"]
            self.pods[uid] = asyncio.Event()
            try:
                await self.run_pod(key, stop, self.pods[uid])
            except OSError as error:
                self.log(key[2]).write_text(f"cannot start: {error}\n")
            del self.pods[uid]
            if key in self.store.objects:
                await self.store.remove(key)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), 1)  # back-off before the restart
            if stop.is_set():
                return

    async def create_pod(self, deployment: dict, name: str) -> dict:
        meta, template = deployment["metadata"], deployment["spec"]["template"]
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": meta["name"], "uid": meta["uid"]}
        labels = dict(template["metadata"].get("labels", {}))
        address = self.store.names.address(meta["namespace"], meta["name"])
        pod = {
            "metadata": {"name": name, "labels": labels, "ownerReferences": [owner], "finalizers": [KUBELET]},
            "spec": template["spec"],
            "status": {"phase": "Pending", "podIP": address},
        }
        return await self.store.create(PODS, meta["namespace"], pod)

    def secret(self, namespace: str, name: str) -> dict[str, bytes]:
        obj = self.store.objects.get((("", "v1", "secrets"), namespace, name))
        if obj is None:
            raise OSError(f"no secret {name}")
        return {key: base64.b64decode(value) for key, value in obj.get("data", {}).items()}

    def folders(self, pod: dict) -> dict[str, str]:
        """Where each mounted secret is on this machine, by where the container expects it."""
        namespace, found = pod["metadata"]["namespace"], {}
        mounts = {m["name"]: m["mountPath"] for m in pod["spec"]["containers"][0].get("volumeMounts") or []}
        for volume in pod["spec"].get("volumes") or []:
            if "secret" in volume and volume["name"] in mounts:
                folder = self.logs / "secrets" / pod["metadata"]["name"] / volume["name"]
                folder.mkdir(parents=True, exist_ok=True)
                for name, data in self.secret(namespace, volume["secret"]["secretName"]).items():
                    (folder / name).write_bytes(data)
                found[mounts[volume["name"]]] = str(folder)
        return found

    def command(self, pod: dict, address: str) -> tuple[list[str], dict[str, str]]:
        container = pod["spec"]["containers"][0]
        given = {}
        for source in container.get("envFrom") or []:
            held = self.secret(pod["metadata"]["namespace"], source["secretRef"]["name"])
            given |= {name: data.decode() for name, data in held.items()}
        given |= {e["name"]: str(e["value"]) for e in container.get("env") or [] if "value" in e}
        for mounted, folder in self.folders(pod).items():
            given = {name: value.replace(mounted, folder) for name, value in given.items()}
        env = os.environ | given | {"POD_IP": address}
        words = [*(container.get("command") or []), *(container.get("args") or [])]
        words = [re.sub(r"\$\((\w+)\)", lambda m: env.get(m[1], m[0]), str(w)) for w in words]
        words = [w.replace(ANYWHERE, address) for w in words]
        if words[:2] == ["dask", "worker"] and "--host" not in words:
            words += ["--host", address]
        program = self.programs / words[0]
        return [str(program) if program.exists() else words[0], *words[1:]], env

    async def run_pod(self, key: Key, stop: asyncio.Event, ended: asyncio.Event) -> None:
        pod = self.store.objects[key]
        container, address = pod["spec"]["containers"][0], pod["status"]["podIP"]
        words, env = self.command(pod, address)
        with self.log(key[2]).open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *words, env=env, stdout=log, stderr=asyncio.subprocess.STDOUT, start_new_session=True
            )
        waits = [asyncio.ensure_future(each) for each in (process.wait(), stop.wait(), ended.wait())]
        probing = asyncio.create_task(self.probe(key, container, address, process.pid))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                await asyncio.wait(waits[:1], timeout=self.grace)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a nanny's children too
            await process.wait()
            for each in (*waits[1:], probing):
                each.cancel()

    async def probe(self, key: Key, container: dict, address: str, pid: int) -> None:
        await self.set_running(key, container, pid, ready="readinessProbe" not in container)
        while "readinessProbe" in container:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(address, container["ports"][0]["containerPort"])
                writer.close()
                break
            await asyncio.sleep(0.2)
        await self.set_running(key, container, pid, ready=True)

    async def set_running(self, key: Key, container: dict, pid: int, *, ready: bool) -> None:
        if key not in self.store.objects:
            return
        pod = copy.deepcopy(self.store.objects[key])
        pod["metadata"]["annotations"] = {"kubernetes-api/pid": str(pid)}
        conditions = {"Initialized": True, "Ready": ready, "ContainersReady": ready, "PodScheduled": True}
        pod["status"] |= {
            "phase": "Running",
            "startTime": now(),
            "conditions": [{"type": name, "status": str(holds)} for name, holds in conditions.items()],
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container.get("image", ""),
                    "ready": ready,
                    "restartCount": 0,
                    "state": {"running": {}},
                }
            ],
        }
        await self.store.update(key, pod)


class Role:
    """What whoever comes as the launcher may do; without rules everything."""

    def __init__(self, manifests: list[dict]):
        self.rules = [rule for each in manifests if each["kind"].endswith("Role") for rule in each["rules"]]

    def check(self, request: web.Request, type_: Type, name: str | None) -> None:
        if not self.rules or request.headers.get("Authorization") != f"Bearer {LAUNCHER}":
            return
        verb = VERBS[request.method] if name or request.method != "GET" else "list"
        for rule in self.rules:
            known = type_[0] in rule["apiGroups"] and type_[2] in rule["resources"] and verb in rule["verbs"]
            if known and name in rule.get("resourceNames", [name]):
                return
        what = f'{type_[2]}.{type_[0]} is forbidden: User "{LAUNCHER}" cannot {verb} resource "{type_[2]}"'
        raise ApiError(403, "Forbidden", what)


class Api:
    def __init__(self, store: Store, kubelet: Kubelet, role: Role):
        self.store, self.kubelet, self.role = store, kubelet, role

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self.route(request)
        except ApiError as error:
            return error.response()

    async def route(self, request: web.Request) -> web.StreamResponse:
        parts = [p for p in request.path.split("/") if p]
        if answer := self.discover(parts):
            return answer
        if parts[:1] == ["api"]:
            group, version, rest = "", parts[1], parts[2:]
        elif parts[:1] == ["apis"]:
            group, version, rest = parts[1], parts[2], parts[3:]
        else:
            raise ApiError(404, "NotFound", request.path)
        if not rest:
            return web.json_response(self.resource_list(group, version))
        namespace = None
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        type_ = (group, version, rest[0])
        if type_ not in self.store.resources:
            raise ApiError(404, "NotFound", f"no resource {type_}")
        verb_on = (*type_[:2], "/".join([type_[2], *rest[2:3]]))
        self.role.check(request, verb_on, rest[1] if len(rest) > 1 else None)
        if len(rest) == 1:
            return await self.collection(request, type_, namespace)
        if rest[2:] == ["portforward"] and (type_, namespace, rest[1]) in self.store.objects:
            return await self.forward(request, self.store.objects[type_, namespace, rest[1]])
        return await self.item(request, (type_, namespace, rest[1]), rest[2] if len(rest) > 2 else None)

    def discover(self, parts: list[str]) -> web.Response | None:
        """The answer to questions about the server itself; None to all others."""
        if parts == ["version"]:
            return web.json_response({"major": "1", "minor": "34", "gitVersion": "v1.34.0", "platform": "linux/amd64"})
        if parts in (["livez"], ["readyz"], ["healthz"]):
            return web.Response(text="ok")
        if parts == ["api"]:
            return web.json_response({"kind": "APIVersions", "versions": ["v1"]})
        if parts[:1] == ["apis"] and len(parts) == 2:
            return web.json_response({"kind": "APIGroup", "apiVersion": "v1"} | self.group(parts[1]))
        if parts != ["apis"]:
            return None
        groups = [self.group(name) for name in dict.fromkeys(t[0] for t in self.store.resources if t[0])]
        return web.json_response({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})

    def group(self, name: str) -> dict:
        versions = sorted({t[1] for t in self.store.resources if t[0] == name})
        if not versions:
            raise ApiError(404, "NotFound", name)
        listed = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
        return {"name": name, "versions": listed, "preferredVersion": listed[0]}

    def resource_list(self, group: str, version: str) -> dict:
        listed = []
        for (g, v, plural), r in self.store.resources.items():
            if (g, v) == (group, version):
                both = {"singularName": r.kind.lower(), "namespaced": r.namespaced, "kind": r.kind}
                verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
                listed += [
                    both | {"name": plural, "shortNames": list(r.short_names), "verbs": verbs},
                    both | {"name": f"{plural}/status", "verbs": ["get", "patch", "update"]},
                ]
        if not listed:
            raise ApiError(404, "NotFound", f"{group}/{version}")
        name = "/".join(filter(None, (group, version)))
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": listed}

    async def collection(self, request: web.Request, type_: Type, namespace: str | None) -> web.StreamResponse:
        if request.method == "POST":
            return web.json_response(await self.store.create(type_, namespace, await request.json()), status=201)
        if request.method != "GET":
            raise ApiError(405, "MethodNotAllowed", request.method)
        if request.query.get("watch", "").lower() in ("1", "true"):
            return await self.watch(request, type_, namespace)
        return web.json_response(
            {
                "kind": f"{self.store.resources[type_].kind}List",
                "apiVersion": group_version(type_),
                "metadata": {"resourceVersion": str(self.store.version)},
                "items": self.store.select(type_, namespace, request.query),
            }
        )

    async def watch(self, request: web.Request, type_: Type, namespace: str | None) -> web.StreamResponse:
        query = request.query
        deadline = time.monotonic() + float(query.get("timeoutSeconds") or 300)
        version = int(query.get("resourceVersion") or 0)
        events = []
        if not version:
            version = self.store.version
            events = [("ADDED", obj) for obj in self.store.select(type_, namespace, query)]
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError):
            while (left := deadline - time.monotonic()) > 0:
                for event, obj in events:
                    await response.write(json.dumps({"type": event, "object": obj}).encode() + b"\n")
                await self.store.wait_beyond(version, min(5, left))
                new, version = self.store.log[version:], self.store.version
                events = [
                    (event, obj)
                    for t, event, obj in new
                    if t == type_ and namespace in (None, obj["metadata"].get("namespace")) and selected(obj, query)
                ]
        return response

    async def forward(self, request: web.Request, pod: dict) -> web.WebSocketResponse:
        """Bytes of channel 0 to and from a port of a pod; the first message of each channel is the port."""
        port = int(request.query["ports"])
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for channel in (0, 1):
            await socket.send_bytes(bytes([channel]) + port.to_bytes(2, "little"))
        try:
            reader, writer = await asyncio.open_connection(pod["status"]["podIP"], port)
        except OSError as error:
            await socket.send_bytes(b"\x01" + str(error).encode())
            await socket.close()
            return socket

        async def send() -> None:
            while data := await reader.read(2**16):
                await socket.send_bytes(b"\x00" + data)
            await socket.close()

        sending = asyncio.create_task(send())
        try:
            async for message in socket:
                if message.type == WSMsgType.BINARY and message.data[:1] == b"\x00":
                    writer.write(message.data[1:])
                    await writer.drain()
        finally:
            sending.cancel()
            writer.close()
        return socket

    async def item(self, request: web.Request, key: Key, subresource: str | None) -> web.Response:
        type_, _, name = key
        if not self.store.resources[type_].namespaced:
            key = (type_, None, name)
        if key not in self.store.objects:
            raise ApiError(404, "NotFound", f'{type_[2]} "{name}" not found')
        old = self.store.objects[key]
        if request.method == "GET" and subresource == "log":
            return web.Response(body=self.kubelet.log(name).read_bytes())
        if request.method == "GET":
            return web.json_response(old)
        if request.method == "DELETE":
            return web.json_response(await self.store.delete(key))
        body = await request.json()
        if request.method == "PUT":
            new = without_nulls(body)
        elif request.method == "PATCH" and "json-patch" in request.content_type:
            try:
                new = jsonpatch.apply_patch(old, body)
            except jsonpatch.JsonPatchException as error:
                raise ApiError(422, "Invalid", str(error)) from error
        elif request.method == "PATCH":
            new = merge(copy.deepcopy(old), body)
        else:
            raise ApiError(405, "MethodNotAllowed", request.method)
        fixed = {k: old["metadata"][k] for k in ("uid", "name", "creationTimestamp")}
        new["metadata"] = new["metadata"] | fixed
        return web.json_response(await self.store.update(key, new))


def kubeconfig(port: int, token: str) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "stand-in",
        "clusters": [{"name": "stand-in", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "stand-in", "user": {"token": token}}],
        "contexts": [
            {"name": "stand-in", "context": {"cluster": "stand-in", "user": "stand-in", "namespace": "default"}}
        ],
    }


async def serve(args: argparse.Namespace) -> None:
    args.run.mkdir(parents=True, exist_ok=True)
    store = Store(Names(args.hosts))
    kubelet = Kubelet(store, args.run, args.programs, args.grace)
    await store.create(("", "v1", "namespaces"), None, {"metadata": {"name": "default"}})
    app = web.Application(client_max_size=16 * 2**20)
    app.router.add_route("*", "/{path:.*}", Api(store, kubelet, Role(args.role)).__call__)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", args.port).start()
    port = runner.addresses[0][1]
    (args.run / "launcher").write_text(yaml.safe_dump(kubeconfig(port, LAUNCHER)))
    (args.run / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(port, "operator")))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await kubelet.close()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, help="directory for the kubeconfig and the pods' logs")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; read it from RUN/kubeconfig")
    parser.add_argument(
        "--programs",
        type=pathlib.Path,
        default=pathlib.Path(sys.executable).parent,
        help="where a container's first word is looked up before PATH (default: beside this Python)",
    )
    parser.add_argument("--hosts", type=pathlib.Path, help="hosts file that Service names are appended to")
    parser.add_argument(
        "--role",
        type=lambda path: [each for each in yaml.safe_load_all(pathlib.Path(path).read_text()) if each],
        default=[],
        help="manifests whose roles hold for the kubeconfig RUN/launcher (default: it may do everything)",
    )
    parser.add_argument("--grace", type=float, default=5, help="seconds between SIGTERM and SIGKILL")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
