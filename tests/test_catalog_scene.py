"""Scenes processed more than once: which items are one acquisition, which stays, and what is never dropped."""

import itertools
import json
import random

import pytest
import shapely
from catalog_fakes import make_item
from hypothesis import given
from hypothesis import strategies as st
from mutated_items import ODD
from shared import SHARED, needs_shared

from mapper.catalog.normalise import drop_superseded
from mapper.catalog.provider import load_provider
from mapper.catalog.scene import SceneRule, identify_scene, spell_platform

RULES = load_provider("demo").collections
RADAR = {"s1": load_provider("stac-api").collections["sentinel-1"]}
SQUARE = shapely.box(11, 50, 12, 51)


def ids(items):
    return [item["id"] for item in items]


def scene(name, *, baseline="02.12", tile="33UUR", strip="S20190101T000001", platform="sentinel-2a", **properties):
    return make_item(
        name,
        platform=platform,
        **{
            "s2:mgrs_tile": tile,
            "s2:processing_baseline": baseline,
            "s2:datastrip_id": f"S2A_OPER_MSI_L2A_DS_ESRI_20201007T214659_{strip}_N02.12",
            **properties,
        },
    )


def radar(name, *, footprint=SQUARE, bands=("vv", "vh"), **properties):
    item = make_item(name, "s1", bounds=footprint.bounds, **{"platform": "SENTINEL-1A", **properties})
    return item | {
        "geometry": json.loads(shapely.to_geojson(footprint)),
        "assets": {band: {"href": f"/{name}/{band}.tif"} for band in bands},
    }


@given(st.randoms(use_true_random=False))
def test_of_one_scene_the_newest_processing_stays(rng):
    versions = [scene(f"v{k}", baseline=baseline) for k, baseline in enumerate(("02.12", "04.00", "05.10", "05.09"))]
    rng.shuffle(versions)
    kept, dropped = drop_superseded(versions, RULES)
    assert ids(kept) == ["v2"]
    assert dropped == ["v0", "v1", "v3"]


def test_of_one_baseline_the_last_produced_stays():
    early = scene("z", **{"s2:generation_time": "2020-10-07T23:30:00-01:00"})
    late = scene("a", **{"s2:generation_time": "2020-10-08T00:30:01Z"})
    latest = scene("b", **{"s2:generation_time": "2020-10-08T02:00:00+01:00"})
    assert drop_superseded([late, latest, early], RULES) == ([latest], ["a", "z"])


def test_equal_versions_have_one_winner_in_any_order():
    twins = [scene(name) for name in ("a", "c", "b")]
    winners = {tuple(ids(drop_superseded(order, RULES)[0])) for order in itertools.permutations(twins)}
    assert winners == {("c",)}


@pytest.mark.parametrize(
    "other",
    [
        scene("b", tile="33UUS"),
        scene("b", strip="S20190101T000500"),
        scene("b", platform="sentinel-2b"),
        scene("b") | {"collection": "sentinel-1-rtc"},
    ],
    ids=["tile", "strip", "platform", "collection"],
)
def test_other_scenes_are_not_taken_for_versions(other):
    assert drop_superseded([scene("a"), other], RULES) == ([scene("a"), other], [])


def test_items_that_name_no_tile_are_all_kept():
    items = [make_item(f"i{k}", platform="sentinel-2a") for k in range(5)]
    random.Random(1).shuffle(items)
    assert drop_superseded(items, RULES) == (items, [])


