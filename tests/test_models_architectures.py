"""Networks by name, and those that other packages add."""

import pytest
import torch
from places import Plain
from region import run_mapper

from mapper.errors import InputError, WeightsError
from mapper.models import architectures
from mapper.models.contract import BandNorm, Contract, make_inputs, make_outputs
from mapper.models.model import GuidedModel, Network
from mapper.models.weights import load_model, save_model
from mapper.spec import ModelSpec


def test_a_network_of_another_package_is_built_saved_loaded_and_listed(offer, tmp_path):
    offer(architectures.ARCHITECTURES, plain=Plain)
    network = architectures.build_network("plain", guide_channels=2, scale=4, options={"width": 3})
    assert isinstance(network, Plain)
    contract = Contract(
        model="plain",
        inputs=make_inputs(
            tuple(BandNorm(name=name, units="1") for name in "ab"), BandNorm(name="agb", units="Mg ha-1")
        ),
        outputs=make_outputs("agb", "Mg ha-1", gives_sd=True),
        scale=4,
        halo_px=network.halo_px,
        align_px=network.align_px,
        sees_source_sd=True,
    )
    path = tmp_path / "theirs.safetensors"
    save_model(GuidedModel(network, contract), path, options={"width": 3})
    loaded = load_model(ModelSpec(name="theirs", weights=path))
    state = network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in loaded.network.state_dict().items())
    code, said = run_mapper("models")
    assert code == 0
    assert "places.Plain" in said


def test_a_broken_package_is_one_clear_error(offer):
    offer(architectures.ARCHITECTURES, module="stars", gan=Plain)
    with pytest.raises(InputError, match=r"mapper\.models:gan .* of toys cannot be imported .*stars"):
        architectures.build_network("gan", guide_channels=2, scale=4, options={})


def test_what_is_no_network_is_refused(offer):
    offer(architectures.ARCHITECTURES, gan=print)
    with pytest.raises(InputError, match="expected type"):
        architectures.build_network("gan", guide_channels=2, scale=4, options={})


def test_all_are_networks_and_an_unknown_one_names_them():
    assert all(issubclass(network, Network) for network in architectures.ARCHITECTURES.values())
    names = ", ".join(sorted(architectures.ARCHITECTURES))
    with pytest.raises(WeightsError, match=f"unknown architecture 'gan': expected one of {names}"):
        architectures.build_network("gan", guide_channels=1, scale=2, options={})
