"""A contract says what is missing, by role, band, date and unit, and where each band of the model is found."""

from dataclasses import replace

import pytest

from mapper.errors import ContractError
from mapper.models.card import parse_card, read_card, upgrade_contract
from mapper.models.contract import BandNorm, Contract, Input, Offer, Output, make_inputs, make_outputs
from mapper.spec import ModelSpec

BANDS = ("B02", "B03", "B04")
STACK = Contract(
    model="misr",
    inputs=(Input(role="source", bands=tuple(BandNorm(name=name, units="1") for name in BANDS), dates=8, px=0),),
    outputs=tuple(Output(name=name, units="1") for name in BANDS),
    scale=4,
    halo_px=16,
)
GUIDED = Contract(
    model="msg",
    inputs=make_inputs(
        (BandNorm(name="vv", units="dB"), BandNorm(name="B04", units="1")), BandNorm(name="agb", units="t")
    ),
    outputs=make_outputs("agb", "t", gives_sd=True),
    scale=10,
    halo_px=20,
    sees_source_sd=True,
)


def offer_stack(*names, units="1", dates=8):
    return {"guide": Offer(bands=()), "source": Offer(bands=[(name, units) for name in names], dates=dates)}


def check(contract, offers, targets=BANDS, units="1", scale=4):
    return contract.check(offers, targets=[(name, units) for name in targets], scale=scale)


def test_bands_of_a_source_are_found_by_name_in_any_order_and_no_guide_is_asked_for():
    assert check(STACK, offer_stack("B08", *reversed(BANDS))) == {"source": (3, 2, 1)}
    assert check(STACK, offer_stack(*BANDS, dates=3)) == {"source": (0, 1, 2)}


@pytest.mark.parametrize(
    ("offers", "changes", "message"),
    [
        (offer_stack("B02", "B03"), {}, "source band B04 is missing"),
        (offer_stack(*BANDS, units="dB"), {}, "source band B02 is in 'dB', expected '1'"),
        (offer_stack(*BANDS, dates=9), {}, "source has 9 dates, the model takes 8"),
        ({}, {}, "the map has no source"),
        (offer_stack(*BANDS), {"targets": ("B02", "B03", "B05")}, "target band B05 is not among the model's"),
        (offer_stack(*BANDS), {"targets": ("B02",)}, "1 target bands are asked for, the model gives 3"),
        (offer_stack(*BANDS), {"units": "%"}, "target is asked for in '%', the model gives '1'"),
        (offer_stack(*BANDS), {"scale": 2}, "scale is 2, expected 4"),
    ],
)
def test_every_difference_is_named(offers, changes, message):
    with pytest.raises(ContractError, match=message):
        check(STACK, offers, **changes)


def test_a_guide_is_found_by_name_and_a_single_source_band_by_its_units():
    guide = Offer(bands=[("B04", "1"), ("vh", "dB"), ("vv", "dB")])
    offers = {"guide": guide, "source": Offer(bands=[("height", "t")], has_sd=True)}
    assert check(GUIDED, offers, ["biomass"], "t", 10) == {"guide": (2, 0), "source": (0,)}
    with pytest.raises(ContractError, match=r"guide channel vv is missing; guide channel B04 is missing; .*source\.sd"):
        check(GUIDED, {"guide": Offer(bands=()), "source": Offer(bands=[("height", "t")])}, ["biomass"], "t", 10)
    with pytest.raises(ContractError, match="the map has no guide"):
        check(GUIDED, {"source": offers["source"]}, ["biomass"], "t", 10)
    optional = replace(GUIDED, inputs=(replace(GUIDED.inputs[0], optional=True), GUIDED.inputs[1]))
    assert check(optional, {"source": offers["source"]}, ["biomass"], "t", 10) == {"source": (0,)}


def test_a_model_without_weights_takes_any_bands_and_dates_and_gives_as_many():
    contract = read_card(ModelSpec(name="bicubic")).contract
    assert check(contract, offer_stack(*BANDS, units="m"), units="m") == {"source": (0, 1, 2)}
    assert contract.name_means(BANDS) == ("band_0", "band_1", "band_2")
    with pytest.raises(ContractError, match="2 target bands from 3 source bands"):
        check(contract, offer_stack(*BANDS), ["a", "b"])


def test_windows_lie_on_pixels_of_every_input():
    coarse = replace(STACK, inputs=(*STACK.inputs, Input(role="cover", px=6)), align_px=8)
    assert (STACK.step(4), coarse.step(4), coarse.step(9)) == (4, 24, 72)


def test_an_older_contract_is_read_as_inputs_outputs_and_bounds():
    old = {
        "model": "msg", "guide": [{"name": "vv", "units": "dB", "mean": -11.0, "sd": 2.0}], "source_units": "t",
        "source_mean": 80.0, "source_sd": 60.0, "target": "agb", "target_units": "t", "scale": 10, "halo_px": 20,
        "gives_sd": True, "non_negative": True, "sd_scale": 1.5,
    }  # fmt: skip
    contract = upgrade_contract(old)
    assert contract.guide == (BandNorm(name="vv", units="dB", mean=-11.0, sd=2.0),)
    assert contract.source.bands == (BandNorm(name="agb", units="t", mean=80.0, sd=60.0),)
    assert [(output.name, output.kind, output.of) for output in contract.outputs] == [
        ("agb", "mean", ""),
        ("agb_sd", "sd", "agb"),
    ]
    assert (contract.bounds, contract.sd_scale, contract.sd_of("agb")) == ((0, None), 1.5, "agb_sd")


def test_an_older_card_keeps_its_form_its_seal_and_its_digest():
    card = read_card(ModelSpec(name="mtg-demo"))
    again = parse_card(card.to_json())
    assert "guide" in again.form
    assert (again, again.seal, again.digest) == (card, card.seal, card.digest)


@pytest.mark.parametrize(("edge_m", "fits"), [(20.1, True), (30, True), (134, True), (19.9, False), (250, False)])
def test_source_pixels_far_from_those_of_training_are_refused(edge_m, fits):
    contract = Contract(model="any", inputs=(), outputs=(), scale=None, halo_px=0, source_m=(30.0, 90.0))
    if fits:
        contract.check_pixel(edge_m)
    else:
        with pytest.raises(ContractError, match=rf"source pixels of 30 to 90 m, those of the map have {edge_m:g} m"):
            contract.check_pixel(edge_m)
    assert "source_m" not in replace(contract, source_m=None).form, "digests of cards before stay"
