"""Maps that read several archives: one provider describes all their collections, each is asked where it is."""

import pytest
import yaml

from mapper.catalog.provider import load_provider, location_of, merge, provider_of
from mapper.errors import SpecError
from mapper.spec import CatalogSpec, parse_spec

CONTENT = {
    "name": "two",
    "area": {"bbox": [11.9, 47.9, 12.1, 48.1]},
    "period": {"start": "2020-01-01", "end": "2020-12-31"},
    "grid": {"crs": "EPSG:3035", "resolution": 10, "tile": 256},
    "catalog": {"provider": "planetary-computer"},
    "guide": {"layers": [{"collection": "sentinel-2-l2a", "bands": ["B04"]}], "seasons": {"year": [5, 6]}},
    "source": {"collection": "esa-cci-biomass", "variable": "agb", "resolution": 100, "catalog": {"provider": "demo"}},
    "model": {"name": "bicubic"},
    "store": "map.icechunk",
}


def test_collections_come_from_the_provider_that_is_named_for_them(tmp_path):
    provider = provider_of(parse_spec(CONTENT, base=tmp_path))
    assert provider.rule("esa-cci-biomass") == load_provider("demo").rule("esa-cci-biomass")
    assert provider.rule("sentinel-2-l2a").access.signing.kind == "token-service"
    assert provider.rule("esa-cci-biomass").access.signing.kind == "none"
    assert provider.name == "planetary-computer + demo"


def test_a_collection_that_its_provider_lacks_is_refused(tmp_path):
    source = CONTENT["source"] | {"collection": "agb"}
    with pytest.raises(SpecError, match="unknown collection 'agb': demo has esa-cci-biomass"):
        provider_of(parse_spec(CONTENT | {"source": source}, base=tmp_path))


def test_a_collection_has_one_home(tmp_path):
    layers = [*CONTENT["guide"]["layers"], {**CONTENT["source"], "bands": ["agb"], "catalog": {"provider": "mine"}}]
    layers[1] = {key: layers[1][key] for key in ("collection", "bands", "catalog")}
    with pytest.raises(SpecError, match="'esa-cci-biomass' comes from two catalogues"):
        parse_spec(CONTENT | {"guide": CONTENT["guide"] | {"layers": layers}}, base=tmp_path)


def test_a_map_overrides_a_few_lines(tmp_path):
    override = {"collections": {"sentinel-2-l2a": {"resampling": "nearest"}}}
    spec = parse_spec(CONTENT | {"catalog": {"provider": "demo", "override": override}}, base=tmp_path)
    assert provider_of(spec).rule("sentinel-2-l2a").resampling == "nearest"
    assert load_provider("demo").rule("sentinel-2-l2a").resampling == "bilinear"


def test_a_catalogue_without_a_place_is_refused():
    with pytest.raises(SpecError, match=r"demo has no endpoint of its own: give catalog\.href"):
        location_of(CatalogSpec(provider="demo"))


def test_a_provider_may_extend_another_and_a_collection_be_like_another(tmp_path):
    content = {
        "extends": "demo",
        "name": "mine",
        "endpoint": "http://127.0.0.1:9/",
        "access": {"limits": {"requests_per_second": 5}},
        "collections": {"s2": {"like": "sentinel-2-l2a", "bands": {"B02": "blue"}}},
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    mine, demo = load_provider(str(path)), load_provider("demo")
    assert mine.rule("s2").bands["B02"].asset == "blue"
    assert mine.rule("s2").mask == demo.rule("sentinel-2-l2a").mask
    assert mine.rule("truth").access.limits.requests_per_second == 5
    assert mine.licence == demo.licence


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"collections": {"s2": {"like": "s3"}}}, "like 's3', which is not another collection"),
        ({"collections": {"s2": {"like": "s2"}}}, "like 's2', which is not another collection"),
        ({"extends": "mine.yaml"}, "extends"),
    ],
)
def test_endless_inheritance_is_refused(tmp_path, change, line):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": "demo"} | change))
    with pytest.raises(SpecError, match=line):
        load_provider(str(path))


def test_merging_replaces_what_is_no_mapping():
    assert merge({"a": {"b": 1, "c": [1]}, "d": 2}, {"a": {"c": [2]}}) == {"a": {"b": 1, "c": [2]}, "d": 2}
