"""A map that asks for it has further flags, gain in detail and risk; they are the same bits for any tiling."""

import json
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import shapely
import torch
import yaml
from fastapi.testclient import TestClient
from kinds_of_maps import CRS, write_catalog, write_map, write_scene
from region import run_json, run_mapper
from torch import nn

from mapper import open_map, read_spec
from mapper.errors import ContractError
from mapper.models.architectures import ARCHITECTURES
from mapper.models.card import read_card
from mapper.models.contract import Contract, Input
from mapper.models.interpolation import upsample
from mapper.models.model import Network
from mapper.models.receptive_field import ReceptiveField, Span
from mapper.models.risk import Risk
from mapper.models.stack_model import adapt
from mapper.models.weights import save_model
from mapper.plan.context import make_context
from mapper.predict.quality import BITS, read_flags
from mapper.serve.app import make_app
from mapper.serve.settings import AppSettings
from mapper.spec import ModelSpec
from mapper.store.map_store import MapStore
from mapper.store.why import why

RISK = Risk(
    weights=(0.2, 0.5, 0.1, 0.1, -0.5),
    scores=(-3.0, 1.0),
    risks=(0.05, 0.6),
    least=(-9.0, -9.0, -9.0, 0.5),  # fewer than two dates are strange
    most=(9.0, 9.0, 9.0, 9.0),
)
ASKED = ["n_dates", "bqa", "detail_gain", "risk"]


class Sharpen(Network):
    """The anchor, interpolated and stretched around a level, and a tenth of it as deviation."""

    stacked = any_bands = gives_sd = in_double = True

    def __init__(self, guide_channels, scale):
        super().__init__()
        assert not guide_channels
        self.scale, self.weight = scale, nn.Parameter(torch.full((1,), 1.3))

    def forward(self, source, *, clear, anchor, shift, guide):
        del source, clear, shift, guide
        fine = upsample(anchor, self.scale, "bicubic")
        return torch.cat([0.2 + self.weight * (fine - 0.2), 0.1 * fine.abs()], 1)

    def receptive_field(self, pixel):
        return ReceptiveField(guide=Span(pixel, pixel), source=Span(pixel, pixel).upsample(2, self.scale))


