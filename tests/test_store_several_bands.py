"""Maps of several target bands, and of bands with negative values: written, read, reduced, verified and explained."""

import numpy as np
import pytest
import rasterio
from band_maps import COLOURS, ELEVATION, REFLECTANCE, draw, write_map
from html_pages import read_html
from store_maps import make_record, make_spec

from mapper.errors import InputError, SpecError
from mapper.execute.executors import SerialExecutor
from mapper.export.geotiff import export_geotiff
from mapper.grid import Tile
from mapper.report.contents import read_contents
from mapper.report.page import write_report
from mapper.run.pyramid import build_pyramid
from mapper.store.map_store import MapStore, open_map
from mapper.store.product import map_product
from mapper.store.tiles import encode_tile
from mapper.store.verify import verify_store
from mapper.store.why import why
from mapper.store.writer import write_tile


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return write_map(tmp_path_factory.mktemp("colours"), REFLECTANCE)


@pytest.fixture(scope="module")
def heights(tmp_path_factory):
    return write_map(tmp_path_factory.mktemp("heights"), ELEVATION, low=-420, high=8849)


def test_each_target_band_is_an_array_and_flags_and_counts_are_there_once(colours):
    spec, _ = colours
    product = map_product(spec)
    assert product.band_names == (*COLOURS, "qa", "n_valid")
    assert product.sd_of("B02") is None
    assert len({band.long_name for band in product.values}) == 4


def test_standard_deviations_lie_beside_their_bands(tmp_path):
    product = map_product(
        make_spec(tmp_path / "map.icechunk", **REFLECTANCE | {"target": {"sd": True, "quality": []}}, guide={})
    )
    assert product.band_names == (*(name for colour in COLOURS for name in (colour, f"{colour}_sd")), "qa", "n_valid")
    assert {product.sd_of(colour).of for colour in COLOURS} == set(COLOURS)
    assert product.values[0].attributes["ancillary_variables"] == "B02_sd qa n_valid"


def test_what_is_written_is_read(colours):
    spec, written = colours
    dataset = open_map(spec.store)
    assert list(dataset.data_vars) == [*COLOURS, "qa", "n_valid"]
    for tile, arrays in written.items():
        window = spec.map_grid.window(tile).slices
        for name, array in arrays.items():
            np.testing.assert_allclose(dataset[name].to_numpy()[window], array, atol=5.1e-5)
    assert (dataset["B02"].to_numpy() < 0).any()


def test_a_store_describes_its_bands_with_bounds_and_range(colours, heights):
    for (spec, _), bounds, value_range in ((colours, (-0.1, None), 1), (heights, (None, None), 100)):
        bands = MapStore.open(spec.store).description.values
        assert [band.name for band in bands] == [target.name for target in spec.targets]
        assert {(band.bounds, band.value_range) for band in bands} == {(bounds, value_range)}


def test_an_older_mapper_does_not_read_what_it_would_misread(colours, heights):
    def layout(spec):
        return MapStore.open(spec.store).description.extra["mapper:layout"]

    assert (layout(colours[0]), layout(heights[0])) == (3, 1)


def test_elevation_below_the_sea_is_stored_to_the_centimetre(heights):
    spec, written = heights
    assert str(MapStore.open(spec.store).description.values[0].dtype) == "int32"
    dataset = open_map(spec.store)
    for tile, arrays in written.items():
        found = dataset["dtm"].to_numpy()[spec.map_grid.window(tile).slices]
        np.testing.assert_allclose(found, arrays["dtm"], atol=5.1e-3, rtol=1e-7)
    assert float(dataset["dtm"].min()) < -400


