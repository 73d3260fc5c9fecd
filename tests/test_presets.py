"""Presets: what ships is valid, fills the gaps of a description, and gives way to what a description says."""

import ast
import copy
import json
from pathlib import Path

import pytest
import yaml
from test_spec import CONTENT, changed
from typer.testing import CliRunner

from mapper.cli import app
from mapper.errors import SpecError
from mapper.presets import DEFAULT, list_presets, read_preset
from mapper.spec import parse_spec

PLACE = {
    "name": "small",
    "area": {"bbox": [11.9, 50.0, 12.0, 50.05]},
    "period": {"start": "2024-06-01", "end": "2024-07-31"},
    "catalog": {"provider": "planetary-computer"},
    "model": {"name": "bicubic"},
    "store": "map.icechunk",
}
GRIDS = {
    "biomass": {"crs": "EPSG:3035", "resolution": 10},
    "elevation": {"crs": "EPSG:3035", "resolution": 10},
    "sentinel2-20m": {"crs": "EPSG:32632", "resolution": 10},
    "sentinel2-multi": {"crs": "EPSG:32632", "resolution": 5},
    "sentinel2-generative": {"crs": "EPSG:32632", "resolution": "5/2"},
}


def test_the_default_is_one_of_those_that_ship():
    assert {preset.name for preset in list_presets()} == GRIDS.keys()
    assert DEFAULT in GRIDS
    assert all(preset.title for preset in list_presets())


@pytest.mark.parametrize("name", sorted(GRIDS.keys() - {"biomass"}))
def test_a_preset_and_a_few_words_are_a_map(name, tmp_path):
    spec = parse_spec(PLACE | {"preset": name, "grid": GRIDS[name]}, base=tmp_path)
    assert len(spec.targets) == len(spec.source.band_names)
    assert spec.scale > 1
    assert all(band.units and band.value_range for band in spec.targets)
    assert parse_spec(yaml.safe_load(spec.to_yaml()), base=tmp_path) == spec


def test_a_description_goes_before_its_preset(tmp_path):
    target = {"target": {"value_range": 0.5, "encoding": {"dtype": "float32"}}, "source": {"dates": 3}}
    spec = parse_spec(PLACE | {"preset": "sentinel2-multi", "grid": GRIDS["sentinel2-multi"], **target}, base=tmp_path)
    assert spec.source.dates == 3
    assert spec.source.band_names == ("B02", "B03", "B04", "B08")
    assert {band.encoding.dtype for band in spec.targets} == {"float32"}
    assert {band.encoding.scale_factor for band in spec.targets} == {0.0001}  # the rest of a mapping stays
    assert {band.value_range for band in spec.targets} == {0.5}


def test_a_consistency_with_its_operator_takes_the_place_of_that_of_the_preset(tmp_path):
    content = PLACE | {"preset": "sentinel2-multi", "grid": GRIDS["sentinel2-multi"]}
    other = parse_spec(content | {"consistency": {"operator": "block-mean", "mode": "hard"}}, base=tmp_path)
    assert (other.consistency.operator, other.consistency.mtf) == ("block-mean", None)
    softer = parse_spec(content | {"consistency": {"mode": "soft", "tolerance": 0.01}}, base=tmp_path)
    assert (softer.consistency.operator, softer.consistency.mtf, softer.consistency.mode) == (
        "gaussian-psf",
        0.2,
        "soft",
    )


def test_one_band_takes_the_place_of_several(tmp_path):
    content = PLACE | {"preset": "sentinel2-multi", "grid": GRIDS["sentinel2-multi"]}
    one = parse_spec(content | {"source": {"variable": "B08"}}, base=tmp_path)
    assert [band.name for band in one.targets] == ["B08"]


QUALITY = ["n_dates", "anchor_days", "consistency_residual"]


def test_bands_of_quality_enter_the_digest_and_are_those_of_a_stack(tmp_path):
    content = PLACE | {"preset": "sentinel2-multi", "grid": GRIDS["sentinel2-multi"]}
    asked, none, other = (
        parse_spec(content | {"target": {"quality": names}}, base=tmp_path) for names in (QUALITY, [], QUALITY[:1])
    )
    assert asked == parse_spec(content, base=tmp_path)
    assert len({asked.digest, none.digest, other.digest}) == 3
    biomass = changed(target={"quality": ["consistency_residual"]})
    assert parse_spec(biomass, base=tmp_path).digest != parse_spec(CONTENT, base=tmp_path).digest


@pytest.mark.parametrize(
    ("quality", "message"),
    [
        (QUALITY, "n_dates, anchor_days belongs to a stack of dates, the source is a map"),
        (["consistency_residual"] * 2, "bands of quality appear twice"),
        (["clouds"], "quality"),
    ],
)
def test_a_band_of_quality_that_nothing_is_known_of_is_refused(quality, message, tmp_path):
    with pytest.raises(SpecError, match=message):
        parse_spec(changed(target={"quality": quality}), base=tmp_path)


