"""The same area and dates described as three archives describe them, over the same pixels, give the same cube."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from dialects import BANDS, COLLECTIONS, MIXED, PASSES, describe, write_pixels
from scenes import box_at

from mapper.catalog.items import freeze_items
from mapper.catalog.normalise import normalise_item
from mapper.catalog.provider import load_provider, provider_of
from mapper.catalog.search import search
from mapper.cube.composite import read_guide
from mapper.cube.observations import group_items
from mapper.cube.open import open_cube
from mapper.cube.read import read_block
from mapper.errors import SpecError
from mapper.spec import parse_spec

ARCHIVES = tuple(COLLECTIONS)
WINDOW = box_at("EPSG:32660", 499973, 6000004, size=(100, 150))
"""Beside the pixels of the scenes, so that every band is resampled; wider than both tiles."""


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    return write_pixels(tmp_path_factory.mktemp("pixels"), MIXED)


def rule_of(archive):
    return load_provider(archive).rule(COLLECTIONS[archive])


def items_of(archive, scenes, pixels):
    """What a search of the archive brings in: admitted as it is, frozen."""
    kept = load_provider(archive).assets[COLLECTIONS[archive]]
    return freeze_items(normalise_item(item, assets=kept) for item in describe(scenes, pixels, archive))


def read_all(archive, scenes, pixels, read):
    """A block of all bands, without the names and moments of its observations: archives give a pass or a tile's."""
    items = items_of(archive, scenes, pixels)
    return read(items, WINDOW, bands=list(BANDS), rule=rule_of(archive)).load().drop_vars(["group", "time"])


def spec_of(archive, *, local=False, **catalog):
    access = {"access": {"files": {"local": True}}} if local else {}
    content = {
        "name": "test",
        "area": {"bbox": [176, 53, 178, 55]},
        "period": {"start": "2020-01-01", "end": "2020-12-31"},
        "grid": {"crs": "EPSG:32660", "resolution": 10},
        "catalog": {"provider": archive, "override": access} | catalog,
        "guide": {
            "layers": [{"collection": COLLECTIONS[archive], "bands": list(BANDS)}],
            "seasons": {"early": [5, 6], "late": [7]},
        },
        "source": {"collection": "map", "variable": "agb", "resolution": 100, "catalog": {"provider": "stac-api"}
            | {"override": {"collections": {"map": {"like": "biomass"}}} | access} | catalog},
        "model": {"name": "bicubic"},
        "store": "map.icechunk",
    }  # fmt: skip
    return parse_spec(content, base=Path())


def members(archive, scenes, pixels):
    """Solar day and tiles of every image."""
    groups = group_items(items_of(archive, scenes, pixels), rule_of(archive), list(BANDS))
    tiles = {
        item["id"]: scene.tile
        for scene in scenes
        for item in describe([scene], pixels, archive)
    }  # fmt: skip
    return [(group.id[:10], [tiles[item["id"]] for item in group.items]) for group in groups]


@pytest.mark.parametrize("archive", ARCHIVES[1:])
@pytest.mark.parametrize("read", [read_block, open_cube])
def test_a_block_is_the_same_whoever_describes_it(archive, read, pixels):
    expected = read_all(ARCHIVES[0], PASSES, pixels, read)
    assert expected.sizes["time"] == 2
    assert float(np.isfinite(expected["B02"]).mean()) > 0.3
    assert read_all(archive, PASSES, pixels, read).identical(expected)


