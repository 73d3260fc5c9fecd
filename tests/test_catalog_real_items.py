"""Items as archives serve them: what is made of each, and why. A file that is in no table here fails the test."""

import contextlib
import copy
import json
import re

import pytest
from shared import SHARED, needs_shared

from mapper.catalog.normalise import normalise_item
from mapper.catalog.provider import load_provider
from mapper.cube.inspection import inspect_item, rule_assets
from mapper.errors import SearchError

FOLDER = SHARED / "stac_items"
pytestmark = needs_shared

S2_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
PC_S2 = {band: band for band in S2_BANDS}
ES_NAMES = [
    "coastal",
    "blue",
    "green",
    "red",
    "rededge1",
    "rededge2",
    "rededge3",
    "nir",
    "nir08",
    "nir09",
    "swir16",
    "swir22",
]
ES_S2 = dict(zip(S2_BANDS, ES_NAMES, strict=True))
METRES = (60, 10, 10, 10, 20, 20, 20, 10, 20, 60, 20, 20)
CDSE_S2 = {band: f"{band}_{metres}m" for band, metres in zip(S2_BANDS, METRES, strict=True)}

VOIDS = (-32768, -32767, -9999)  # of heights, whoever is silent about them

# path: provider, what the map overrides, number of items, bands -> assets, CRS, stored values taken for missing,
# calibration, and why it is so
READ = {
    "planetary-computer/sentinel-2-l2a/S2A_MSIL2A_20190101T000001_R116_T59VPE_20201007T214658.json": (
        "planetary-computer", {}, 1, PC_S2, "EPSG:32659", (0,), "DN / 10000: processing baseline 02.12",
        "the item declares no scale, offset or nodata; its baseline is older than the shift of 04.00",
    ),
    "planetary-computer/sentinel-2-l2a/S2A_MSIL2A_20190101T000001_R116_T60VUJ_20201007T214652.json": (
        "planetary-computer", {}, 1, PC_S2, "EPSG:32660", (0,), "DN / 10000: processing baseline 02.12",
        "the same pass, in the next zone: at longitude 173 its solar day is that of UTC",
    ),
    "planetary-computer/sentinel-2-l2a/S2A_MSIL2A_20190101T000001_R116_T60VUK_20201007T214652.json": (
        "planetary-computer", {}, 1, PC_S2, "EPSG:32660", (0,), "DN / 10000: processing baseline 02.12",
        "the same pass",
    ),
    "planetary-computer/sentinel-2-l2a/S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531.json": (
        "planetary-computer", {}, 1, PC_S2, "EPSG:32606", (0,), "DN / 10000: processing baseline 02.12",
        "as above; produced in 2020 from a scene of 2019: the date decides nothing",
    ),
    "planetary-computer/sentinel-2-l2a/S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531_raster_ext.json": (
        "planetary-computer", {}, 1, PC_S2, "EPSG:32606", (0,), "DN / 10000: processing baseline 02.12",
        "the same item with raster:bands of nodata and type, without scale and offset: the baseline still decides",
    ),
    "planetary-computer/sentinel-2-l2a/sentinel-2-item.json": (
        "planetary-computer", {}, 1, PC_S2, "EPSG:32624", (0,), "(DN - 1000) / 10000: processing baseline 04.00",
        "04.00 is the first baseline with the shift",
    ),
    "planetary-computer/sentinel-2-l2a/sentinel-2-l2a-pc.json": (
        "planetary-computer", {}, 4, PC_S2, "EPSG:32646 EPSG:32647", (0,),
        "(DN - 1000) / 10000: processing baseline 05.10",
        "a list of items of one pass over two zones",
    ),
    "planetary-computer/sentinel-1-rtc/sentinel-1-rtc-pc.json": (
        "planetary-computer", {}, 4, {"vv": "vv", "vh": "vh"}, "EPSG:32633", (-32768, 0),
        "10 log10(stored): linear-power by the collection",
        ("linear gamma0, nodata -32768 declared, zeros at borders; projection on the item, with nine numbers; the "
         "product type GRD names what it was made from, it has a projection and so is on a grid"),
    ),
    "planetary-computer/cop-dem-glo-30/cop-dem-glo-30-pc.json": (
        "planetary-computer", {}, 4, {"elevation": "data"}, "EPSG:4326", VOIDS, "stored: identity by the collection",
        "no raster:bands and no nodata: every height is real, 0 and below too, but for voids; projection on the item",
    ),
    "earth-search/cop-dem-glo-30/Copernicus_DSM_COG_10_S90_00_W178_00_DEM.json": (
        "earth-search", {}, 1, {"elevation": "data"}, "EPSG:4326", VOIDS, "stored: identity by the collection",
        "raster:bands without nodata",
    ),
    "earth-search/cop-dem-glo-30/Copernicus_DSM_COG_10_S90_00_W179_00_DEM.json": (
        "earth-search", {}, 1, {"elevation": "data"}, "EPSG:4326", VOIDS, "stored: identity by the collection",
        "raster:bands without nodata",
    ),
    "earth-search/cop-dem-glo-30/Copernicus_DSM_COG_10_S90_00_W180_00_DEM.json": (
        "earth-search", {}, 1, {"elevation": "data"}, "EPSG:4326", VOIDS, "stored: identity by the collection",
        "half a pixel of it lies beyond -180 degrees",
    ),
    "cdse/sentinel-2-l2a/search_2026-05-27.json": (
        "copernicus-dataspace", {}, 1, CDSE_S2, "EPSG:32655", (0,), "(DN - 1000) / 10000: offset declared by the item",
        ("STAC 1.1: flat raster:offset -0.1, and processing:version 05.12 agrees; projection on each asset; a search "
         "answer; of each band the asset in the resolution of the instrument"),
    ),
}  # fmt: skip

