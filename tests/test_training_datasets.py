"""Maps read as samples: guide, source, its deviation and truth of one place, wherever the truth is kept."""

import numpy as np
import pytest
import xarray as xr
import yaml
from odc.geo.xr import wrap_xr
from scenes import write_item
from store_maps import make_record, name_bands

from mapper.catalog.freeze import save_items
from mapper.catalog.items import freeze_items
from mapper.catalog.provider import load_provider
from mapper.errors import GridError, InputError, SearchError
from mapper.grid import Window
from mapper.spec import read_spec
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from mapper.store.writer import write_tile
from mapper.training import maps
from mapper.training.config import MapsData, TruthConfig, WaldData
from mapper.training.datasets import read_samples
from mapper.training.maps import name_of, read_inputs, read_map, samples_from_map

SIZE, SCALE = 60, 10
WHOLE = Window(top=0, left=0, bottom=SIZE, right=SIZE)
CATALOGUE = TruthConfig(collection="truth", variable="agb")


@pytest.fixture(scope="module")
def truth():
    random = np.random.default_rng(0)
    return (random.random((SIZE // 4, SIZE // 4)).repeat(4, 0).repeat(4, 1) * 200).astype(np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory, truth):
    """A map of 60 x 60 pixels and two seasons, its items beside it; its area is a little smaller."""
    folder = tmp_path_factory.mktemp("place")
    path = write_map(folder / "map.yaml")
    save_items(make_items(read_spec(path).map_grid, truth, folder), folder / "items.parquet")
    return path


@pytest.fixture(scope="module")
def sample(path):
    return read_map(path, CATALOGUE)


def write_map(path, **changes):
    content = {
        "name": "small",
        "area": {"bbox": [11.9995, 51.3995, 12.0068, 51.4042]},
        "period": {"start": "2020-06-01", "end": "2020-08-31"},
        "grid": {"resolution": 10, "tile": 20, "chunk": 20},
        "catalog": {"provider": "demo", "href": "items.parquet"},
        "guide": {
            "layers": [{"collection": "sentinel-2-l2a", "bands": ["B04"]}],
            "seasons": {"june": [6], "july": [7]},
        },
        "source": {
            "collection": "esa-cci-biomass",
            "variable": "agb",
            "sd": "agb_sd",
            "year": 2020,
            "resolution": 100,
        },
        "model": {"name": "bicubic"},
        "store": "map.icechunk",
    }
    path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
    return path


def make_items(grid, truth, folder):
    fine, coarse = grid.geobox_of(WHOLE), grid.source_geobox_of(WHOLE)
    reflectance = (1000 + 3000 - 10 * truth).astype(np.uint16)  # the declared offset is -1000
    clear = np.full(truth.shape, 4, np.uint8)
    means = block_means(truth).round().astype(np.uint16)
    scenes = [
        write_item(
            folder,
            f"s2-{month}",
            f"2020-0{month}-11T10:00:00Z",
            {"B04": (reflectance + np.uint16(100 * (month - 6)), fine), "SCL": (clear, fine)},
            **{"s2:processing_baseline": "05.10"},
        )
        for month in (6, 7)
    ]
    coarse_map = {"agb": (means, coarse), "agb_sd": (means // 4, coarse)}
    year = "2020-01-01T00:00:00Z"
    return freeze_items(
        [
            *scenes,
            write_item(folder, "cci", year, coarse_map, collection="esa-cci-biomass"),
            write_item(folder, "truth", year, {"agb": (truth, fine)}, collection="truth"),
        ]
    )


def block_means(fine):
    return fine.reshape(SIZE // SCALE, SCALE, SIZE // SCALE, SCALE).mean((1, 3))


def write_store(path, truth):
    """The truth as a run writes it, from the upper left corner of a map on."""
    spec = read_spec(path)
    margin = [(0, edge) for edge in spec.map_grid.shape]
    whole = np.pad(truth, margin, constant_values=np.nan)
    MapStore.create(spec.store, map_product(spec))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="r") as writer:
        for tile in spec.map_grid.tiles():
            value = whole[spec.map_grid.window(tile).slices]
            flags = np.zeros(value.shape, np.uint16)
            arrays = name_bands(value=value, sd=value, qa=flags, n_valid=flags)
            fork = writer.fork()
            sha = write_tile(fork, product=map_product(spec), tile=tile, arrays=arrays)
            writer.add(fork, make_record(tile, sha=sha))
        writer.commit()
    return spec.store


def test_guide_source_deviation_and_truth_are_read_for_one_place(sample, truth):
    known = np.isfinite(sample.truth)
    assert sample.scale == SCALE
    assert 0.5 < known.mean() < 1
    assert sample.source.shape == sample.source_sd.shape == (SIZE // SCALE, SIZE // SCALE)
    assert (sample.truth[known] == truth[known]).all()
    np.testing.assert_allclose(sample.guide[0][known], 0.3 - truth[known] / 1000, atol=2e-4)
    np.testing.assert_allclose(sample.guide[1] - sample.guide[0], 0.01, atol=1e-6)
    assert (sample.source == block_means(truth).round()).all()
    assert (sample.source_sd == sample.source // 4).all()


def test_a_sample_says_what_it_is(sample, path):
    assert sample.bands == (("june_B04", "1"), ("july_B04", "1"))
    assert sample.dates == 2
    assert sample.source_units == "Mg ha-1"
    assert sample.degradation == "as delivered: esa-cci-biomass"
    assert sample.name == path.parent.name
    assert name_of(path.with_name("other.yaml")) == f"{path.parent.name}/other"


def test_blocks_of_any_size_make_the_same_sample(path, sample, monkeypatch):
    monkeypatch.setattr(maps, "_BLOCK_PX", 15)
    again = read_map(path, CATALOGUE)
    for name in ("guide", "source", "source_sd", "truth"):
        np.testing.assert_array_equal(getattr(again, name), getattr(sample, name))


def test_a_sample_of_frozen_items_is_named_by_its_map(path, sample):
    items = make_items(read_spec(path).map_grid, np.ones((SIZE, SIZE), np.float32), path.parent / "again")
    read = samples_from_map(read_spec(path), items, load_provider("demo"), "truth", "agb")
    assert read.name == "small"
    assert read.digest == items.digest
    assert read.truth.shape == sample.truth.shape


def test_a_map_without_known_truth_is_refused(path):
    items = freeze_items([])
    with pytest.raises(SearchError, match="no truth"):
        samples_from_map(read_spec(path), items, load_provider("demo"), "truth", "agb")


def test_truth_is_limited_where_asked(path, truth):
    (sample,) = read_samples([MapsData(maps=[path], truth=CATALOGUE.model_copy(update={"limit": 50.0}))])
    assert np.nanmax(sample.truth) == 50
    assert (sample.source == block_means(truth).round()).all()


def test_the_location_of_a_store_refers_to_the_file_that_names_it(tmp_path):
    for store, expected in (("a.icechunk", str(tmp_path / "a.icechunk")), ("s3://b/a", "s3://b/a")):
        assert TruthConfig.model_validate({"store": store}, context=tmp_path).store == expected


def test_truth_in_other_units_than_the_source_is_refused(path):
    provider = load_provider("demo")
    rule = provider.rule("truth").model_copy(update={"units": "kg m-2"})
    other = provider.model_copy(update={"collections": provider.collections | {"truth": rule}})
    with pytest.raises(InputError, match="truth collection truth is in 'kg m-2'"):
        samples_from_map(read_spec(path), freeze_items([]), other, "truth", "agb")


def test_a_written_map_is_a_truth_like_a_collection(path, sample, truth):
    store = write_store(path, truth)
    read = read_map(path, TruthConfig(store=store, variable="agb"))
    np.testing.assert_allclose(read.truth, sample.truth, atol=0.051)  # stored in steps of 0.1
    np.testing.assert_array_equal(read.guide, sample.guide)
    assert read.digest != sample.digest
    with pytest.raises(InputError, match="has no array 'height'; it has agb"):
        read_map(path, TruthConfig(store=store, variable="height"))


def test_a_store_may_begin_anywhere_on_the_grid(path, sample, truth, tmp_path):
    """A store of the right part of the map: what it does not cover is unknown."""
    part = write_map(tmp_path / "part.yaml", area={"bbox": [12.0031, 51.4, 12.0068, 51.402]})
    ours, theirs = (read_spec(each).map_grid for each in (path, part))
    left, top = (round(edge) for edge in ~ours.geobox.transform * theirs.geobox.transform * (0, 0))
    assert left > 0
    assert top > 0
    store = write_store(part, truth[top:, left:])
    read = read_map(path, TruthConfig(store=store, variable="agb"))
    assert read.truth.shape == (SIZE - top, SIZE - left)
    np.testing.assert_allclose(read.truth, sample.truth[top:, left:], atol=0.051)
    np.testing.assert_array_equal(read.source, sample.source[top // SCALE :, left // SCALE :])


def test_a_store_on_another_grid_is_refused(path, tmp_path):
    grid = {"resolution": 20, "tile": 20, "chunk": 20}
    other = read_spec(write_map(tmp_path / "other.yaml", grid=grid))
    MapStore.create(other.store, map_product(other))
    with pytest.raises(GridError, match="does not share the grid of the map"):
        read_map(path, TruthConfig(store=other.store, variable="agb"))
    with pytest.raises(InputError, match="cannot be opened"):
        read_map(path, TruthConfig(store=str(tmp_path / "none"), variable="agb"))


def test_a_zarr_that_says_where_it_lies_is_a_truth_too(path, sample, truth, tmp_path):
    place = read_spec(path).map_grid.geobox_of(WHOLE)
    array = wrap_xr(truth, place).rename("agb").assign_attrs(units="Mg ha-1")
    array.to_dataset().to_zarr(tmp_path / "truth.zarr", zarr_format=2)
    read = read_map(path, TruthConfig(store=str(tmp_path / "truth.zarr")))
    np.testing.assert_array_equal(read.truth, sample.truth)
    nowhere = xr.Dataset({"agb": (("y", "x"), truth, {"units": "Mg ha-1"})})
    nowhere.to_zarr(tmp_path / "nowhere.zarr", zarr_format=2)
    with pytest.raises(GridError, match="does not declare where"):
        read_map(path, TruthConfig(store=str(tmp_path / "nowhere.zarr")))
    nowhere.expand_dims("time").to_zarr(tmp_path / "deep.zarr", zarr_format=2)
    with pytest.raises(InputError, match="expected y and x"):
        read_map(path, TruthConfig(store=str(tmp_path / "deep.zarr")))


def test_inputs_are_read_without_a_truth(path, sample):
    inputs = read_inputs(path)
    assert np.isnan(inputs.truth).all()
    assert inputs.guide.shape[1:] == inputs.truth.shape
    assert np.isfinite(inputs.source).mean() > 0.5
    assert np.isin(inputs.source[np.isfinite(inputs.source)], sample.source).all()
    assert (inputs.bands, inputs.dates, inputs.name) == (sample.bands, sample.dates, sample.name)


def test_data_of_several_kinds_come_in_order(path):
    source = {"collection": "esa-cci-biomass", "variable": "agb", "year": 2020, "resolution": 50}
    half = write_map(path.with_name("half.yaml"), source=source)
    data = [WaldData(maps=[half]), MapsData(maps=[path], truth=CATALOGUE)]
    coarser, learnt = read_samples(data)
    inputs = read_inputs(half)
    rows, cols = (min(pair) for pair in zip(coarser.truth.shape, inputs.source.shape, strict=True))
    assert learnt.scale == SCALE
    assert coarser.scale == 5
    np.testing.assert_array_equal(coarser.truth[:rows, :cols], inputs.source[:rows, :cols])
    assert coarser.name.startswith(f"{path.parent.name}/half")
