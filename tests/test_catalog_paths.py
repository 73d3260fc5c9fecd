"""Paths of this machine are names: whatever is in them, files lie there and nowhere else."""

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
import pystac
import pytest
from affine import Affine
from catalog_fakes import make_item, make_items, make_spec
from odc.geo.geobox import GeoBox
from test_catalog_search import ids, on_disk

from mapper.access.files import Access
from mapper.access.rules import AccessRule
from mapper.access.tally import AssetName
from mapper.catalog.freeze import load_items, open_items, save_items
from mapper.catalog.inventory import inventory_path
from mapper.catalog.items import freeze_items
from mapper.catalog.normalise import normalise_item
from mapper.catalog.raster import write_asset
from mapper.catalog.references import to_reference
from mapper.catalog.search import search
from mapper.catalog.static import read_catalog
from mapper.synthetic.stac import CollectionNote
from mapper.synthetic.stac import write_catalog as write_scenes

NAMES = ["a#b", "a?b", "per%20cent", "a b", "a\\b", "-x", "ä€", "a:b", "s3:", "a%", "~x", "[x]", "{x}", "x."]
"""Names that mean something else where they are taken for an address."""


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", NAMES)
def test_items_are_frozen_in_the_file_that_was_named(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    items = freeze_items([make_item("a")])
    for path in (Path(f"{name}.items.parquet"), Path(name) / "map.items.parquet"):
        save_items(items, path)
        assert load_items(path) == open_items(path) == load_items(str(path)) == items
    assert files_in(tmp_path) == sorted([f"{name}.items.parquet", f"{name}/map.items.parquet"])
    assert inventory_path(Path(f"{name}.yaml")) == Path(f"{name}.items.parquet")


@pytest.mark.parametrize("name", NAMES)
def test_a_catalogue_is_read_in_the_folder_that_was_named(name, tmp_path):
    items = make_items(2)
    for item in items:
        item["assets"] = {key: {**asset, "href": f"./{key}.tif"} for key, asset in item["assets"].items()}
    catalog = on_disk(tmp_path / name, items)
    assert catalog.parent == tmp_path / name
    found = search(make_spec(catalog))
    assert ids(found) == ids(items)
    first = found.items[0]
    folder = tmp_path / name / first["collection"] / first["id"]
    assert all(Path(asset["href"]).parent == folder for asset in first["assets"].values())
    assert ids(search(make_spec(catalog.as_uri()))) == ids(items)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name_is_read_and_none_beside_it(name, tmp_path):
    folder = tmp_path / "c" / "a"
    geobox = GeoBox((16, 16), Affine(10, 0, 600000, 0, -10, 5700000), "EPSG:32633")
    write_asset(folder / f"{name}.tif", np.ones(geobox.shape, np.uint16), geobox, nodata=0)
    for decoy in {unquote(name), name.partition("#")[0], name.partition("?")[0], quote(name)} - {name}:
        write_asset(folder / f"{decoy}.tif", np.full(geobox.shape, 2, np.uint16), geobox, nodata=0)
    for encoded in (quote(f"{name}.tif"), to_reference(f"{name}.tif"), (folder / f"{name}.tif").as_uri()):
        catalog = on_disk(tmp_path, [make_item("a", "c") | {"assets": {"B04": {"href": encoded}}}])
        (item,) = read_catalog(catalog, collections={"c"}).items
        href = normalise_item(item, assets=frozenset({"B04"}))["assets"]["B04"]["href"]
        asset = AssetName(item="a", asset="B04", href=href)
        assert Access().read(asset, AccessRule(), lambda dataset: int(dataset.read(1)[0, 0])) == 1


@pytest.mark.parametrize("name", NAMES)
def test_scenes_are_written_into_the_folder_that_was_named(name, tmp_path):
    point = {"type": "Point", "coordinates": [12, 50]}
    item = pystac.Item("a", point, [12, 50, 12, 50], datetime(2020, 1, 1, tzinfo=UTC), {}, collection="c")
    path = write_scenes(tmp_path / name, [item], [CollectionNote(name="c", description="c")])
    assert files_in(tmp_path) == [f"{name}/c/a/a.json", f"{name}/c/collection.json", f"{name}/catalog.json"]
    assert [read["id"] for read in read_catalog(path, collections={"c"}).items] == ["a"]