ES_AMBIGUOUS = "earth-search/sentinel-2-l2a/S2A_13TDE_20231008_0_L2A.json"
STUBS = [f"earth-search/sentinel-2-c1-l2a/S2C_T13TDE_{name}_L2A.json" for name in (
    "20250726T175050", "20250729T175521", "20250729T180310",
)]  # fmt: skip
# path: provider, what the refusal says, and why
REFUSED = {
    ES_AMBIGUOUS: (
        "earth-search", r"is refused: its items say that the offset was removed .* use sentinel-2-c1-l2a",
        "flag and declaration contradict each other, and it is known that either may be wrong",
    ),
    **dict.fromkeys(STUBS, ("earth-search", "has no assets: there is nothing to read", "a stub without assets")),
    "planetary-computer/sentinel-2-l2a/base_sentinel2_l2a.json": (
        "planetary-computer", "the item has no id: it is a template", "what all items of the collection share",
    ),
}  # fmt: skip

NOT_ITEMS = {
    "collection.json": "a collection",
    "collection_template.json": "a collection with blanks",
    "record_sentinel2_l2a.json": "a row of a database",
    "step_function_input.json": "a setting of the archive's own machinery",
}


def load(path):
    content = json.loads((FOLDER / path).read_text())
    return content if isinstance(content, list) else content.get("features", [content])


def test_every_file_is_in_a_table():
    there = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.json") if path.name not in NOT_ITEMS}
    assert there == set(READ) | set(REFUSED)


@pytest.mark.parametrize("path", READ)
def test_an_item_is_read_as_it_should_be(path):
    name, override, count, bands, crs, missing, calibration, why = READ[path]
    provider = load_provider(name, override=override)
    items = load(path)
    assert len(items) == count, why
    for item in items:
        facts = inspect_item(item, provider)
        assert {each.band: each.asset for each in facts} == bands, why
        assert {each.nodata for each in facts} == {tuple(map(float, missing))}, why
        assert {each.calibration for each in facts} == {calibration}, why
        assert not any(each.error for each in facts)
    assert {each.crs for item in items for each in inspect_item(item, provider)} == set(crs.split()), why


@pytest.mark.parametrize("path", READ)
def test_admission_changes_nothing_that_matters(path):
    provider = load_provider(READ[path][0], override=READ[path][1])
    for item in load(path):
        admitted = normalise_item(item, assets=provider.assets[item["collection"]])
        assert inspect_item(admitted, provider) == inspect_item(item, provider)
        assert admitted["geometry"] == item["geometry"]
        assert set(admitted["assets"]) <= set(rule_assets(provider.rule(item["collection"])))


@pytest.mark.parametrize("path", REFUSED)
def test_an_item_is_refused_with_a_reason(path):
    name, reason, why = REFUSED[path]
    for item in load(path):
        (fact,) = inspect_item(item, load_provider(name))
        assert re.search(reason, fact.error), why


@pytest.mark.parametrize(
    ("trust", "calibration"),
    [
        ("flag", "DN / 10000: offset already applied, says the item, trusted although"),
        ("declaration", "(DN - 1000) / 10000: offset declared by the item, trusted although"),
        ("baseline", "(DN - 1000) / 10000: processing baseline 05.09, trusted although"),
    ],
)
def test_a_map_may_decide_about_the_ambiguous_collection(trust, calibration):
    override = {"collections": {"sentinel-2-l2a": {"refused": None, "trust": trust}}}
    provider = load_provider("earth-search", override=override)
    facts = inspect_item(load(ES_AMBIGUOUS)[0], provider)
    assert {each.band: each.asset for each in facts} == ES_S2
    assert {each.crs for each in facts} == {"EPSG:32613"}
    assert all(each.calibration.startswith(calibration) for each in facts)