@pytest.mark.parametrize("which", ["colours", "heights"])
def test_a_level_holds_the_mean_of_each_band(which, tmp_path):
    changes, limits = (REFLECTANCE, {}) if which == "colours" else (ELEVATION, {"low": -420, "high": 8849})
    spec, _ = write_map(tmp_path, changes, **limits)
    build_pyramid(spec.store, SerialExecutor())
    fine, coarse = open_map(spec.store), open_map(spec.store, level=1)
    assert set(coarse.data_vars) == set(fine.data_vars)
    rows, cols = (size // 2 for size in fine["qa"].shape)
    for band in MapStore.open(spec.store).description.bands:
        if band.encoding:
            mean = fine[band.name].astype("float64").coarsen(y=2, x=2).mean().to_numpy()
            found = coarse[band.name].to_numpy()[:rows, :cols]
            np.testing.assert_allclose(found, mean, atol=0.51 * band.encoding.scale_factor, rtol=2e-7)
    report = verify_store(spec.store)
    assert not report.corrupt
    assert report.pyramid.is_complete


def test_records_sum_up_each_band(colours):
    spec, written = colours
    for record in MapStore.open(spec.store).ledger.records():
        for name in COLOURS:
            array, found = written[record.tile][name].astype(np.float64), record.statistics_of(name)
            assert found.valid_px == np.isfinite(array).sum()
            assert (found.min, found.max) == (np.nanmin(array), np.nanmax(array))
            assert found.mean == pytest.approx(np.nanmean(array))
        first = record.statistics_of("B02")
        assert (record.valid_px, record.value_mean) == (first.valid_px, first.mean)


def test_records_of_one_band_have_its_statistics_alone(heights):
    record = next(iter(MapStore.open(heights[0].store).ledger.records()))
    assert record.statistics == ()
    assert record.statistics_of("dtm").mean == record.value_mean
    assert record.value_min < 0 < record.value_max


def test_a_pixel_is_explained_by_all_its_bands(colours):
    spec, written = colours
    x, y = spec.map_grid.geobox.transform @ (3.5, 20.5)
    answer = why(spec.store, x, y, crs="EPSG:3035")
    expected = {name: written[Tile(0, 0)][name][20, 3] for name in COLOURS}
    assert {band.name: band.value for band in answer.bands} == pytest.approx(expected, abs=1e-4)
    assert (answer.target, answer.value) == ("B02", answer.bands[0].value)
    for line, band in zip(answer.to_text().splitlines(), answer.bands, strict=False):
        assert line == f"{band.name} {band.value:g} 1"


def test_a_missing_value_of_one_band_is_missing_there_alone(colours):
    spec, _ = colours
    x, y = spec.map_grid.geobox.transform @ (2.5, 2.5)
    values = [band.value for band in why(spec.store, x, y, crs="EPSG:3035").bands]
    assert values[0] is None
    assert None not in values[1:]


def test_verify_finds_a_change_in_any_band(tmp_path):
    spec, _ = write_map(tmp_path, REFLECTANCE)
    product = map_product(spec)
    assert not verify_store(spec.store).corrupt
    with MapStore.open(spec.store).writer(product, run_id="run-2") as writer:
        tile, fork = Tile(0, 0), writer.fork()
        arrays = draw(product, tile)
        write_tile(fork, product=product, tile=tile, arrays=arrays | {"B08": arrays["B08"] + np.float32(1e-3)})
        writer.add(fork, make_record(tile, sha=MapStore.open(spec.store).ledger.record_at(tile).content_sha256))
        writer.commit()
    assert set(verify_store(spec.store).corrupt) == {Tile(0, 0)}


def test_a_geotiff_has_a_band_for_each_target_band(colours, tmp_path):
    spec, _ = colours
    export_geotiff(spec.store, tmp_path / "map.tif")
    dataset = open_map(spec.store)
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.count == 4
        assert file.descriptions == tuple(dataset[name].long_name for name in COLOURS)
        assert len(set(file.scales)) == len(set(file.offsets)) == 1
        for number, name in enumerate(COLOURS, start=1):
            stored = file.read(number)
            values = np.where(stored == file.nodata, np.nan, stored * file.scales[0] + file.offsets[0])
            np.testing.assert_allclose(values, dataset[name], atol=1e-6)


def test_one_band_or_some_are_exported_by_name(colours, tmp_path):
    spec, _ = colours
    export_geotiff(spec.store, tmp_path / "some.tif", variable="B08,B04")
    with rasterio.open(tmp_path / "some.tif") as file:
        assert file.descriptions == ("surface reflectance, B08", "surface reflectance, B04")
    with pytest.raises(InputError, match="qa"):
        export_geotiff(spec.store, tmp_path / "mixed.tif", variable="B08,qa")


def test_the_fill_of_signed_heights_is_their_nodata(heights, tmp_path):
    spec, _ = heights
    export_geotiff(spec.store, tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as file:
        assert (file.dtypes, file.nodata) == (("int32",), -(2**31))
        values = np.where(file.read(1) == file.nodata, np.nan, file.read(1) * file.scales[0])
        np.testing.assert_allclose(values, open_map(spec.store)["dtm"], atol=1e-2)


def test_the_page_shows_each_band(colours, heights, tmp_path):
    spec, written = colours
    text = read_html(write_report(spec.store, tmp_path / "colours.html").read_text())[1]
    assert all(f"surface reflectance, {name} (1)" in text for name in COLOURS)
    contents = read_contents(spec.store)
    for band in contents.bands:
        values = np.concatenate([arrays[band.band.name].ravel() for arrays in written.values()])
        assert band.values.mean == pytest.approx(np.nanmean(values), abs=1e-4)
        assert band.summary.mean == pytest.approx(np.nanmean(values.astype(float)), abs=1e-6)
    page = write_report(heights[0].store, tmp_path / "heights.html").read_text()
    assert "height of the ground (m)" in read_html(page)[1]
    (band,) = read_contents(heights[0].store).bands
    assert band.values.edges[0] < 0 < band.values.edges[-1]


@pytest.mark.parametrize("bands", [["qa"], ["depth", "x"], ["spatial_ref"], ["depth", "depth_sd"]])
def test_no_two_arrays_of_a_store_have_one_name(tmp_path, bands):
    target = {"bands": bands, "sd": True, "units": "m"}
    source = {"collection": "cop-dem-glo-30", "bands": [f"band_{k}" for k in range(len(bands))], "resolution": 100}
    spec = make_spec(tmp_path / "map.icechunk", target=target, source=source, guide={})
    with pytest.raises(SpecError, match="name"):
        map_product(spec)


def test_arrays_are_as_before_where_one_band_and_its_deviation_are_written(tmp_path):
    spec = make_spec(tmp_path / "map.icechunk")
    product = map_product(spec)
    assert product.band_names == ("agb", "agb_sd", "qa", "n_valid")
    arrays = draw(product, Tile(0, 0), low=0, high=100)
    assert {name: str(array.dtype) for name, array in encode_tile(product, arrays).items()} == {
        "agb": "uint16", "agb_sd": "uint16", "qa": "uint16", "n_valid": "uint16",
    }  # fmt: skip