@pytest.mark.parametrize("archive", ARCHIVES)
def test_both_readers_agree_in_every_dialect(archive, pixels):
    eager, lazy = (read_all(archive, PASSES, pixels, read) for read in (read_block, open_cube))
    for band in BANDS:
        np.testing.assert_allclose(eager[band], lazy[band], atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("archive", ARCHIVES[1:])
def test_a_guide_is_the_same_whoever_describes_it(archive, pixels):
    guides = []
    for name in (ARCHIVES[0], archive):
        spec = spec_of(name)
        guides.append(read_guide(items_of(name, PASSES, pixels), WINDOW, spec=spec, provider=provider_of(spec)))
    np.testing.assert_array_equal(guides[0].values, guides[1].values)
    np.testing.assert_array_equal(guides[0].n_valid, guides[1].n_valid)
    assert guides[0].n_valid.max() == 2


@pytest.mark.parametrize("archive", ARCHIVES)
def test_images_are_the_same_solar_days_whoever_describes_them(archive, pixels):
    images = members(archive, PASSES, pixels)
    assert images == [
        ("2020-06-01", ["60UWE", "60UXE"]),
        ("2020-06-02", ["60UWE", "60UXE"]),
    ]


@pytest.mark.parametrize("archive", ARCHIVES)
def test_a_map_changes_the_provider_and_the_name_of_the_collection_only(archive, pixels, stac_api):
    """Asked over HTTP, the archive as a provider describes it, the source from one that a map describes itself."""
    coarse = describe(PASSES[:1], pixels, "planetary-computer")[0]
    coarse |= {"id": "map", "collection": "map", "assets": {"agb": {"href": "/agb.tif"}}}
    served = json.loads(json.dumps(describe(PASSES, pixels, archive)))
    for asset in (asset for item in served for asset in item["assets"].values()):
        asset["href"] = Path(asset["href"]).as_uri()
    address = stac_api([*served, coarse])
    spec = spec_of(archive, href=address, local=True)
    items = search(spec)
    assert len(items) == len(PASSES) + 1
    found = read_guide(items, WINDOW, spec=spec, provider=provider_of(spec))
    kept = items_of("planetary-computer", PASSES, pixels)
    spec = spec_of("planetary-computer")
    expected = read_guide(kept, WINDOW, spec=spec, provider=provider_of(spec))
    np.testing.assert_array_equal(found.values, expected.values)


def test_a_mixed_archive_is_the_same_by_baseline_and_by_declaration(pixels):
    blocks = [read_all(name, MIXED, pixels, read_block) for name in ("planetary-computer", "copernicus-dataspace")]
    assert blocks[0].identical(blocks[1])
    # two baselines of one pass are two images
    assert blocks[0].sizes["time"] == 4
    for archive in ("planetary-computer", "copernicus-dataspace"):
        assert [tiles for _, tiles in members(archive, MIXED, pixels)][2:] == [["60UWE"], ["60UXE"]]


def test_without_its_shift_a_scene_has_the_reflectance_that_was_written(pixels):
    """The oracle: the numbers in the files, by hand."""
    scene = MIXED[-2]
    block = read_block(
        items_of("planetary-computer", [scene], pixels), scene.geobox(10), bands=["B02"],
        rule=rule_of("planetary-computer").model_copy(update={"mask": None}),
    )  # fmt: skip
    with rasterio.open(pixels[scene.product]["B02"]) as file:
        stored = file.read(1)
    assert block["B02"].isel(time=0).values == pytest.approx(np.where(stored == 0, np.nan, stored / 1e4), nan_ok=True)


def test_bands_that_some_items_lack_do_not_depend_on_the_order_of_items(pixels):
    rule = rule_of("copernicus-dataspace")
    items = describe(PASSES, pixels, "copernicus-dataspace")
    del items[0]["assets"]["B02_10m"], items[2]["assets"]["B11_20m"], items[3]["assets"]["B02_10m"]
    blocks = [
        read_block(freeze_items(order), WINDOW, bands=["B02", "B11"], rule=rule)
        for order in itertools.islice(itertools.permutations(items), 0, 24, 5)
    ]
    assert all(block.identical(blocks[0]) for block in blocks[1:])
    assert blocks[0].sizes["time"] == 2
    assert bool(np.isfinite(blocks[0]["B02"]).any("x").any("y").all())


def test_an_offset_that_contradicts_the_baseline_stops_the_read_with_the_item_s_name(pixels):
    items = describe(PASSES, pixels, "copernicus-dataspace")
    items[0]["assets"]["B04_10m"]["raster:offset"] = 0
    with pytest.raises(SpecError, match=f"item {items[0]['id']} contradicts itself about the offset of B04_10m"):
        read_block(freeze_items(items), WINDOW, bands=["B02", "B04"], rule=rule_of("copernicus-dataspace"))