def test_the_ambiguous_collection_is_refused_item_by_item_if_nobody_is_trusted():
    provider = load_provider("earth-search", override={"collections": {"sentinel-2-l2a": {"refused": None}}})
    (fact,) = inspect_item(load(ES_AMBIGUOUS)[0], provider)
    assert "S2A_13TDE_20231008_0_L2A contradicts itself about the offset of coastal" in fact.error
    assert "earthsearch:boa_offset_applied says that the offset was removed" in fact.error
    assert "setting trust decides (declaration, flag, baseline)" in fact.error


@pytest.mark.parametrize("collection", ["sentinel-2-c1-l2a", "sentinel-2-pre-c1-l2a"])
def test_collections_of_earth_search_promise_what_the_provider_reads(collection):
    """Of collection 1 only stubs are at hand; what its items hold is promised by the collection."""
    promised = json.loads((FOLDER / "earth-search" / collection / "collection.json").read_text())["item_assets"]
    provider = load_provider("earth-search")
    item = {
        "id": "promised",
        "collection": collection,
        "geometry": {"type": "Point", "coordinates": [-103.2, 35.6]},  # in the grid that assets promise
        "properties": {"datetime": "2025-07-26T17:53:21Z", "proj:epsg": 32613, "s2:processing_baseline": "05.11"},
        "assets": {key: {**asset, "href": f"{key}.tif"} for key, asset in promised.items()},
    }
    facts = inspect_item(item, provider)
    assert {each.band: each.asset for each in facts} == ES_S2
    assert {each.calibration for each in facts} == {"(DN - 1000) / 10000: offset declared by the item"}
    assert [each.resolution for each in facts] == list(METRES)
    assert {each.nodata for each in facts} == {(0.0,)}


@pytest.mark.parametrize(
    ("name", "collection"),
    [
        ("planetary-computer", "hgb"),
        *(("maap", f"ESACCI_Biomass_L4_AGB_V4_100m_{year}") for year in (2017, 2018, 2019, 2020)),
    ],
)
def test_collections_without_items_at_hand_promise_the_assets(name, collection):
    folder = FOLDER / name / collection
    promised = json.loads(next(folder.glob("collection*.json")).read_text())["item_assets"]
    assert set(rule_assets(load_provider(name).rule(collection))) <= set(promised)


@pytest.mark.parametrize("year", [2010, 2017, 2018])
def test_version_3_of_maap_promises_nothing_and_is_taken_to_be_like_version_4(year):
    name = f"ESACCI_Biomass_L4_AGB_V3_100m_{year}"
    assert json.loads((FOLDER / "maap" / name / "collection.json").read_text())["item_assets"] == {}
    provider = load_provider("maap")
    assert provider.rule(name) == provider.rule("ESACCI_Biomass_L4_AGB_V4_100m_2020")


def test_granules_of_maap_are_told_apart_by_their_ids():
    rule = load_provider("maap").rule("ESACCI_Biomass_L4_AGB_V4_100m_2020")
    for layer, band in (("AGB", "agb"), ("AGB_SD", "agb_sd")):
        item = {"id": f"N00W060_ESACCI-BIOMASS-L4-{layer}-MERGED-100m-2020-fv4.0", "assets": {"tif": {}}}
        assert [name for name in rule.bands if rule.asset(item, name)] == [band]


def test_one_pass_is_one_image():
    provider = load_provider("planetary-computer")
    paths = [path for path in READ if "_R116_T" in path]
    images = {each.image for path in paths for item in load(path) for each in inspect_item(item, provider)}
    assert images == {"2019-01-01 sentinel-2a descending 116"}


@pytest.mark.parametrize(
    "path",
    [
        "planetary-computer/sentinel-2-l2a/sentinel-2-item.json",
        "planetary-computer/sentinel-1-rtc/sentinel-1-rtc-pc.json",
        "cdse/sentinel-2-l2a/search_2026-05-27.json",
    ],
)
def test_a_spoilt_item_is_read_or_refused_and_never_breaks_the_program(path):
    provider = load_provider(READ[path][0])
    served = load(path)[0]
    kept = provider.assets[served["collection"]]
    band = next(key for key in served["assets"] if key in kept)
    served = {**served, "assets": {key: asset for key, asset in served["assets"].items() if key in kept}}
    more = ("nodata", "raster:bands", "bands", "proj:code", "proj:bbox", "raster:scale", "file:nodata", "unit")
    for place in ((), ("properties",), ("assets",), ("assets", band)):
        inside = _at(served, place)
        for key in {*inside, *(more if len(place) == 2 else ())}:
            for value in (None, "x", [], {}, -1, [1]):
                spoilt = copy.deepcopy(served)
                _at(spoilt, place)[key] = value
                inspect_item(spoilt, provider)
                with contextlib.suppress(SearchError):
                    normalise_item(spoilt, assets=kept)


def _at(item, place):
    for key in place:
        item = item[key]
    return item