DIALECTS = {
    "planetary-computer": ("sentinel-2-l2a", "s2:mgrs_tile", "s2:datatake_id", "s2:datastrip_id",
                           "s2:processing_baseline", "s2:generation_time"),
    "earth-search": ("sentinel-2-c1-l2a", "grid:code", "s2:datatake_id", "s2:datastrip_id",
                     "s2:processing_baseline", "s2:generation_time"),
    "copernicus-dataspace": ("sentinel-2-l2a", "grid:code", "eopf:datatake_id", "eopf:datastrip_id",
                             "processing:version", "processing:datetime"),
    "stac-api": ("sentinel-2", "grid:code", "eopf:datatake_id", "s2:datastrip_id", "processing:version", "created"),
}  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_says_what_a_scene_is(name):
    collection, tile, datatake, strip, version, produced = DIALECTS[name]
    rules = load_provider(name).collections

    def of(key, *, start="20220301T101530", baseline="05.00", made="20230911T134045", square="33UWT"):
        stated = {
            tile: square if tile == "s2:mgrs_tile" else f"MGRS-{square}",
            datatake: f"GS2A_20220301T101021_034942_N{baseline}",
            strip: f"S2A_OPER_MSI_L2A_DS_S2RP_{made}_S{start}_N{baseline}",
            version: baseline,
            produced: f"{made[:4]}-{made[4:6]}-{made[6:8]}T{made[9:11]}:{made[11:13]}:{made[13:]}Z",
        }
        # the moment of a tile moves a little from one processing to the next
        when = f"2022-03-01T10:15:{int(made[-2:]) % 60:02d}Z"
        held = {band.asset: {"href": f"/{key}.jp2"} for band in rules[collection].bands.values()}
        return make_item(key, collection, when=when, platform="sentinel-2a", **stated) | {"assets": held}

    old, strip_two = of("old", baseline="04.00", made="20220301T170000"), of("strip", start="20220301T101912")
    new, again, beside = of("new"), of("again", made="20230911T134046"), of("beside", square="33UXT")
    kept, dropped = drop_superseded([old, strip_two, new, again, beside], rules)
    assert ids(kept) == ["strip", "again", "beside"]
    assert dropped == ["new", "old"]


def test_halves_of_a_tile_that_name_no_strip_are_both_kept():
    north, south = (-1, 50.4, 0, 51), (-1, 50, 0, 50.45)
    stated = {"platform": "sentinel-2b", "s2:mgrs_tile": "30UYC"}
    halves = [
        make_item(name, bounds=bounds, **stated, **{"s2:processing_baseline": baseline})
        for name, bounds, baseline in (("n", north, "05.00"), ("s", south, "05.09"))
    ]
    assert drop_superseded(halves, RULES) == (halves, [])
    again = make_item("again", bounds=(-1, 50, 0, 51), **stated, **{"s2:processing_baseline": "05.10"})
    assert drop_superseded([*halves, again], RULES) == ([again], ["n", "s"])


PRODUCTS = {
    "of ESA": "S1A_IW_GRDH_1SDV_20230704T052301_20230704T052326_049265_05EC8E_{}",
    "at Copernicus Data Space": "S1C_IW_GRDH_1SDV_20250704T052301_20250704T052326_003065_00631A_{}_COG",
    "at ASF": "S1B_EW_GRDM_1SDH_20190704T052301_20190704T052401_016965_01FEC2_{}-GRD_MD",
    "terrain-corrected": "S1A_IW_GRDH_1SDV_20230704T052301_20230704T052326_049265_05EC8E_{}_rtc",
    "of HyP3": "S1A_IW_20230704T052301_DVP_RTC10_G_gpuned_{}",
}  # fmt: skip


@pytest.mark.parametrize("product", PRODUCTS)
def test_an_acquisition_of_a_radar_counts_once(product):
    older = radar(PRODUCTS[product].format("FFFF"), **{"processing:datetime": "2023-07-04T09:00:00Z"})
    newer = radar(PRODUCTS[product].format("0001"), **{"processing:datetime": "2023-07-30T09:00:00Z"})
    assert drop_superseded([older, newer], RADAR) == ([newer], [older["id"]])


def test_bursts_are_told_apart_and_dated_by_their_names():
    names = [
        "OPERA_L2_RTC-S1_T073-154345-IW1_20230704T052301Z_20230912T101112Z_S1A_30_v1.0",
        "OPERA_L2_RTC-S1_T073-154345-IW1_20230704T052301Z_20240101T000000Z_S1A_30_v1.0",
        "OPERA_L2_RTC-S1_T073-154345-IW2_20230704T052301Z_20230912T101112Z_S1A_30_v1.0",
    ]
    assert drop_superseded([radar(name) for name in reversed(names)], RADAR)[1] == [names[0]]


def test_neighbouring_slices_polarisations_and_other_bands_are_kept():
    core = "S1A_IW_GRDH_{}_20230704T0523{}_20230704T0523{}_049265_05EC8E_{}"
    items = [
        radar(core.format("1SDV", "01", "26", "AAAA")),
        radar(core.format("1SDV", "26", "51", "BBBB")),
        radar(core.format("1SSV", "01", "26", "CCCC"), bands=("vv",)),
        radar(core.format("1SDV", "01", "26", "DDDD"), bands=("vv",), created="2024-01-01T00:00:00Z"),
    ]
    assert drop_superseded(items, RADAR) == (items, [])


