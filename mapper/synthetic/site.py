"""Site of synthetic scenes: the ground of one landscape on one grid, and the randomness of its scenes."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry

from mapper.noise import derive_key
from mapper.synthetic.landscape import Landscape
from mapper.synthetic.noise import Raster
from mapper.synthetic.surface import Surface


@dataclass(frozen=True, kw_only=True)
class Site:
    """A landscape seen through one grid in EPSG:3035."""

    seed: int
    geobox: GeoBox
    ground: Surface

    @classmethod
    def of(cls, seed: int, geobox: GeoBox) -> Self:
        """Render the landscape of a seed."""
        return cls(seed=seed, geobox=geobox, ground=Landscape(seed=seed).render(geobox))

    @property
    def resolution(self) -> float:
        """Return the pixel size of the ground in metres."""
        return float(self.geobox.resolution.x)

    @cached_property
    def raster(self) -> Raster:
        """Return the pixel centres of the ground."""
        centres = self.geobox.coordinates
        return Raster(east=np.asarray(centres["x"].values), north=np.asarray(centres["y"].values))

    def random(self, *names: str | int) -> np.random.Generator:
        """Return a random stream for one purpose."""
        return np.random.default_rng(derive_key(self.seed, *names))

    def footprint(self, geobox: GeoBox) -> Geometry:
        """Return the part of a frame that sees the ground, in longitude and latitude."""
        seen: Geometry = geobox.footprint("EPSG:4326", npoints=40) & self.geobox.footprint("EPSG:4326", npoints=40)
        return seen
