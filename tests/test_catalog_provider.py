"""Provider descriptions: those that ship fit the items they describe, wrong ones are refused in a line."""

import json

import pytest
import yaml
from shared import SHARED, needs_shared

from mapper.catalog.provider import Provider, load_provider, provider_names
from mapper.errors import SpecError

NAMES = ("biomassters", "demo", "planetary-computer")


def test_the_providers_that_ship_are_named():
    assert set(NAMES) <= set(provider_names())


@pytest.mark.parametrize("name", provider_names())
def test_every_provider_that_ships_is_valid(name):
    provider = load_provider(name)
    assert provider.name == name
    for collection, rule in provider.collections.items():
        assert provider.rule(collection) is rule
        assert provider.assets[collection] >= {band.asset for band in rule.bands.values()}
        assert rule.mask is None or rule.mask.asset in provider.assets[collection]


def test_a_provider_of_ones_own_is_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(load_provider("demo").model_dump(mode="json")))
    assert load_provider(str(path)) == load_provider("demo")


def test_a_description_survives_being_written():
    provider = load_provider("planetary-computer")
    assert Provider.model_validate(provider.model_dump(mode="json")) == provider


@pytest.mark.parametrize("text", ["name: mine", "a: [", "- 1", "name: mine\ncolour: red"])
def test_a_wrong_description_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=r"mine\.yaml' is not valid") as error:
        load_provider(str(path))
    assert "\n" not in str(error.value)


def test_an_unknown_provider_is_refused_with_those_that_ship():
    with pytest.raises(SpecError, match="unknown provider 'nasa': mapper ships biomassters, demo, planetary-computer"):
        load_provider("nasa")


def test_an_unknown_collection_is_refused_with_those_that_are_described():
    with pytest.raises(SpecError, match="unknown collection 'landsat': demo has esa-cci-biomass, sentinel-1-rtc"):
        load_provider("demo").rule("landsat")


@needs_shared
@pytest.mark.parametrize("collection", ["sentinel-2-l2a", "sentinel-1-rtc"])
def test_planetary_computer_serves_the_assets_that_are_named(collection):
    folder = SHARED / "stac_items" / "planetary-computer" / collection
    items = [json.loads(path.read_text()) for path in folder.glob("*-pc.json")]
    rule = load_provider("planetary-computer").rule(collection)
    for item in (item for group in items for item in group):
        assert {band.asset for band in rule.bands.values()} | ({rule.mask.asset} if rule.mask else set()) <= set(
            item["assets"]
        )
        for asset in (band.asset for band in rule.bands.values()):
            stated = item["assets"][asset].get("raster:bands", [{}])[0]
            assert stated.get("nodata", rule.nodata) == rule.nodata
            assert stated.get("data_type", rule.dtype) == rule.dtype


@needs_shared
def test_hgb_has_the_assets_that_are_named():
    path = SHARED / "stac_items" / "planetary-computer" / "hgb" / "collection_template.json"
    rule = load_provider("planetary-computer").rule("hgb")
    assert {band.asset for band in rule.bands.values()} <= set(json.loads(path.read_text())["item_assets"])
