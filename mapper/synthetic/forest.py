"""Forest: stands of one age and species, patches of stocking within them, crowns, gaps and skid trails.

Stands are about 200 m wide, patches 70 m, crown clumps 10-25 m: most of the variance of biomass lies within 100 m.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mapper.arrays import Float32Array
from mapper.noise import derive_key
from mapper.synthetic.noise import Cells, Raster, cut_cells, smooth_noise
from mapper.synthetic.surface import smooth_step

_AGES = ([0.0, 0.11, 0.34, 0.80, 1.0], [0.0, 6.0, 36.0, 95.0, 150.0])
"""Distribution of stand ages: probability, years."""
_CONIFER = (300.0, 0.033)
_BROADLEAF = (340.0, 0.028)
"""Growth: biomass of an old full stand (Mg ha-1), rate (1 / year)."""
_LARGEST = 450.0
"""Biomass of the largest crown, Mg ha-1."""


@dataclass(frozen=True, kw_only=True)
class Stands:
    """Mosaic of stands and patches, in forest or not."""

    stands: Cells
    patches: Cells


@dataclass(frozen=True, kw_only=True)
class Trees:
    """Trees on every pixel, as if all were forest; arrays float32 (y, x)."""

    biomass: Float32Array
    """(y, x) biomass, Mg ha-1."""
    leaves: Float32Array
    """(y, x) fraction of the ground that is hidden by leaves."""
    height: Float32Array
    """(y, x) height of the trees themselves, metres."""
    conifer: npt.NDArray[np.bool_]
    vigour: Float32Array
    bare: Float32Array
    """(y, x) bare or slash-covered fraction of the ground between the trees."""


def cut_stands(seed: int, at: Raster) -> Stands:
    """Cut the plane into stands and patches."""
    return Stands(
        stands=cut_cells(derive_key(seed, "stands"), at, 210, warp_m=22, warp_grain_m=70),
        patches=cut_cells(derive_key(seed, "patches"), at, 72, warp_m=9, warp_grain_m=24),
    )


def grow_trees(seed: int, at: Raster, mosaic: Stands, *, relief: Float32Array) -> Trees:
    """Grow trees everywhere.

    Args:
        seed: Of the landscape.
        at: Pixel centres.
        mosaic: Stands and patches at the same pixels.
        relief: Standardised elevation; conifers like it high.
    """
    stands, patches = mosaic.stands, mosaic.patches
    age = np.interp(stands.draw("age"), *_AGES).astype(np.float32)
    age *= 0.85 + 0.3 * patches.draw("age")
    conifer = _choose_species(stands, patches, relief)
    site = np.exp(0.30 * smooth_noise(derive_key(seed, "site"), at, 800) - 0.05).astype(np.float32)
    grown, maturity = _grow(age, conifer, site)
    canopy = _close_canopy(seed, at, mosaic, age)
    vitality = np.exp(0.16 * smooth_noise(derive_key(seed, "vitality"), at, 11) - 0.01)
    # What no sensor sees: how densely the wood stands under a closed canopy. Only the coarse map knows, on average.
    vitality *= (0.66 + 0.68 * stands.draw("vitality")) * (0.84 + 0.32 * patches.draw("vitality"))
    crown = grown * vitality
    crown /= (1 + (crown / _LARGEST) ** 4) ** 0.25
    height = (
        31 * maturity**0.55 * site**0.3 * (0.72 + 0.36 * stands.draw("form") + 0.20 * patches.draw("form"))
    ).astype(np.float32)
    bare = np.interp(age, [0, 2, 7], [0.85, 0.6, 0.1]).astype(np.float32) + np.float32(0.25) * conifer
    return Trees(
        biomass=crown * canopy,
        leaves=canopy * (1 - np.exp(-crown / 24)),
        height=height,
        conifer=conifer,
        vigour=0.34 * (stands.draw("vigour") - 0.5)
        + 0.14 * (patches.draw("vigour") - 0.5)
        + 0.05 * smooth_noise(derive_key(seed, "leaf"), at, 14),
        bare=np.clip(bare, 0, 0.9),
    )


def _choose_species(stands: Cells, patches: Cells, relief: Float32Array) -> npt.NDArray[np.bool_]:
    """Return True for conifers: pure stands of either kind, and mixed ones that change from patch to patch."""
    score = stands.draw("species") - 0.12 * np.tanh(relief)
    share = np.where(score < 0.42, 0.96, np.where(score < 0.62, 0.5, 0.05))
    choice: npt.NDArray[np.bool_] = patches.draw("species") < share
    return choice


def _grow(age: Float32Array, conifer: npt.NDArray[np.bool_], site: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Return the biomass of full crowns (Mg ha-1), and its share of the largest (0-1)."""
    largest = np.where(conifer, np.float32(_CONIFER[0]), np.float32(_BROADLEAF[0])) * site
    rate = np.where(conifer, np.float32(_CONIFER[1]), np.float32(_BROADLEAF[1]))
    maturity = ((1 - np.exp(-rate * age)) ** 2.1).astype(np.float32)
    return (largest * maturity).astype(np.float32), maturity


def _close_canopy(seed: int, at: Raster, mosaic: Stands, age: Float32Array) -> Float32Array:
    """Return canopy closure (0-1): stocking of the patch, gaps between crowns, skid trails."""
    draw = mosaic.patches.draw("stock")
    density = mosaic.stands.draw("stock")
    # Quantile of the crown noise above which there is no tree: 2 closes the canopy, -1.2 leaves single trees.
    level = np.where(draw < 0.08, -1.2, np.where(draw < 0.30, 0.6, 1.7)) + 0.8 * (density - 0.5)
    crowns = 0.75 * smooth_noise(derive_key(seed, "clumps"), at, 16)
    crowns += 0.66 * smooth_noise(derive_key(seed, "crowns"), at, 6)
    canopy = smooth_step((crowns + level).astype(np.float32), -0.7, 0.7)
    canopy *= np.where(_on_skid_trail(at, mosaic.stands) & (age > 25), np.float32(0.2), np.float32(1))
    return canopy


def _on_skid_trail(at: Raster, stands: Cells) -> npt.NDArray[np.bool_]:
    """Return True on parallel lanes through half of the stands, every 45 to 80 m."""
    angle = np.pi * stands.draw("lanes")
    spacing = 45 + 35 * stands.draw("spacing")
    east = (at.east - np.floor(at.east[0] / 1e5) * 1e5)[None, :]
    north = (at.north - np.floor(at.north[-1] / 1e5) * 1e5)[:, None]
    across = (east * np.cos(angle) + north * np.sin(angle)) / spacing
    inside: npt.NDArray[np.bool_] = ((across - np.floor(across)) * spacing < 6) & (stands.draw("logged") < 0.5)
    return inside
