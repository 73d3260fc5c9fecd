"""Products: bands with roles, which a store lists and a store of before is given."""

from dataclasses import replace

import numpy as np
import pytest
import zarr
from store_maps import make_arrays, make_spec, name_bands

from mapper.errors import SpecError
from mapper.grid import Tile
from mapper.store.description import describe, read_description, write_description
from mapper.store.layout import create_arrays
from mapper.store.ledger_arrays import create_ledger
from mapper.store.product import guide_product, map_product
from mapper.store.tiles import encode_tile


def guide_of(spec, unit="1"):
    units = {each.name: unit for each in spec.guide.channels}
    return guide_product(spec, grid=spec.map_grid, units=units, halo_px=64)


def make_group(product):
    store = zarr.storage.MemoryStore()
    root = zarr.create_group(store)
    write_description(root, product)
    create_arrays(root, product)
    create_ledger(root, product.grid.tile_shape)
    return root


@pytest.fixture
def spec(tmp_path):
    return make_spec(tmp_path / "map.icechunk")


def with_residual(spec):
    """A map that says what is left to its source."""
    target = spec.target.model_copy(update={"quality": ("consistency_residual",)})
    return map_product(spec.model_copy(update={"target": target}))


@pytest.mark.parametrize("make", [map_product, with_residual, guide_of, lambda spec: guide_of(spec, "dB")])
def test_bands_are_read_as_they_were_described(spec, make):
    product = make(spec)
    found = read_description(make_group(product).store)
    assert [band.name for band in found.bands] == [band.name for band in product.bands]
    for read, made in zip(found.bands, product.bands, strict=True):
        assert (read.role, read.of, read.dtype, read.encoding) == (made.role, made.of, made.dtype, made.encoding)
        assert read.reduction == made.reduction
        np.testing.assert_equal(read.fill, made.fill)
        assert made.attributes.items() <= read.attributes.items()


@pytest.mark.parametrize("make", [map_product, guide_of, lambda spec: guide_of(spec, "dB")])
def test_a_store_that_lists_no_roles_has_those_of_its_kind(spec, make):
    root = make_group(make(spec))
    with_roles = [replace(band, value_range=None) for band in read_description(root.store).bands]
    del root.attrs["mapper:roles"]
    np.testing.assert_equal(list(read_description(root.store).bands), with_roles)


def test_bands_are_found_by_role(spec):
    product = map_product(spec)
    assert [band.name for band in product.values] == ["agb"]
    assert product.sd_of("agb").name == "agb_sd"
    assert product.sd_of("qa") is None
    assert (product.quality.name, product.count.name, product.channels) == ("qa", "n_valid", ())
    guide = guide_of(spec)
    assert [band.name for band in guide.channels] == [channel.name for channel in spec.guide.channels]
    assert (guide.quality.name, guide.count.name, guide.values) == ("gaps", "n_valid", ())
    with pytest.raises(KeyError):
        product.band("gaps")


def test_roles_are_all_that_a_description_gained(spec):
    about = describe(map_product(spec))
    assert about["mapper:layout"] == 1
    assert [entry["name"] for entry in about["mapper:roles"]] == list(map_product(spec).band_names)


def test_tiles_are_encoded_in_the_order_of_their_bands(spec):
    product, arrays = map_product(spec), make_arrays(spec.map_grid, Tile(0, 0))
    encoded = encode_tile(product, dict(reversed(arrays.items())))
    assert tuple(encoded) == product.band_names
    assert {name: str(array.dtype) for name, array in encoded.items()} == {
        band.name: band.dtype for band in product.bands
    }
    decoded = product.values[0].encoding.decode(encoded["agb"])
    np.testing.assert_allclose(decoded, arrays["agb"], atol=0.0501)


@pytest.mark.parametrize("change", [{"extra": np.zeros((64, 64), np.uint16)}, {"qa": None}, {"qa": np.zeros((64, 64))}])
def test_tiles_that_are_no_tile_of_the_product_are_refused(spec, change):
    arrays = {
        name: array for name, array in (make_arrays(spec.map_grid, Tile(0, 0)) | change).items() if array is not None
    }
    with pytest.raises(ValueError, match="expected"):
        encode_tile(map_product(spec), arrays)


def test_a_target_with_the_name_of_another_array_is_refused(spec):
    named = spec.model_copy(update={"target": spec.target.model_copy(update={"name": "qa"})})
    with pytest.raises(SpecError, match="qa"):
        map_product(named)
    assert set(name_bands(value=1, sd=2, qa=3, n_valid=4)) == set(map_product(spec).band_names)


def test_an_older_mapper_leaves_a_map_with_ancillary_bands_alone(spec):
    assert (describe(map_product(spec))["mapper:layout"], describe(with_residual(spec))["mapper:layout"]) == (1, 4)
    assert [band.name for band in with_residual(spec).ancillary] == ["consistency_residual"]
