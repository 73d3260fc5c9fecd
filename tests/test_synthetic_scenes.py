import hashlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from mapper.catalog.provider import load_provider
from mapper.grid import Window
from mapper.spec import parse_spec, read_spec
from mapper.synthetic.biomass import average_truth, expect_source
from mapper.synthetic.scenes import describe_map, ground_box, write_scenes
from mapper.synthetic.site import Site

SIZE, SEED, MARGIN = 60, 7, 150


def write(folder):
    return write_scenes(folder, size_px=SIZE, seed=SEED, tile_px=64, chunk_px=32, margin_px=MARGIN)


@pytest.fixture(scope="module")
def catalog_path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("demo") / "catalog")


@pytest.fixture(scope="module")
def items(catalog_path):
    return sorted(pystac.Catalog.from_file(str(catalog_path)).get_items(recursive=True), key=lambda item: item.id)


@pytest.fixture(scope="module")
def spec(catalog_path):
    return read_spec(catalog_path.parents[1] / "map.yaml")


def of(items, collection):
    return [item for item in items if item.collection_id == collection]


def path_of(item, asset):
    return item.assets[asset].get_absolute_href()


def read(item, asset):
    with rasterio.open(path_of(item, asset)) as dataset:
        return dataset.read(1)


def read_on(item, asset, geobox, resampling=Resampling.nearest):
    with rasterio.open(path_of(item, asset)) as dataset, WarpedVRT(
        dataset, crs=str(geobox.crs), transform=geobox.transform, width=geobox.shape.x, height=geobox.shape.y,
        resampling=resampling,
    ) as warped:  # fmt: skip
        return warped.read(1)


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_writes_the_same_bytes(catalog_path, tmp_path):
    write(tmp_path / "catalog")
    assert digests(tmp_path) == digests(catalog_path.parents[1])


def test_the_catalogue_holds_what_the_provider_describes(items):
    provider = load_provider("demo")
    of_revisits = {"truth-5m", "truth-2.5m", "truth-10m"}
    assert {item.collection_id for item in items} == set(provider.collections) - of_revisits
    for item in items:
        of_revisits = {"B06", "B07"} if item.collection_id == "sentinel-2-l2a" else set()
        assert provider.assets[item.collection_id] - set(item.assets) == of_revisits
    assert len({item.datetime for item in of(items, "sentinel-2-l2a")}) == 6
    assert len(of(items, "sentinel-1-rtc")) == 6


def test_every_href_is_relative_and_leads_to_a_file(catalog_path, items):
    for item in items:
        for key, asset in item.assets.items():
            assert not Path(asset.href).is_absolute()
            assert Path(path_of(item, key)).is_file()
    assert all(str(catalog_path.parent) not in path.read_text() for path in catalog_path.parent.rglob("*.json"))


def test_items_say_the_truth_about_their_files(items):
    for item in items:
        for key, asset in item.assets.items():
            fields = {**item.properties, **asset.extra_fields}
            with rasterio.open(path_of(item, key)) as dataset:
                assert dataset.crs.to_string() == fields["proj:code"]
                assert list(dataset.shape) == fields["proj:shape"]
                assert list(dataset.transform)[:6] == fields["proj:transform"]
                assert list(dataset.bounds) == pytest.approx(fields["proj:bbox"])
                assert dataset.overviews(1) == []
                assert dataset.profile["tiled"] or max(dataset.shape) <= 512
                bands = asset.extra_fields.get("raster:bands")
                assert (bands is None) == (item.collection_id == "sentinel-2-l2a")
                if bands:
                    assert bands[0]["nodata"] == dataset.nodata
                    assert bands[0]["data_type"] == dataset.dtypes[0]


