"""Dates of a stack are registered to the anchor tile by tile, and the map is the same however it is tiled."""

from unittest import mock

import numpy as np
import pytest
import torch
from kinds_of_maps import CRS, write_catalog, write_map, write_scene
from region import run_json
from torch import nn

from mapper import open_map, read_spec
from mapper.models.architectures import ARCHITECTURES
from mapper.models.contract import Contract, Input
from mapper.models.interpolation import upsample
from mapper.models.model import Network
from mapper.models.receptive_field import ReceptiveField, Span
from mapper.models.stack_model import adapt
from mapper.models.weights import save_model
from mapper.store.map_store import MapStore

CELL = 64


class ShowShifts(Network):
    """The anchor, and the shifts of all dates on top: what they are is seen in the map."""

    stacked = any_bands = True
    cells_px = CELL

    def __init__(self, guide_channels, scale):
        super().__init__()
        assert not guide_channels
        self.scale, self.weight = scale, nn.Parameter(torch.ones(1))

    def forward(self, source, *, clear, anchor, shift, guide):
        assert source.shape[1] == clear.shape[1] == shift.shape[1]
        assert not guide.shape[1]
        return upsample(anchor + self.weight * shift.sum((1, 2), keepdim=True)[:, 0], self.scale, "nearest")

    def receptive_field(self, pixel):
        return ReceptiveField(guide=Span(pixel, pixel), source=Span(pixel, pixel).upsample(0, self.scale))


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """One map in two tilings, of three dates, by a network that asks for their shifts."""
    folder = tmp_path_factory.mktemp("stack")
    source = Input(role="source", dates=0, px=0, cells_px=CELL)
    contract = Contract(model="shifts", inputs=(source,), outputs=(), scale=2, halo_px=ShowShifts(0, 2).halo_px)
    days = ("2024-06-03", "2024-06-08", "2024-06-13")
    write_catalog(folder, [write_scene(folder, day, 5.0 + number)[0] for number, day in enumerate(days)])
    paths = []
    with mock.patch.dict(ARCHITECTURES._entries, shifts=ShowShifts):
        save_model(adapt(ShowShifts(0, 2), contract), folder / "tiny.safetensors", options={})
        for tile in (192, 96):
            path = write_map(
                folder,
                f"tiles-{tile}",
                preset="sentinel2-multi",
                grid={"kind": "native", "crs": CRS, "resolution": 5, "tile": tile, "chunk": 32},
                source={"dates": 3, "bands": ["B02"]},
                model={"name": "tiny", "weights": "tiny.safetensors"},
                consistency="none",
            )
            assert run_json("run", path)["failed"] == 0
            paths.append(path)
    return paths


def test_any_tiling_gives_the_same_bits(maps):
    one, other = (open_map(path)["B02"] for path in maps)
    both = (
        one.isel(x=one.x.isin(other.x), y=one.y.isin(other.y)),
        other.isel(x=other.x.isin(one.x), y=other.y.isin(one.y)),
    )
    assert np.isfinite(both[0].values).sum() > 10_000
    np.testing.assert_array_equal(*(each.values for each in both))


def test_a_record_says_how_far_each_date_lies_from_the_anchor(maps):
    records = [record for record in MapStore.open(read_spec(maps[1]).store).ledger.records() if record.status == "ok"]
    assert records
    for record in records:
        assert [shift.date for shift in record.shifts] == list(record.dates)
        for shift in record.shifts:
            assert abs(shift.down) < 0.1
            assert abs(shift.right) < 0.1
        assert max(shift.trust for shift in record.shifts) > 0