def test_without_a_telling_name_platform_moment_and_footprint_tell():
    first, second = radar("first", created="2023-01-02T00:00:00Z"), radar("second", created="2023-01-01T00:00:00Z")
    beside = radar("beside", footprint=shapely.box(11.5, 50, 12.5, 51), created="2024-01-01T00:00:00Z")
    other = radar("other", platform="S1C")
    assert drop_superseded([first, second, beside, other], RADAR) == ([first, beside, other], ["second"])
    points = [radar(name) | {"geometry": {"type": "Point", "coordinates": [x, 50]}} for name, x in (("p", 1), ("q", 2))]
    assert drop_superseded(points, RADAR) == (points, [])
    nameless = [radar(name, platform=None) for name in ("a", "b")]
    assert drop_superseded(nameless, RADAR) == (nameless, [])


def test_a_slice_is_told_by_its_number_where_its_name_does_not():
    frame = {"s1:datatake_id": "425458", "created": "2023-01-01T00:00:00Z"}
    slices = [radar(f"slice-{k}", **frame, **{"s1:slice_number": str(k)}) for k in (3, 4)]
    again = radar("again", **{**frame, "created": "2023-02-01T00:00:00Z", "s1:slice_number": "4"})
    assert drop_superseded([*slices, again], RADAR) == ([slices[0], again], ["slice-4"])


def test_maps_of_other_quantities_at_one_moment_are_kept():
    rules = load_provider("maap").collections
    name, layer = "ESACCI_Biomass_L4_AGB_V4_100m_2020", "N00W060_ESACCI-BIOMASS-L4-{}-MERGED-100m-2020-fv4.0"
    items = [make_item(layer.format(kind), name, platform="alos-2") for kind in ("AGB", "AGB_SD")]
    items = [item | {"assets": {"tif": {"href": "/x.tif"}}} for item in items]
    assert drop_superseded(items, rules) == (items, [])


@needs_shared
def test_no_item_of_real_archives_is_taken_for_another():
    folders = (
        ("planetary-computer", "sentinel-2-l2a"), ("planetary-computer", "sentinel-1-rtc"),
        ("planetary-computer", "cop-dem-glo-30"), ("copernicus-dataspace", "sentinel-2-l2a"),
        ("earth-search", "cop-dem-glo-30"),
    )  # fmt: skip
    for provider, collection in folders:
        root = SHARED / "stac_items" / provider.replace("copernicus-dataspace", "cdse") / collection
        files = [json.loads(path.read_text()) for path in sorted(root.glob("*.json"))]
        lists = [file if isinstance(file, list) else file.get("features", [file]) for file in files]
        members = [item for group in lists for item in group if isinstance(item, dict)]
        whole = [item for item in members if item.get("id") and item.get("type") == "Feature" and item.get("assets")]
        items = list({item["id"]: item for item in whole}.values())
        rules = load_provider(provider).collections
        kept, dropped = drop_superseded(items, rules)
        assert (kept, dropped) == (items, [])
        again = json.loads(json.dumps(items[0]))
        again["id"] += "x" if "sentinel-1" not in collection else "_again"
        if collection != "cop-dem-glo-30":
            assert drop_superseded([items[0], again], rules) == ([again], [items[0]["id"]])


def test_a_provider_says_what_a_scene_is():
    own = {"tile": ["mine:cell"], "strip": [], "version": ["mine:run"], "produced": []}
    override = {"collections": {"mine": {"like": "reflectance", "scene": own}}}
    rules = load_provider("stac-api", override=override).collections
    items = [make_item(f"i{k}", "mine", **{"mine:cell": "a", "mine:run": run}) for k, run in enumerate((9, 10, "8.5"))]
    assert drop_superseded(items, rules) == ([items[1]], ["i0", "i2"])


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(ValueError, match="is no regular expression"):
        SceneRule(acquisition=("(",))


@pytest.mark.parametrize("value", ["SENTINEL-1A", "Sentinel-1A", "sentinel 1a", "S1A", "s1-a"])
def test_platforms_have_one_spelling(value):
    assert spell_platform(value) == "sentinel-1a"


@pytest.mark.parametrize("name", ["platform", "s2:mgrs_tile", "s2:datatake_id", "s2:datastrip_id", "created"])
def test_any_property_is_taken_for_a_word(name):
    for value in ODD:
        item = make_item("a", **{"platform": "S2A", "s2:mgrs_tile": "33UUR", name: value})
        found = identify_scene(item, RULES["sentinel-2-l2a"].scene)
        assert found is None or len({found.key}) == 1
        assert drop_superseded([item], RULES) == ([item], [])