def test_footprints_hold_all_valid_pixels(items):
    for item in items:
        key = next(iter(item.assets))
        with rasterio.open(path_of(item, key)) as dataset:
            rows, cols = np.nonzero(dataset.read(1) != dataset.nodata)
            geobox = GeoBox(dataset.shape, dataset.transform, dataset.crs)
        corners = [(cols[k], rows[k]) for pick in (np.argmin, np.argmax) for k in (pick(rows), pick(cols))]
        points = shapely.MultiPoint([geobox.transform @ (col + 0.5, row + 0.5) for col, row in corners])
        located = GeoBox.footprint(geobox, geobox.crs).__class__(points, geobox.crs).to_crs("EPSG:4326")
        assert shapely.geometry.shape(item.geometry).buffer(2e-4).contains(located.geom)


def test_granules_of_two_zones_overlap(items):
    by_tile = {}
    for item in of(items, "sentinel-2-l2a"):
        by_tile.setdefault(item.properties["s2:mgrs_tile"], item)
    assert sorted(by_tile) == ["32UQB", "32UQC", "33UTS", "33UTT"]
    assert {item.properties["proj:code"] for item in by_tile.values()} == {"EPSG:32632", "EPSG:32633"}
    shapes = [shapely.geometry.shape(item.geometry) for item in by_tile.values()]
    assert all(a.intersection(b).area > 0 for a in shapes for b in shapes)


def test_every_pixel_of_the_map_and_its_margin_is_seen(items, spec):
    geobox = ground_box(spec, margin_px=MARGIN - 20)
    seen = sum((read_on(item, "SCL", geobox) > 0).astype(int) for item in of(items, "sentinel-2-l2a"))
    assert seen.min() >= 2
    heard = sum((read_on(item, "vh", geobox) > 0).astype(int) for item in of(items, "sentinel-1-rtc"))
    assert heard.min() >= 2
    assert (read_on(of(items, "esa-cci-biomass")[0], "agb", geobox) != 65535).all()
    assert (read_on(of(items, "truth")[0], "agb", geobox) >= 0).all()


def test_new_baselines_carry_the_offset(items):
    """Two granules of one date and both baselines see the same clear ground."""
    pairs = [
        (old, new)
        for old in of(items, "sentinel-2-l2a")
        for new in of(items, "sentinel-2-l2a")
        if old.datetime == new.datetime
        and old.properties["s2:processing_baseline"] == "03.01"
        and new.properties["s2:processing_baseline"] == "05.10"
    ]
    assert pairs
    old, new = pairs[0]
    with rasterio.open(path_of(new, "B08")) as dataset:
        grid = GeoBox(dataset.shape, dataset.transform, dataset.crs)
    before, after = read_on(old, "B08", grid).astype(float), read(new, "B08").astype(float)
    both = (before > 0) & (after > 0)
    assert both.sum() > 1000
    assert np.median(after[both] - before[both]) == pytest.approx(1000, abs=25)
    assert np.abs(np.median(read(new, "B02")[both]) - 1000) < 900


def test_clouds_of_the_classification_are_bright(items):
    cloudy = max(of(items, "sentinel-2-l2a"), key=lambda item: item.properties["eo:cloud_cover"])
    classes = np.kron(read(cloudy, "SCL"), np.ones((2, 2), np.uint8))
    offset = 1000 * (cloudy.properties["s2:processing_baseline"] >= "04")
    blue = (read(cloudy, "B02").astype(float) - offset) / 10000
    counts = np.bincount(classes.ravel(), minlength=12)
    assert blue[classes == 9].mean() > 0.4
    assert np.percentile(blue[np.isin(classes, (4, 5))], 99) < 0.25
    share = 100 * counts[[8, 9, 10]].sum() / counts[1:].sum()
    assert cloudy.properties["eo:cloud_cover"] == pytest.approx(share, abs=0.01)
    assert cloudy.properties["eo:cloud_cover"] > 10
    assert np.array_equal(read(cloudy, "B11") == 0, read(cloudy, "SCL") == 0)


def test_some_dates_end_at_the_edge_of_a_swath(items):
    orbits = {orbit: [i for i in of(items, "sentinel-2-l2a") if i.properties["sat:relative_orbit"] == orbit]
              for orbit in (22, 65)}  # fmt: skip
    empty = {
        orbit: np.mean([item.properties["s2:nodata_pixel_percentage"] for item in members])
        for orbit, members in orbits.items()
    }
    assert empty[65] > empty[22] + 5