def ask(folder, name, quality, *, tile=96, model=None):
    return write_map(
        folder,
        name,
        preset="sentinel2-multi",
        grid={"kind": "native", "crs": CRS, "resolution": 5, "tile": tile, "chunk": 32},
        source={"dates": 3, "bands": ["B02", "B03"]},
        target={"quality": quality, "sd": True},
        model={"name": model} if model else {"name": "tiny", "weights": "tiny.safetensors"},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three dates, one of them half cloudy, and a tiny network that knows its risk."""
    folder = tmp_path_factory.mktemp("quality")
    clear = np.ones((144, 144), bool)
    clear[:, 60:] = False
    days = {"2024-06-03": None, "2024-06-08": clear, "2024-06-13": clear}
    write_catalog(folder, [write_scene(folder, day, 5.0, clear=mask)[0] for day, mask in days.items()])
    source = Input(role="source", dates=0, px=0)
    contract = Contract(
        model="sharpen", inputs=(source,), outputs=(), scale=2, halo_px=Sharpen(0, 2).halo_px, band_sd=True
    )
    with mock.patch.dict(ARCHITECTURES._entries, sharpen=Sharpen):
        card = save_model(adapt(Sharpen(0, 2), contract), folder / "tiny.safetensors", options={})
        (folder / "tiny.json").write_text(replace(card, risk=RISK).to_json())
        yield folder


@pytest.fixture(scope="module")
def maps(folder):
    """One map in two tilings that asks for all, and one that asks for nothing new."""
    paths = [ask(folder, f"tiles-{tile}", ASKED, tile=tile) for tile in (192, 96)]
    paths.append(ask(folder, "plain", ["n_dates"]))
    for path in paths:
        assert run_json("run", path)["failed"] == 0
    return paths


def test_any_tiling_gives_the_same_bits(maps):
    one, other = (open_map(path) for path in maps[:2])
    inner = [each.isel(x=each.x.isin(rest.x), y=each.y.isin(rest.y)) for each, rest in ((one, other), (other, one))]
    assert np.isfinite(inner[0]["risk"].values).sum() > 10_000
    for name in ("B02", "B02_sd", "qa", "n_dates", "detail_gain", "risk"):
        np.testing.assert_array_equal(*(each[name].values for each in inner), err_msg=name)


def test_a_map_that_does_not_ask_is_as_it_was(maps):
    asked, plain = (open_map(path) for path in maps[1:])
    assert plain["qa"].dtype == np.uint16
    assert asked["qa"].dtype == np.uint32
    assert set(asked.data_vars) - set(plain.data_vars) == {"detail_gain", "risk"}
    for name in ("B02", "B03_sd", "n_dates"):
        np.testing.assert_array_equal(asked[name].values, plain[name].values)
    shared = sum(mask for mask, _ in read_flags(plain["qa"].attrs).values())
    np.testing.assert_array_equal(asked["qa"].values & shared, plain["qa"].values)
    digests = [MapStore.open(read_spec(path).store).ledger.records() for path in maps[1:]]
    asked_models, plain_models = ({record.model_digest for record in records} for records in digests)
    assert plain_models == {read_card(read_spec(maps[2]).model).digest}
    assert asked_models.isdisjoint(plain_models)  # its pixels hang on the risk in the card, too


def test_flags_and_bands_say_what_was_built(maps):
    found = open_map(maps[1]).where(lambda each: each["B02"].notnull())
    named = read_flags(found["qa"].attrs)
    bits = open_map(maps[1])["qa"].values[np.isfinite(found["B02"].values)]
    set_at = {name: (bits & mask == value) for name, (mask, value) in named.items()}
    dates = found["n_dates"].values[np.isfinite(found["B02"].values)]
    np.testing.assert_array_equal(set_at["few_clear"], dates < 3)
    assert 0.1 < set_at["few_clear"].mean() < 0.9
    np.testing.assert_array_equal(set_at["out_of_domain"], dates < 2)
    assert set_at["confidence_medium"].mean() > 0.8  # a tenth of the value
    assert set_at["confidence_low"].mean() < 0.2
    assert set_at["fallback"].mean() < 0.001
    assert not set_at["confidence_unknown"].any()
    gain, risk = (found[name].values[np.isfinite(found["B02"].values)] for name in ("detail_gain", "risk"))
    assert np.nanmin(gain) > 1
    assert 0.05 <= np.nanmin(risk) < np.nanmax(risk) <= 0.6


def test_a_pixel_is_explained_in_words(maps):
    spec = read_spec(maps[1])
    x, y = spec.area.geometry.centroid.coords[0]
    answer = why(spec.store, x, y)
    assert "confidence_medium" in answer.flags
    assert {"detail_gain", "risk"} < set(answer.ancillary)
    assert "confidence_medium" in answer.to_text()
    assert "  risk  " in answer.to_text()


def test_a_server_tells_pixel_area_and_legend_in_the_same_words(maps):
    spec = read_spec(maps[1])
    client, place = TestClient(make_app(spec.store, AppSettings(stale_after_s=0.0))), spec.area.geometry.centroid
    told = client.get("/pixel", params={"x": place.x, "y": place.y}).json()
    assert {"flag": "confidence_medium", "meaning": BITS["confidence_medium"].description} in told["quality"]
    assert 0.05 <= told["ancillary"]["risk"] <= 0.6
    legend = client.get("/tilejson.json?variable=qa").json()["legend"]
    assert {"confidence_low", "confidence_medium", "cloud_shadow"} <= {entry["flag"] for entry in legend}
    area = json.loads(shapely.to_geojson(place.buffer(0.001)))
    shares = {entry["flag"]: entry["share"] for entry in client.post("/stats", json=area).json()["quality"]}
    classes = [shares.get(f"confidence_{name}", 0) for name in ("low", "medium")]
    assert 0.5 < sum(classes) <= 1 + 1e-6  # each pixel has one class


def test_a_model_without_a_fitted_risk_refuses_a_map_that_asks_for_it(folder):
    path = ask(folder, "bicubic", ["risk"], model="bicubic")
    with pytest.raises(ContractError, match=r"model bicubic has no estimate of risk.*mapper risk"):
        make_context(read_spec(path))
    code, printed = run_mapper("plan", path)
    assert code != 0
    assert "mapper risk" in printed


def test_what_a_model_was_not_judged_on_is_no_flag_of_one_that_nobody_judged(folder):
    spec = read_spec(ask(folder, "median", ["bqa"], model="median"))
    flags = read_flags(make_context(spec).product.quality.attributes)
    assert "fallback" in flags
    assert "out_of_domain" not in flags
    risky = yaml.safe_load(ask(folder, "again", ["bqa"]).read_text())
    assert ModelSpec.model_validate(risky["model"]).name == "tiny"
    assert "out_of_domain" in read_flags(make_context(read_spec(folder / "again.yaml")).product.quality.attributes)