def test_what_is_left_is_one_band_in_one_unit(tmp_path):
    target = {"bands": ["a", {"name": "b", "units": "K"}, "c", "d"], "quality": ["consistency_residual"]}
    content = PLACE | {"preset": "sentinel2-multi", "grid": GRIDS["sentinel2-multi"], "target": target}
    with pytest.raises(SpecError, match="those of the target have units 1, K: expected the same of all"):
        parse_spec(content, base=tmp_path)


def test_a_description_without_preset_is_one_of_biomass(tmp_path):
    spec = parse_spec(CONTENT, base=tmp_path)
    assert spec == parse_spec(changed(preset="biomass"), base=tmp_path)
    (band,) = spec.targets
    assert (band.name, band.units, band.bounds, band.sd) == ("agb", "Mg ha-1", (0, None), True)
    assert band.classes[-1] == float("inf")


def test_the_name_of_a_preset_is_no_part_of_the_identity(tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(dict(read_preset("biomass").content)))
    mine = parse_spec(changed(preset="mine.yaml"), base=tmp_path)
    assert mine.preset == str(tmp_path / "mine.yaml")
    assert mine.digest == parse_spec(CONTENT, base=tmp_path).digest


def test_value_ranges_and_classes_change_no_pixel(tmp_path):
    other = changed(target={"value_range": 9, "classes": [0, 1], "sd_classes": [0, 1]})
    assert parse_spec(other, base=tmp_path).digest == parse_spec(CONTENT, base=tmp_path).digest


@pytest.mark.parametrize("key", ["non_negative", "bounds"])
def test_both_ways_to_say_not_negative_are_one(key, tmp_path):
    free = {"non_negative": {"non_negative": False}, "bounds": {"bounds": [None, None]}}[key]
    assert parse_spec(changed(target=free), base=tmp_path).targets[0].bounds == (None, None)
    with pytest.raises(SpecError, match="bounds or non_negative"):
        parse_spec(changed(target={"non_negative": True, "bounds": [0, None]}), base=tmp_path)


@pytest.mark.parametrize("name", ["bio-mass", "nothing.yaml"])
def test_an_unknown_preset_is_one_clear_line(name, tmp_path):
    with pytest.raises(SpecError) as error:
        parse_spec(changed(preset=name), base=tmp_path)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_preset_is_refused(tmp_path):
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(SpecError, match=r"preset .*list\.yaml is a YAML mapping"):
        parse_spec(changed(preset="list.yaml"), base=tmp_path)


def test_presets_are_listed_and_printed():
    run = CliRunner().invoke(app, ["presets"])
    assert run.exit_code == 0
    assert all(name in run.output for name in GRIDS)
    printed = yaml.safe_load(CliRunner().invoke(app, ["presets", "elevation"]).output)
    assert printed == read_preset("elevation").content
    as_json = json.loads(CliRunner().invoke(app, ["presets", "--json"]).output)
    assert as_json.keys() == GRIDS.keys()


def test_a_preset_does_not_change_what_it_is_merged_into(tmp_path):
    before = copy.deepcopy(CONTENT)
    parse_spec(CONTENT, base=tmp_path)
    assert before == CONTENT


def strings_of(path):
    """String constants of a module, documentation left out."""
    tree = ast.parse(path.read_text())
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {node.value for node in constants if id(node) not in documented}


def test_only_presets_importers_and_data_sets_know_biomass():
    package = Path(__file__).parents[1] / "mapper"
    data_sets = {"catalog/importers", "synthetic", "training/biomassters.py", "training/landscapes.py"}
    knowing = {
        str(path.relative_to(package)) for path in package.rglob("*.py") if strings_of(path) & {"agb", "Mg ha-1"}
    }
    assert {name for name in knowing if not name.startswith(tuple(data_sets))} == set()


def test_a_part_of_the_bands_keeps_their_ties_and_leaves_the_others(tmp_path):
    asked = PLACE | {"preset": "sentinel2-20m", "grid": GRIDS["sentinel2-20m"]}
    some = parse_spec(asked | {"source": {"bands": ["B05", "B8A"]}}, base=tmp_path).consistency
    assert some.bands == {"B05": parse_spec(asked, base=tmp_path).consistency.bands["B05"]}
    ties = {"bands": {"B11": {"operator": "block-mean"}}}
    with pytest.raises(SpecError, match=r"consistency.bands names B11, which no target band is called"):
        parse_spec(asked | {"source": {"bands": ["B05"]}, "consistency": ties}, base=tmp_path)


@pytest.mark.parametrize(("anchor", "fits"), [("2024-06-01", True), ("2024-07-31", True), ("2024-08-01", False)])
def test_the_anchor_is_a_day_of_the_period(anchor, fits, tmp_path):
    asked = PLACE | {"preset": "sentinel2-multi", "grid": GRIDS["sentinel2-multi"], "source": {"anchor": anchor}}
    if fits:
        assert str(parse_spec(asked, base=tmp_path).source.anchor) == anchor
        return
    with pytest.raises(SpecError, match="2024-08-01 lies outside the period 2024-06-01 to 2024-07-31: expected a day"):
        parse_spec(asked, base=tmp_path)
