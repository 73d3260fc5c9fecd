"""Several dates of Sentinel-2, from a search of an archive over HTTP to the served map of 5 m."""

import copy
import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from fastapi.testclient import TestClient
from file_server import FileServer
from pyproj import Transformer
from region import run_json, run_mapper
from scenes import box_at, write_cog, write_item
from scipy.ndimage import binary_erosion
from shared import SHARED
from torch import nn

from mapper import open_map, read_spec
from mapper.models.architectures import ARCHITECTURES
from mapper.models.contract import Contract, Input
from mapper.models.interpolation import upsample
from mapper.models.model import Network
from mapper.models.receptive_field import ReceptiveField, Span
from mapper.models.stack_model import adapt
from mapper.models.weights import save_model
from mapper.predict.operators import GaussianPsf
from mapper.serve.app import make_app
from mapper.store.map_store import MapStore
from mapper.synthetic.bursts import BurstOptions, simulate_burst
from mapper.synthetic.imagery import make_image

CRS, ORIGIN, SIZE = "EPSG:32606", (399_960.0, 6_800_040.0), 144
"""Upper left corner of a granule, and pixels of 10 m that are written of it."""
BANDS = ("B04", "B08")
DAYS = ("2019-06-09", "2019-06-19", "2019-06-29")
CLOUDS = {DAYS[0]: 20.0, DAYS[1]: 1.5, DAYS[2]: 8.0}
CLEAREST, SECOND = 1, 2
QUANTUM = 1e-4
TOLERANCE = 0.002
OBJECT = slice(70, 82), slice(60, 72)
"""Source pixels of what only the first day has."""
REAL = SHARED / "stac_items/planetary-computer/sentinel-2-l2a"
REAL /= "S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531.json"


class ShowShifts(Network):
    """The anchor a little brighter, with the length of all shifts as its standard deviation."""

    stacked = any_bands = gives_sd = True
    cells_px = 64

    def __init__(self, guide_channels, scale):
        super().__init__()
        assert not guide_channels
        self.scale, self.weight = scale, nn.Parameter(torch.full((1,), 0.004))

    def forward(self, source, *, clear, anchor, shift, guide):  # noqa: ARG002 - called by name
        length = shift.square().sum((1, 2), keepdim=True)[:, 0].sqrt() / 100
        parts = (upsample(each, self.scale, "nearest") for each in (anchor + self.weight, length))
        return torch.cat(list(parts), 1)

    def receptive_field(self, pixel):
        return ReceptiveField(guide=Span(pixel, pixel), source=Span(pixel, pixel).upsample(0, self.scale))


@pytest.fixture(scope="module")
def dates():
    """Three dates with known shifts, the clearest under clouds in the north-west: numbers, clear pixels, shifts."""
    image = make_image(21, size_px=2 * SIZE, bands=len(BANDS)) * 0.05 + 0.2
    options = BurstOptions(dates=len(DAYS), shift_px=0.8, noise=(0.03, 0.03), gain=0.05, offset=0.05)
    burst = simulate_burst(image, options, seed=2)
    values = np.roll(burst.values, CLEAREST - burst.anchor, 0)
    values[(0, slice(None), *OBJECT)] += 0.15
    clear = np.ones((len(DAYS), SIZE, SIZE), bool)
    clear[CLEAREST, :60, :50] = False
    numbers = np.clip(values * 10_000, 1, 20_000).round().astype(np.uint16)
    return numbers, clear, np.roll(burst.shift, CLEAREST - burst.anchor, 0)


def write_plain(folder, number, pixels, scl):
    """An item with what is needed, and no more."""
    box, day = box_at(CRS, *ORIGIN, size=SIZE), DAYS[number]
    assets = {band: (pixels[k], box) for k, band in enumerate(BANDS)}
    facts = {"eo:cloud_cover": CLOUDS[day], "s2:processing_baseline": "02.12", "platform": "sentinel-2b"}
    return write_item(
        folder, f"S2_{day}", f"{day}T21:25:29Z", assets | {"SCL": (scl.repeat(2, 0).repeat(2, 1), box)}, **facts
    )


def write_like_the_archive(folder, number, pixels, scl):
    """An item of the archive of another day; its files hold the upper left corner of the granule."""
    item, day = copy.deepcopy(json.loads(REAL.read_text())), DAYS[number]
    item["id"] = item["id"].replace("20190629", day.replace("-", ""))
    properties = item["properties"]
    for name in ("s2:datatake_id", "s2:datastrip_id", "s2:granule_id", "s2:product_uri"):
        properties[name] = properties[name].replace("20190629", day.replace("-", ""))
    properties |= {"datetime": f"{day}T21:25:29.024000Z", "eo:cloud_cover": CLOUDS[day]}
    for name, numbers, step in (*((band, pixels[k], 10) for k, band in enumerate(BANDS)), ("SCL", scl, 20)):
        box = box_at(CRS, *ORIGIN, size=numbers.shape, step=step)
        path = write_cog(folder / item["id"] / f"{name}.tif", numbers, box)
        item["assets"][name] |= {
            "href": str(path),
            "proj:shape": list(numbers.shape),
            "proj:bbox": list(box.boundingbox.bbox),
        }
    return item