def test_radar_has_two_directions_speckle_and_borders(items):
    scenes = of(items, "sentinel-1-rtc")
    assert {scene.properties["sat:orbit_state"] for scene in scenes} == {"ascending", "descending"}
    for scene in scenes:
        vv, vh = read(scene, "vv"), read(scene, "vh")
        assert (vv == -32768).any()
        assert (vv == 0).any()
        valid = (vv > 0) & (vh > 0)
        assert valid.mean() > 0.5
        assert -22 < 10 * np.log10(vh[valid].mean()) < -10
        assert 10 * np.log10(vv[valid].mean() / vh[valid].mean()) > 3


def test_the_source_lies_on_the_global_lattice(items):
    item = of(items, "esa-cci-biomass")[0]
    assert item.id == "N60E010_ESACCI-BIOMASS-L4-AGB-MERGED-100m-2020-fv5.0"
    assert item.datetime is None
    step, _, west, _, down, north, *_ = (float(v) for v in rasterio.open(path_of(item, "agb")).transform)
    assert step == -down == float(Fraction(1, 1125))
    assert west * 1125 == pytest.approx(round(west * 1125), abs=1e-7)
    assert north * 1125 == pytest.approx(round(north * 1125), abs=1e-7)


def test_the_source_is_the_truth_with_the_noise_it_admits(items, spec):
    item = of(items, "esa-cci-biomass")[0]
    site = Site.of(SEED, ground_box(spec, margin_px=MARGIN))
    with rasterio.open(path_of(item, "agb")) as dataset:
        geobox = GeoBox(dataset.shape, dataset.transform, dataset.crs)
    agb, deviation = read(item, "agb").astype(float), read(item, "agb_sd").astype(float)
    mean, whole = average_truth(site, geobox)
    assert np.array_equal(whole, agb != 65535)
    some = whole & (mean > 60)
    score = (agb - expect_source(mean))[some] / deviation[some]
    assert score.mean() == pytest.approx(0, abs=0.2)
    assert score.std() == pytest.approx(1, abs=0.15)
    assert not agb[whole & (mean == 0)].any()


def test_the_truth_is_the_landscape(items, spec):
    truth = of(items, "truth")[0]
    assert np.array_equal(read(truth, "agb"), Site.of(SEED, ground_box(spec, margin_px=MARGIN)).ground.biomass)


def test_the_map_is_as_large_as_asked_for(spec):
    rows, cols = spec.map_grid.shape
    assert (rows, cols) == (64, 64)
    assert len(list(spec.map_grid.tiles())) == 1
    assert spec.scale == 10


@pytest.mark.parametrize("wrong", [{"size_px": 5}, {"dates": 0}])
def test_an_empty_map_is_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="at least"):
        write_scenes(tmp_path / "catalog", **wrong)


@pytest.mark.parametrize("scale", [4, 8, 10, 16])
def test_a_map_of_any_scale_is_filled_by_its_area(tmp_path, scale):
    """Its source pixels are whole ones, and its seasons those that are asked for."""
    size = scale * 12
    asked = describe_map(
        href="catalog.json",
        size_px=size,
        tile_px=size,
        chunk_px=size,
        scale=scale,
        seasons={"may": (5,), "late": (8, 9)},
    )
    spec = parse_spec(asked, base=tmp_path)
    grid = spec.map_grid
    assert grid.scale == scale
    assert grid.shape == (size, size)
    assert grid.inside_area(Window(top=0, left=0, bottom=size, right=size)).mean() > 0.85
    assert dict(spec.guide.seasons) == {"may": (5,), "late": (8, 9)}


def test_the_demo_map_has_one_date_a_month_at_scale_10():
    asked = describe_map(href="catalog.json")
    assert asked["source"]["resolution"] == 100
    assert asked["guide"]["seasons"] == {"may": [5], "june": [6], "july": [7], "august": [8], "september": [9]}
