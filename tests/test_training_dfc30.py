"""DFC30's layout with made-up cities: layers by folder, tiles by name, a city held out as a whole."""

import numpy as np
import pytest
from elevation_places import make_heights, write_raster

from mapper.benchmark.sites import split
from mapper.errors import InputError
from mapper.training.config import Dfc30Data, TerrainData
from mapper.training.datasets import read_samples


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for city, tiles in (("Port", ("t1.tif", "t2.tif")), ("Hill-Side", ("a.tif",))):
        for seed, tile in enumerate(tiles):
            ground, surface, mask = make_heights(32, 34, seed=seed)
            image = random.integers(0, 255, (3, 32, 34)).astype(np.uint8)
            layers = {"RGEALTI": ground, "COP30": surface, "BDORTHO": image, "UA2012": mask, "CHM": surface - ground}
            for layer, values in layers.items():
                write_raster(tmp_path / "DFC30_8m" / city / layer / tile, values, px=8, nodata=None)
    return tmp_path / "DFC30_8m"


def test_tiles_are_sites_named_by_their_city(folder):
    samples = read_samples([Dfc30Data(folder=folder, layers=("BDORTHO", "UA2012", "CHM"), classes=(0, 1, 2, 3))])
    assert [sample.name for sample in samples] == ["Hill-Side/a", "Port/t1", "Port/t2"]
    assert [sample.place for sample in samples] == ["Hill-Side", "Port", "Port"]
    sample = samples[1]
    ground, surface, mask = make_heights(32, 34, seed=0)
    assert sample.scale == 4  # 30 m over 8 m is no whole number
    np.testing.assert_allclose(sample.source, surface[:, :32].reshape(8, 4, 8, 4).mean((1, 3)), rtol=1e-5)
    np.testing.assert_array_equal(sample.truth, ground[:, :32])
    assert [name for name, _ in sample.bands] == [
        "red", "green", "blue", "land_use_0", "land_use_1", "land_use_2", "land_use_3", "canopy_height",
    ]  # fmt: skip
    assert 0 <= sample.guide[:3].min() <= sample.guide[:3].max() <= 1
    np.testing.assert_array_equal(sample.guide[4], mask[:, :32] == 1)
    assert sample.guide[3:7].sum(0).max() == 1


def test_a_city_is_left_out_as_a_whole(folder):
    (left,) = read_samples([Dfc30Data(folder=folder, leave_out=("Port",))])
    assert left.place == "Hill-Side"
    parts = split(Dfc30Data(folder=folder, surface="COP30"))
    assert [part.cities for part in parts] == [("Hill-Side",), ("Port",)]


def test_what_is_missing_is_named(folder):
    with pytest.raises(InputError, match="has no city Sea; it has Hill-Side, Port"):
        read_samples([Dfc30Data(folder=folder, cities=("Sea",))])
    with pytest.raises(InputError, match="expected folders CITY/RGEALTI"):
        read_samples([Dfc30Data(folder=folder / "Port")])
    with pytest.raises(InputError, match="not in FABDEM"):
        read_samples([Dfc30Data(folder=folder, surface="FABDEM")])
    with pytest.raises(InputError, match=r"codes \[2.0.*beside the classes \[0, 1\]"):
        read_samples([Dfc30Data(folder=folder, layers=("UA2012",), classes=(0, 1))])


def test_terrains_are_sites_with_land_cover():
    samples = read_samples([TerrainData(seeds=(1, 2), size_px=64, scale=10), TerrainData(seeds=(1,), drop_objects=0.5)])
    assert [(s.name, s.place) for s in samples] == [
        ("terrain 1", "terrain 1"), ("terrain 2", "terrain 2"), ("terrain 1 -50 %", "terrain 1"),
    ]  # fmt: skip
    sample = samples[0]
    assert sample.truth.shape == (60, 60)
    assert sample.scale == 10
    assert (sample.source >= sample.truth.reshape(6, 10, 6, 10).mean((1, 3)) - 1e-3).all()
    np.testing.assert_array_equal(sample.guide.sum(0) == 0, sample.ground.cover == 0)
    assert samples[2].guide[:2].sum() < read_samples([TerrainData(seeds=(1,))])[0].guide[:2].sum()