PLAIN = {"extends": "stac-api", "name": "plain", "collections": {"sentinel-2-l2a": {"like": "sentinel-2"}}}
LAYOUTS = {"plain": (write_plain, PLAIN), "archive": (write_like_the_archive, "planetary-computer")}


@contextmanager
def serve_archive(folder, layout, dates):
    """Serve the items of a layout by an API, their files by another server; gives provider and address."""
    write, provider = LAYOUTS[layout]
    numbers, clear, _ = dates
    classes = np.where(clear, 4, 9).astype(np.uint8)[:, ::2, ::2]
    with FileServer(folder) as files:
        items = [write(folder, number, numbers[number], classes[number]) for number in range(len(DAYS))]
        for asset in (asset for item in items for asset in item["assets"].values()):
            if asset["href"].startswith(str(folder)):
                asset["href"] = files.url(Path(asset["href"]))
        (folder / "items.json").write_text(json.dumps(items))
        if isinstance(provider, dict):
            (folder / "provider.yaml").write_text(yaml.safe_dump(provider))
            provider = "provider.yaml"
        command = [sys.executable, str(Path(__file__).with_name("stac_server.py")), str(folder / "items.json")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as api:
            try:
                yield provider, api.stdout.readline().strip()
            finally:
                api.terminate()


def write_map(folder, name, provider, address, tile):
    """A MAP.yaml well inside the scenes; returns its path."""
    to_degrees = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True).transform
    corners = [to_degrees(ORIGIN[0] + x, ORIGIN[1] - y) for x, y in ((330, 1110), (795, 300))]
    content = {
        "preset": "sentinel2-multi",
        "name": name,
        "area": {"bbox": [edge for corner in corners for edge in corner]},
        "period": {"start": "2019-06-01", "end": "2019-06-30"},
        "grid": {"crs": CRS, "resolution": 5, "tile": tile, "chunk": 48},
        "catalog": {"provider": provider, "href": address},
        "source": {"bands": list(BANDS), "dates": len(DAYS)},
        "target": {"sd": True},
        "model": {"name": "tiny", "weights": "tiny.safetensors"},
        "store": f"{name}.icechunk",
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return folder / f"{name}.yaml"


def make_maps(folder, layout, dates, tiles):
    """Search, plan and run a map in some tilings; returns the paths of their descriptions."""
    contract = Contract(
        model="shifts",
        inputs=(Input(role="source", dates=0, px=0, cells_px=64),),
        outputs=(),
        scale=2,
        halo_px=ShowShifts(0, 2).halo_px,
        band_sd=True,
    )
    paths = []
    with (
        pytest.MonkeyPatch.context() as patch,
        mock.patch.dict(ARCHITECTURES._entries, shifts=ShowShifts),
        serve_archive(folder, layout, dates) as (provider, address),
    ):
        patch.setenv("NO_PROXY", "127.0.0.1")
        save_model(adapt(ShowShifts(0, 2), contract), folder / "tiny.safetensors", options={})
        for tile in tiles:
            path = write_map(folder, f"{layout}-{tile}", provider, address, tile)
            assert run_json("plan", path)["tiles"] > 0
            report = run_json("run", path)
            assert (report["tiles"] > 0, report["failed"]) == (True, 0)
            paths.append(path)
    return paths


@pytest.fixture(scope="module")
def maps(tmp_path_factory, dates):
    return make_maps(tmp_path_factory.mktemp("multi"), "plain", dates, (192, 96))


def overlap(one, other):
    return one.isel(x=one.x.isin(other.x), y=one.y.isin(other.y))


def cut(dataset, array):
    """The part of a scene (..., y, x) that lies under the source pixels of a map."""
    left, top = float(dataset.x[0]) - 2.5 - ORIGIN[0], ORIGIN[1] - float(dataset.y[0]) - 2.5
    row, col, rows, cols = round(top / 10), round(left / 10), dataset.sizes["y"] // 2, dataset.sizes["x"] // 2
    return array[..., row : row + rows, col : col + cols]


def test_any_tiling_gives_the_same_bits_of_every_band(maps):
    one, other = (open_map(path) for path in maps)
    one, other = overlap(one, other), overlap(other, one)
    assert set(one.data_vars) - {"spatial_ref"} == {
        *BANDS, "B04_sd", "B08_sd", "qa", "n_valid", "n_dates", "anchor_days", "consistency_residual"
    }  # fmt: skip
    assert np.isfinite(one["B04"].values).sum() > 10_000
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name].values, other[name].values, err_msg=str(name))


