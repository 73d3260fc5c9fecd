"""Pieces of a store that are taken home: each is read back by the software that people would open it with."""

import json
import subprocess
import sys
from pathlib import Path
from shutil import rmtree
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import rasterio.features
import rasterio.warp
import rustac
import xarray as xr
from region import run_json, run_mapper
from rio_cogeo.cogeo import cog_validate
from s3_server import make_location
from store_maps import NATIVE, make_record, make_spec, write_tiles

from mapper.errors import GridError, InputError, StoreError
from mapper.export.geotiff import export_geotiff
from mapper.export.tile_items import export_tiles
from mapper.export.zarr_copy import copy_zarr
from mapper.grid import Tile
from mapper.store.location import parse_location
from mapper.store.map_store import MapStore, open_map
from mapper.store.product import map_product

HERE = Path(__file__).parent
BOX = (12.004, 50.003, 12.013, 50.009)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A map whose last tile is missing, and the one before it failed."""
    spec = make_spec(tmp_path_factory.mktemp("store") / "map.icechunk")
    MapStore.create(spec.store, map_product(spec))
    *tiles, failed, _ = spec.map_grid.tiles()
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        write_tiles(writer, spec, tiles[:3])
        write_tiles(writer, spec, tiles[3:])
        writer.add(None, make_record(failed, status="failed", reason="nothing <answers>", items=()))
        writer.commit()
    return spec


def read_back(path):
    """The stored numbers and what the file says of them."""
    with rasterio.open(path) as file:
        names = ("crs", "transform", "units", "descriptions", "scales", "offsets", "nodata", "bounds")
        said = {name: getattr(file, name) for name in names}
        return file.read(1), SimpleNamespace(**said, tags=file.tags(), band_tags=file.tags(1))


def decode(stored, file):
    values = stored * file.scales[0] + file.offsets[0]
    return np.where(stored == file.nodata, np.nan, values)


@pytest.mark.parametrize("variable", ["", "agb_sd"])
def test_a_geotiff_holds_the_values_of_the_map_where_they_are(made, tmp_path, variable):
    report = export_geotiff(made.store, tmp_path / "map.tif", variable=variable)
    stored, file = read_back(report.path)
    expected = open_map(made.store)[variable or made.target.name]
    np.testing.assert_allclose(decode(stored, file), expected, atol=1e-3)
    assert (file.crs.to_epsg(), file.transform) == (3035, made.map_grid.geobox.transform)
    assert file.units == (expected.units,) == ("Mg ha-1",)
    assert file.descriptions == (expected.long_name,)


@pytest.mark.parametrize("variable", ["qa", "n_valid"])
def test_flags_and_counts_are_as_they_are_stored(made, tmp_path, variable):
    export_geotiff(made.store, tmp_path / "map.tif", variable=variable)
    stored, file = read_back(tmp_path / "map.tif")
    np.testing.assert_array_equal(stored, open_map(made.store)[variable])
    if variable == "qa":
        assert "32768 not_written" in file.band_tags["flags"]
        assert file.nodata == 32768
    else:
        assert file.nodata is None


def test_a_geotiff_says_what_made_it(made, tmp_path):
    report = export_geotiff(made.store, tmp_path / "map.tif")
    tags = read_back(report.path)[1].tags
    assert tags["map"] == "little-map"
    assert tags["spec_digest"] == made.digest
    assert tags["snapshot"] == MapStore.open(made.store).ledger.session.snapshot_id == report.snapshot
    assert tags["models"] == f"bicubic sha256:{'b' * 64}"
    assert tags["period"] == "2021-01-01/2021-12-31"
    assert tags["made_with"] == "mapper 0.1.0"
    assert tags["tiles"] == f"1 failed, 1 missing, {len(list(made.map_grid.tiles())) - 2} ok"
    assert tags["licence"] in tags["TIFFTAG_COPYRIGHT"]


@pytest.mark.parametrize("grid", [None, NATIVE], ids=["projected", "native"])
def test_a_box_is_the_same_pixels_as_in_the_map(tmp_path, grid):
    spec = make_spec(tmp_path / "map.icechunk", **({"grid": grid} if grid else {}))
    MapStore.create(spec.store, map_product(spec))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        write_tiles(writer, spec, list(spec.map_grid.tiles()))
    report = export_geotiff(spec.store, tmp_path / "box.tif", bbox=BOX)
    stored, file = read_back(report.path)
    west, south, east, north = rasterio.warp.transform_bounds(file.crs, "EPSG:4326", *file.bounds, densify_pts=21)
    assert west <= BOX[0] < BOX[2] <= east
    assert south <= BOX[1] < BOX[3] <= north
    expected = open_map(spec.store)[spec.target.name].sel(
        x=slice(file.bounds.left, file.bounds.right), y=slice(file.bounds.top, file.bounds.bottom)
    )
    assert expected.shape == stored.shape == (report.rows, report.cols) != spec.map_grid.shape
    np.testing.assert_allclose(decode(stored, file), expected, atol=1e-3)


def test_outside_of_the_polygons_of_an_area_is_nodata(made, tmp_path):
    triangle = [[12.002, 50.001], [12.018, 50.001], [12.002, 50.011], [12.002, 50.001]]
    shape = {"type": "Polygon", "coordinates": [triangle]}
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps(shape))
    export_geotiff(made.store, tmp_path / "area.tif", area=area)
    stored, file = read_back(tmp_path / "area.tif")
    inside = rasterio.features.geometry_mask(
        [rasterio.warp.transform_geom("EPSG:4326", file.crs, shape)], stored.shape, file.transform, invert=True
    )
    whole = open_map(made.store)[made.target.name].sel(
        x=slice(file.bounds.left, file.bounds.right), y=slice(file.bounds.top, file.bounds.bottom)
    )
    differing = np.isnan(decode(stored, file)) != (np.isnan(whole.to_numpy()) | ~inside)
    assert 0.3 < inside.mean() < 0.7
    assert differing.mean() < 0.02, "but for edges, which are straight in longitude and latitude"


def test_a_larger_file_is_cloud_optimised_and_its_overviews_respect_nodata(tmp_path):
    spec = make_large(tmp_path)
    progress = []
    report = export_geotiff(spec.store, tmp_path / "map.tif", progress=lambda *at: progress.append(at))
    valid, errors, warnings = cog_validate(report.path, strict=True, quiet=True)
    assert (valid, errors, warnings) == (True, [], [])
    assert report.overviews == (2, 4)
    whole = open_map(spec.store)[spec.target.name].to_numpy()
    with rasterio.open(report.path, overview_level=0) as file:
        stored = file.read(1)
    overview = decode(stored, read_back(report.path)[1])
    quads = whole[: stored.shape[0] * 2, : stored.shape[1] * 2].reshape(stored.shape[0], 2, -1, 2)
    with np.errstate(invalid="ignore"):
        count = np.isfinite(quads).sum((1, 3))
        mean = np.nansum(quads, (1, 3)) / count
    np.testing.assert_allclose(overview[count == 4], mean[count == 4], atol=0.11)
    assert np.isnan(overview[count == 0]).all()
    assert progress[-1][0] == progress[-1][1] == len(progress)


def make_large(folder):
    """2048 x 1536 px of which a half is written."""
    grid = {"kind": "projected", "crs": "EPSG:3035", "resolution": 10, "tile": 512, "chunk": 256}
    spec = make_spec(folder / "map.icechunk", grid=grid, area={"bbox": [12.0, 50.0, 12.21, 50.17]})
    MapStore.create(spec.store, map_product(spec))
    tiles = list(spec.map_grid.tiles())
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        write_tiles(writer, spec, tiles[::2])
    return spec


def test_memory_does_not_grow_with_the_map(tmp_path):
    peaks = []
    for edge in (0.3, 1.2):
        folder = tmp_path / str(edge)
        folder.mkdir()
        code = PEAK.format(folder=str(folder), edge=edge)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=HERE)
        peaks.append(json.loads(done.stdout))
    (small, few), (large, many) = peaks
    assert many > 10 * few > 3e6, "pixels"
    assert large - small < 100, "MB, where the pixels alone are 240 MB more"


PEAK = """
import json, resource
from pathlib import Path
from types import SimpleNamespace
from mapper.export.geotiff import export_geotiff
from mapper.store.map_store import MapStore
from mapper.store.product import map_product
from store_maps import make_spec
grid = {{"kind": "projected", "crs": "EPSG:3035", "resolution": 10, "tile": 1024, "chunk": 256}}
spec = make_spec(Path({folder!r}) / "map.icechunk", grid=grid, area={{"bbox": [12, 50, 12 + {edge}, 50 + {edge}]}})
MapStore.create(spec.store, map_product(spec))
made = export_geotiff(spec.store, Path({folder!r}) / "map.tif", variable="n_valid")
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, made.rows * made.cols]))
"""


def test_a_zarr_copy_reads_without_icechunk(made, tmp_path):
    report = copy_zarr(made.store, tmp_path / "map.zarr")
    code = (
        "import sys, json, xarray\n"
        "data = xarray.open_zarr(sys.argv[1], consolidated=True, decode_coords='all', chunks=None)\n"
        "data.load()\n"
        "assert not any(name.split('.')[0] in ('icechunk', 'mapper') for name in sys.modules)\n"
        "print(json.dumps([float(data[name].sum()) for name in ('agb', 'agb_sd', 'qa', 'n_valid')]))\n"
    )
    read = subprocess.run([sys.executable, "-c", code, report.path], capture_output=True, text=True, check=True)
    with open_map(made.store) as there:
        sums = [float(there[name].sum()) for name in ("agb", "agb_sd", "qa", "n_valid")]
        assert json.loads(read.stdout) == pytest.approx(sums)
        xr.testing.assert_identical(xr.open_zarr(report.path, decode_coords="all", chunks=None).load(), there.load())
    assert not (tmp_path / "map.zarr" / "ledger").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.zarr"]


def pull_the_plug():
    raise StoreError("pulled the plug")


def test_an_interrupted_zarr_copy_goes_on(made, tmp_path):
    def stop(done, _):
        if done == 5:
            raise StoreError("pulled the plug")

    with pytest.raises(StoreError, match="plug"):
        copy_zarr(made.store, tmp_path / "map.zarr", progress=stop)
    part = tmp_path / "map.zarr.part"
    assert not (tmp_path / "map.zarr").exists()
    kept = {path: path.stat().st_mtime_ns for path in part.rglob("*") if path.is_file() and path.name[0].isdigit()}
    assert kept
    copy_zarr(made.store, tmp_path / "map.zarr")
    finished = {tmp_path / "map.zarr" / path.relative_to(part): then for path, then in kept.items()}
    assert {path: path.stat().st_mtime_ns for path in finished} == finished, "what was there was not copied again"
    xr.testing.assert_identical(
        xr.open_zarr(tmp_path / "map.zarr", decode_coords="all", chunks=None).load(), open_map(made.store).load()
    )


def test_an_unfinished_copy_of_another_version_is_refused(made, tmp_path):
    part = tmp_path / "map.zarr.part"
    for name, content in (("notes.txt", "mine"), ("copy-of.json", '{"store": "other", "snapshot": "1"}')):
        part.mkdir()
        (part / name).write_text(content)
        with pytest.raises(InputError, match="unfinished copy of something else"):
            copy_zarr(made.store, tmp_path / "map.zarr")
        assert (part / name).read_text() == content
        rmtree(part)


@pytest.mark.parametrize("when", ["before its note", "amid chunks", "before its note is removed"])
def test_a_killed_zarr_copy_leaves_nothing_behind(made, tmp_path, when):
    out, part = tmp_path / "map.zarr", tmp_path / "map.zarr.part"
    copy_zarr(made.store, tmp_path / "whole.zarr")
    whole = {path.relative_to(tmp_path / "whole.zarr") for path in (tmp_path / "whole.zarr").rglob("*")}
    if when == "before its note":
        part.mkdir()
        (part / "copy-of.json.4711.new").write_text("{")
    elif when == "amid chunks":
        with pytest.raises(StoreError, match="plug"):
            copy_zarr(made.store, out, progress=lambda done, _: pull_the_plug() if done == 5 else None)
        (part / "agb/c/0").mkdir(parents=True, exist_ok=True)
        (part / "agb/c/0/1.4711.new").write_bytes(b"half")
    else:
        copy_zarr(made.store, out)
        note = {"store": made.store, "snapshot": MapStore.open(made.store).snapshot}
        (out / "copy-of.json").write_text(json.dumps(note))
    report = copy_zarr(made.store, out)
    assert report.objects
    assert {path.relative_to(out) for path in out.rglob("*")} == whole
    assert not part.exists()
    with pytest.raises(InputError, match="exists already"):
        copy_zarr(made.store, out)


def test_the_ledger_becomes_items_with_footprints_dates_and_checksums(made, tmp_path):
    report = export_tiles(made.store, tmp_path / "a:b %20.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["a:b %20.parquet"]
    items = rustac.read_sync(report.path)["features"]
    records = {record.tile: record for record in MapStore.open(made.store).ledger.records()}
    assert len(items) == report.tiles == len(records)
    for item in items:
        about = item["properties"]
        record = records[Tile(about["mapper:row"], about["mapper:col"])]
        assert about["mapper:status"] == record.status
        assert about["mapper:content_sha256"] == record.content_sha256
        assert about["mapper:model_digest"] == record.model_digest
        assert about["mapper:seconds_read"] == record.seconds["read"]
        lon, lat = (item["bbox"][0] + item["bbox"][2]) / 2, (item["bbox"][1] + item["bbox"][3]) / 2
        assert made.map_grid.locate(lon, lat, crs="EPSG:4326")[2] == record.tile
        if record.status == "ok":
            assert about["start_datetime"] == "2021-06-01T10:30:00Z"
            assert about["end_datetime"] == "2021-06-02T10:30:00Z"
            assert about["mapper:dropped"] == ["sentinel-2-l2a/S2_2: truncated"]
        else:
            assert about["mapper:reason"] == "nothing <answers>"


def test_tiles_of_a_box_are_those_that_it_touches(made, tmp_path):
    one = made.map_grid.geobox_of(made.map_grid.window(Tile(1, 1))).extent.to_crs("EPSG:4326").centroid.coords[0]
    box = (one[0] - 1e-5, one[1] - 1e-5, one[0] + 1e-5, one[1] + 1e-5)
    assert export_tiles(made.store, tmp_path / "one.parquet", bbox=box).tiles == 1


def test_an_older_version_can_be_taken(made, tmp_path):
    ledger = MapStore.open(made.store).ledger
    first = ledger.snapshot_of(1).id
    assert export_tiles(made.store, tmp_path / "first.parquet", ref=first).tiles == 3
    export_geotiff(made.store, tmp_path / "first.tif", ref=first)
    stored, file = read_back(tmp_path / "first.tif")
    np.testing.assert_allclose(decode(stored, file), open_map(made.store, ref=first)["agb"], atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"variable": "height"}, InputError, "no array 'height', it has agb, agb_sd, qa, n_valid"),
        ({"bbox": (2.0, 50.0, 2.1, 50.1)}, GridError, "outside of the map, which covers 1"),
        ({"bbox": (12.1, 50.0, 12.0, 50.1)}, InputError, "antimeridian"),
        ({"bbox": (float("nan"), 50.0, 12.0, 50.1)}, InputError, "finite"),
        ({"area": "nowhere.geojson"}, InputError, "nowhere.geojson"),
        ({"bbox": BOX, "area": "nowhere.geojson"}, InputError, "not both"),
        ({"ref": "nothing"}, StoreError, "no version 'nothing'"),
    ],
)
def test_what_cannot_be_exported_is_said_and_leaves_nothing(made, tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        export_geotiff(made.store, tmp_path / "map.tif", **changes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("export", [export_geotiff, copy_zarr, export_tiles])
def test_a_file_that_exists_is_left_alone(made, tmp_path, export):
    out = tmp_path / "mine"
    out.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        export(made.store, out)
    assert out.read_text() == "mine"


def test_a_store_in_a_bucket_is_exported_alike(bucket, tmp_path):
    spec = make_spec(tmp_path / "map.icechunk").model_copy(update={"store": make_location()})
    MapStore.create(spec.store, map_product(spec))
    with MapStore.open(spec.store).writer(map_product(spec), run_id="run-1") as writer:
        write_tiles(writer, spec, list(spec.map_grid.tiles())[:3])
    expected = open_map(spec.store).load()
    stored, file = read_back(export_geotiff(spec.store, tmp_path / "map.tif").path)
    np.testing.assert_allclose(decode(stored, file), expected[spec.target.name], atol=1e-3)
    copied = xr.open_zarr(copy_zarr(spec.store, tmp_path / "map.zarr").path, decode_coords="all", chunks=None)
    xr.testing.assert_identical(copied.load(), expected)
    assert export_tiles(spec.store, tmp_path / "tiles.parquet").tiles == 3
    assert bucket.log()


def test_a_file_that_fails_midway_leaves_nothing(made, tmp_path):
    def stop(*_):
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left"):
        export_geotiff(made.store, tmp_path / "map.tif", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_the_command_goes_by_the_name_of_the_file(made, tmp_path):
    box = ",".join(map(str, BOX))
    made_tif = run_json("export", made.store, "--out", tmp_path / "a.tif", "--bbox", box, "--variable", "qa", "--json")
    assert (made_tif["variable"], made_tif["rows"]) == ("qa", read_back(tmp_path / "a.tif")[0].shape[0])
    code, text = run_mapper("export", made.store, "--out", tmp_path / "a.parquet")
    assert code == 0
    assert "8 tiles" in text
    code, text = run_mapper("export", made.store, "--out", tmp_path / "a.zarr")
    assert code == 0
    assert "snapshot" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--out", "a.txt"), "does not say what it is"),
        (("--out", "a.tif", "--bbox", "1,2,3"), "no box"),
        (("--out", "a.zarr", "--bbox", "1,2,3,4"), "whole map"),
        (("--out", "a.parquet", "--variable", "qa"), "for a GeoTIFF"),
    ],
)
def test_the_command_says_what_it_cannot_do(made, options, words):
    code, text = run_mapper("export", made.store, *options)
    assert code == 2
    assert words in " ".join(text.replace("│", " ").split())


def test_looking_at_a_location_makes_no_store(tmp_path):
    with pytest.raises(StoreError, match="does not exist"):
        export_geotiff(tmp_path / "none", tmp_path / "map.tif")
    assert not parse_location(tmp_path / "none").path.exists()
