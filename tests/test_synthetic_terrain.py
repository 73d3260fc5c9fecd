import numpy as np
import pytest

from mapper.predict.operators import block_mean
from mapper.synthetic.terrain import BUILDING, OTHER, TREE, WATER, make_terrain, observe, spoil_cover


@pytest.fixture(scope="module")
def terrains():
    return [make_terrain(seed, size_px=200) for seed in range(8)]


def test_a_terrain_is_a_function_of_its_seed(terrains):
    again, other = make_terrain(3, size_px=200), make_terrain(4, size_px=200)
    for name in ("ground", "surface", "cover"):
        np.testing.assert_array_equal(getattr(again, name), getattr(terrains[3], name))
    assert not np.array_equal(again.ground, other.ground)


def test_the_surface_is_never_below_the_ground_and_equals_it_on_water(terrains):
    for terrain in terrains:
        assert (terrain.surface >= terrain.ground).all()
        water = terrain.cover == WATER
        np.testing.assert_array_equal(terrain.surface[water], terrain.ground[water])


def test_terrains_differ_in_relief_and_in_what_stands_on_them(terrains):
    reliefs = [float(terrain.ground.std()) for terrain in terrains]
    assert max(reliefs) > 5 * min(reliefs)
    codes = np.unique(np.concatenate([terrain.cover.ravel() for terrain in terrains]))
    assert codes.tolist() == [OTHER, BUILDING, TREE, WATER]
    heights = np.concatenate([(t.surface - t.ground)[t.cover == TREE] for t in terrains])
    assert 4 < np.median(heights) < 25


def test_the_mean_of_the_surface_is_what_a_map_of_30_m_has(terrains):
    seen = observe(terrains[0], seed=1, scale=10)
    np.testing.assert_allclose(seen, block_mean(terrains[0].surface, 10), atol=1e-4)


def test_a_radar_looks_into_trees_and_has_noise():
    terrain = next(t for t in (make_terrain(seed, size_px=400) for seed in range(40)) if (t.cover == TREE).mean() > 0.5)
    plain, radar = (observe(terrain, seed=1, scale=10, radar=radar) for radar in (False, True))
    wooded = block_mean((terrain.cover == TREE).astype(np.float32), 10) > 0.9
    assert 0.5 < (plain - radar)[wooded].mean() < 5
    assert (plain - radar).std() > 0.1


def test_land_cover_loses_whole_objects():
    terrain = make_terrain(2, size_px=300)
    spoilt = spoil_cover(terrain, seed=5, lost=0.4)
    changed = spoilt.cover != terrain.cover
    assert changed.any()
    assert (spoilt.cover[changed] == OTHER).all()
    np.testing.assert_array_equal(spoil_cover(terrain, seed=5, lost=0.0).cover, terrain.cover)


def test_land_cover_loses_pixels_at_the_rim_of_objects():
    terrain = make_terrain(2, size_px=300)
    frayed = spoil_cover(terrain, seed=5, lost=0.0, frayed=0.5)
    lacks = frayed.cover != terrain.cover
    stands = np.isin(terrain.cover, [BUILDING, TREE])
    inside = stands[1:-1, 1:-1] & stands[:-2, 1:-1] & stands[2:, 1:-1] & stands[1:-1, :-2] & stands[1:-1, 2:]
    assert not (lacks[1:-1, 1:-1] & inside).any()
    rim = stands[1:-1, 1:-1] & ~inside
    assert 0.4 < lacks[1:-1, 1:-1][rim].mean() < 0.6