def test_the_map_agrees_with_the_anchor_and_says_what_is_left(maps, dates):
    numbers, clear, _ = dates
    found = open_map(maps[0])
    shown = np.where(clear[CLEAREST], numbers[CLEAREST], numbers[SECOND]) / 10_000
    written = found["n_valid"].values > 0
    inner = binary_erosion(written, iterations=8)[::2, ::2]  # elsewhere the operator would look beyond the map
    operator, left = GaussianPsf(2, mtf=0.2), []
    for band, expected in zip(BANDS, cut(found, shown), strict=True):
        left.append(np.abs(operator.apply(found[band].values.astype(np.float64)) - expected)[inner])
    most = np.maximum(*left)
    assert most.max() <= TOLERANCE + QUANTUM
    assert np.median(most) > TOLERANCE / 2, "the model left the anchor by more than that"
    np.testing.assert_allclose(found["consistency_residual"].values[::2, ::2][inner], most, atol=QUANTUM)
    assert inner.sum() > 2000


def test_each_pixel_knows_its_day_and_how_many_dates_agree(maps, dates):
    _, clear, _ = dates
    found = open_map(maps[0])
    cloudy = ~cut(found, clear[CLEAREST]).repeat(2, 0).repeat(2, 1)
    written = found["n_valid"].values > 0
    assert (cloudy & written).any()
    days = found["anchor_days"].values.astype("datetime64[D]")
    np.testing.assert_array_equal(
        days[written], np.where(cloudy, np.datetime64(DAYS[SECOND]), np.datetime64(DAYS[CLEAREST]))[written]
    )
    np.testing.assert_array_equal(found["n_valid"].values[written], np.where(cloudy, 2, 3)[written])
    changed = found["qa"].values & 256 > 0
    object_px = np.zeros((SIZE, SIZE), bool)
    object_px[tuple(slice(part.start + 2, part.stop - 2) for part in OBJECT)] = True
    inside = cut(found, object_px).repeat(2, 0).repeat(2, 1) & written
    assert inside.any()
    assert changed[inside].mean() > 0.9
    assert changed[written].mean() < 0.1
    fewer = found["n_valid"].values.astype(int) - found["n_dates"].values
    np.testing.assert_array_equal((fewer > 0)[written], (found["qa"].values & (128 | 256) > 0)[written])


def test_a_record_has_dates_shifts_and_anchor_and_why_shows_them(maps, dates):
    *_, shifts = dates
    assert run_json("verify", maps[0])["complete"]
    record = next(
        record for record in MapStore.open(read_spec(maps[0]).store).ledger.records() if record.status == "ok"
    )
    assert [day.isoformat() for day in record.dates] == list(DAYS)
    assert record.anchor.startswith(f"clearest: {DAYS[CLEAREST]} ")
    for found, true in zip(record.shifts, shifts, strict=True):
        assert abs(found.down - true[0]) < 0.1
        assert abs(found.right - true[1]) < 0.1
    code, text = run_mapper("why", maps[0], ORIGIN[0] + 702, ORIGIN[1] - 702, "--crs", CRS)[:2]
    assert code == 0
    for part in (*DAYS, "anchor", "n_dates   ", "anchor_days", "trust"):
        assert part in text


def test_the_server_answers_with_everything_of_a_pixel(maps):
    with TestClient(make_app(read_spec(maps[0]).store)) as client:
        asked = {"x": ORIGIN[0] + 702, "y": ORIGIN[1] - 702, "crs": "map"}
        answer = client.get("/pixel", params=asked).json()
        tile = client.get("/tilejson.json", params={"variable": "anchor_days"})
    assert [band["name"] for band in answer["bands"]] == list(BANDS)
    assert all(0 < band["value"] < 1 and 0 < band["sd"] < 0.1 for band in answer["bands"])
    assert answer["ancillary"].keys() == {"n_dates", "anchor_days", "consistency_residual"}
    assert answer["ancillary"]["anchor_days"] == DAYS[CLEAREST]
    assert 1 <= answer["ancillary"]["n_dates"] <= answer["n_valid"] == 3
    assert answer["ancillary"]["consistency_residual"] <= TOLERANCE + QUANTUM
    assert answer["record"]["anchor"].startswith("clearest")
    assert len(answer["record"]["shifts"]) == 3
    assert tile.status_code == 200


@pytest.mark.skipif(not REAL.is_file(), reason=f"real items not found at {REAL}")
def test_items_as_the_archive_lays_them_out_give_the_same_map(maps, dates, tmp_path):
    (path,) = make_maps(tmp_path, "archive", dates, (192,))
    records = [MapStore.open(read_spec(each).store).ledger.records() for each in (maps[0], path)]
    one, other = ({str(record.tile): record.content_sha256 for record in each} for each in records)
    assert one == other
