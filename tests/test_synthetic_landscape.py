import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from mapper.synthetic.biomass import expect_source
from mapper.synthetic.landscape import Landscape
from mapper.synthetic.optics import BANDS, look_through, see_ground
from mapper.synthetic.sentinel1 import scatter
from mapper.synthetic.site import Site
from mapper.synthetic.sky import Sun, cloud_sky
from mapper.synthetic.surface import Cover

SUN = Sun(zenith=32, azimuth=153)


def box(rows=300, cols=300):
    return GeoBox((rows, cols), Affine(10, 0, 4_457_000, 0, -10, 3_150_000), "EPSG:3035")


@pytest.fixture(scope="module")
def site():
    return Site.of(8, box())


def block_means(values):
    rows, cols = (size // 10 for size in values.shape)
    return values.reshape(rows, 10, cols, 10).mean(axis=(1, 3))


def test_the_same_seed_gives_the_same_landscape_whatever_the_window(site):
    window = np.s_[20:130, 150:290]
    part = Landscape(seed=8).render(box()[window], workers=1)
    assert np.array_equal(site.ground.biomass[window], part.biomass)
    assert np.array_equal(site.ground.cover[(slice(None), *window)], part.cover)


def test_another_seed_gives_another_landscape(site):
    other = Landscape(seed=9).render(box())
    assert abs(np.corrcoef(site.ground.biomass.ravel(), other.biomass.ravel())[0, 1]) < 0.3


def test_another_crs_is_refused():
    with pytest.raises(ValueError, match="EPSG:3035"):
        Landscape(seed=1).render(GeoBox((4, 4), Affine(10, 0, 0, 0, -10, 0), "EPSG:32633"))


def test_covers_share_the_ground(site):
    assert site.ground.cover.min() >= 0
    assert np.allclose(site.ground.cover.sum(axis=0), 1, atol=1e-5)


def test_biomass_is_distributed_like_forests_among_fields():
    truth = np.stack([Landscape(seed=seed).render(box()).biomass for seed in range(20, 26)])
    assert 0.1 < (truth == 0).mean() < 0.6
    assert 50 < truth.mean() < 130
    assert 450 > truth.max() > 350
    assert 80 < np.median(truth[truth > 20]) < 250


def test_much_of_the_variance_lies_within_a_source_pixel(site):
    truth = site.ground.biomass
    within = np.sqrt(np.mean((truth - np.kron(block_means(truth), np.ones((10, 10)))) ** 2))
    assert 40 < within < 95
    assert block_means(truth).std() > 50


def test_reflectance_is_related_to_biomass_but_saturates(site):
    red = see_ground(site.ground, day=190, sun=SUN, resolution=10)[BANDS.index("B04")]
    truth = site.ground.biomass
    assert -0.9 < np.corrcoef(red.ravel(), truth.ravel())[0, 1] < -0.5
    means = [red[(truth >= low) & (truth < low + 50)].mean() for low in (0, 100, 200, 300)]
    assert means[0] - means[1] > 4 * abs(means[2] - means[3])


def test_radar_saturates_later_than_reflectance(site):
    truth = site.ground.biomass
    power = scatter(site.ground, polarisation="vh", wetness=0.1, look_east=0, resolution=10)
    decibel = [10 * np.log10(power[(truth >= low) & (truth < low + 50)].mean()) for low in (0, 50, 150, 250, 350)]
    assert np.all(np.diff(decibel) > 0)
    assert decibel[1] - decibel[0] > 3 * (decibel[4] - decibel[3])


def test_water_is_dark_and_soil_is_not(site):
    reflectance = see_ground(site.ground, day=190, sun=SUN, resolution=10)
    infrared = reflectance[BANDS.index("B08")]
    water, soil = (site.ground.cover[kind] > 0.95 for kind in (Cover.WATER, Cover.SOIL))
    assert infrared[water].mean() < 0.04 if water.any() else True
    assert 0.1 < infrared[soil].mean() < 0.35
    assert reflectance.min() > 0
    assert reflectance.max() < 1


def test_clouds_whiten_and_shadows_darken(site):
    clear = see_ground(site.ground, day=190, sun=SUN, resolution=10)
    sky = cloud_sky(11, site.raster, coverage=0.35, cirrus=0, sun=SUN)
    clouded = look_through(sky, clear.copy())
    thick, dark = sky.cloud > 0.9, (sky.shadow > 0.9) & (sky.cloud == 0)
    open_sky = (sky.shadow == 0) & (sky.cloud == 0)
    assert thick.any()
    assert dark.any()
    assert clouded[0][thick].min() > 0.6
    assert (clouded[:, dark] < 0.5 * clear[:, dark]).all()
    assert np.array_equal(clouded[:, open_sky], clear[:, open_sky])


def test_the_coarse_map_is_right_where_there_is_little_and_short_where_there_is_much():
    mean = np.array([0, 20, 100, 180, 300, 400], np.float32)
    expected = expect_source(mean)
    assert expected[:3] == pytest.approx(mean[:3], abs=1.0)
    assert expected[3] == pytest.approx(180, abs=8)
    assert 240 < expected[4] < 275
    assert np.all(np.diff(expected) > 0)
