"""A map from an archive whose addresses hold secrets: of no output, answer, page, log or error is a byte a secret."""

import json
import logging
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from fastapi.testclient import TestClient
from file_server import FileServer
from region import run_json, run_mapper

from mapper.catalog.freeze import load_items
from mapper.report.page import write_report
from mapper.serve.app import make_app
from mapper.store.map_store import open_map

PLANT = "PLANTEDsecret"
ROUTES = (
    "/", "/versions", "/stac", "/stac/item", "/zarr/main/zarr.json", "/zarr/main/agb/zarr.json", "/openapi.json",
    "/pixel?x=12.0&y=51.417", "/history?x=12.0&y=51.417", "/zarr/nothing/zarr.json", "/pixel?x=0&y=0", "/health",
)  # fmt: skip


def spoil(address, files, number):
    """Return the address of a file as an archive gives it that signs what it lists."""
    user = files.url(address).replace("http://", f"http://user:{PLANT}{number}@")
    return f"{user}?v=1&token={PLANT}{number}&X-Amz-Signature={PLANT}&se=1#{PLANT}"


def spoil_item(path, files, *, name=""):
    """Return an item with secrets wherever addresses are; under another name, its files are broken."""
    item = json.loads(path.read_text())
    item["id"] = name or item["id"]
    for number, asset in enumerate(item["assets"].values()):
        file = path.parent / asset["href"]
        if name:
            whole, file = file, file.with_name(f"{name}-{number}.tif")
            file.write_bytes(whole.read_bytes()[:200])
        asset["href"] = spoil(file, files, number)
        asset["alternate"] = {"s3": {"href": f"s3://key:{PLANT}@bucket/{file.name}?X-Amz-Signature={PLANT}"}}
        asset["title"] = f"from https://h.test/{file.name}?token={PLANT}"
    item["properties"]["via"] = f"https://user:{PLANT}@h.test/{item['id']}?key={PLANT}"
    item["links"] = [{"rel": "self", "href": f"https://h.test/{item['id']}.json?key={PLANT}"}]
    return item


@pytest.fixture(scope="module")
def folder(made_region, tmp_path_factory):
    return made_region.copy(tmp_path_factory.mktemp("folder of a person") / "region").folder


def change(path, endpoint):
    """Let a map read one tile from an API whose own address holds secrets."""
    content = yaml.safe_load(path.read_text())
    content["area"] = {"bbox": [11.998, 51.4155, 12.003, 51.4185]}
    content["catalog"]["href"] = f"{endpoint.replace('http://', f'http://user:{PLANT}@')}?key={PLANT}"
    content["catalog"]["override"] = {"kind": "api"}
    path.write_text(yaml.safe_dump(content | {"model": {"name": "bicubic"}}))


def bytes_of(folder):
    """All files of a folder by name; columns of Parquet as they are without compression."""
    for path in filter(Path.is_file, folder.rglob("*")):
        yield str(path), path.read_bytes()
        if path.suffix == ".parquet":
            yield f"{path} (decoded)", str(pq.read_table(path).to_pylist()).encode()


def test_no_secret_of_an_address_leaves(folder, stac_api, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG, "mapper")
    out = tmp_path / "out"
    out.mkdir()
    with FileServer(folder) as files:
        paths = sorted(path for path in (folder / "catalog").rglob("*/*.json") if path.stem != "collection")
        source = next(path for path in paths if "CCI" in path.stem)
        items = [*(spoil_item(path, files) for path in paths), spoil_item(source, files, name="A-broken")]
        change(folder / "map.yaml", stac_api(items))
        done = run_json("run", folder / "map.yaml", "--cluster", "serial")
        asked = {request.path for request in files.log() if request.path.endswith(".tif") or "?" in request.path}
    assert done["failed"] == 0
    assert done["tiles"] >= 1
    assert asked
    assert not any("=" in path for path in asked), "what may be a secret is dropped where items are read"
    store = folder / "map.icechunk"
    assert {item["links"][-1]["rel"] for item in load_items(folder / "map.items.parquet")} == {"root"}

    said = [run_mapper("why", store, 12.0, 51.417)[1], run_mapper("status", store)[1]]
    said += [run_mapper("export", store, "--out", out / name)[1] for name in ("a.tif", "a.zarr", "a.parquet")]
    write_report(store, out / "report.html")
    client = TestClient(make_app(store), raise_server_exceptions=False)
    served = {route: client.get(route) for route in ROUTES}
    assert {route: answer.status_code for route, answer in served.items() if answer.status_code >= 500} == {}
    record = served["/pixel?x=12.0&y=51.417"].json()["record"]
    assert any(use["dropped"] for use in record["items"]), "the broken item is named"
    (folder / "map.yaml").write_text((folder / "map.yaml").read_text().replace("esa-cci-biomass", "nothing"))
    said.append(run_mapper("run", folder / "map.yaml", "--refresh")[1])
    said += [caplog.text, *capfd.readouterr(), repr(open_map(store).attrs), open_map(store)._repr_html_()]

    shown = {route: answer.content + str(answer.headers).encode() for route, answer in served.items()}
    shown |= dict(bytes_of(out)) | {f"said {number}": text.encode() for number, text in enumerate(said)}
    stored = {name: content for name, content in bytes_of(folder) if not name.endswith("map.yaml")}
    stored = {name: content for name, content in stored.items() if "/catalog/" not in name}
    assert [name for name, content in (shown | stored).items() if PLANT.encode() in content] == []
    private = {name: content for name, content in shown.items() if not name.startswith("said")}
    assert [name for name, content in private.items() if str(folder).encode() in content] == []
    assert len(shown) > 20


def test_no_folder_of_the_machine_is_served_or_stored(folder, tmp_path):
    region = type("Region", (), {"map": folder / "local.yaml"})
    content = yaml.safe_load((folder / "map.yaml").read_text())
    content["source"]["collection"] = "esa-cci-biomass"
    content["catalog"] = {"provider": "demo", "href": str(folder / "catalog" / "catalog.json")}
    region.map.write_text(yaml.safe_dump(content | {"store": str(folder / "local.icechunk")}))
    assert run_json("run", region.map, "--cluster", "serial")["failed"] == 0
    store = folder / "local.icechunk"
    client = TestClient(make_app(store))
    record = client.get("/pixel?x=12.0&y=51.417").json()["record"]
    assert {href for use in record["items"] for href in use["hrefs"]} >= {
        "N60E010_ESACCI-BIOMASS-L4-AGB-MERGED-100m-2020-fv5.0.tif"
    }
    assert "catalog.json" in client.get("/zarr/main/zarr.json").json()["attributes"]["mapper:spec"]
    write_report(store, tmp_path / "report.html")
    assert run_mapper("export", store, "--out", tmp_path / "a.zarr")[0] == 0
    assert run_mapper("export", store, "--out", tmp_path / "a.parquet")[0] == 0
    shown = {route: client.get(route).content for route in ROUTES} | dict(bytes_of(tmp_path)) | dict(bytes_of(store))
    assert [name for name, content in shown.items() if str(folder).encode() in content] == []
