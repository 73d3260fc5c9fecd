"""Places with known bare earth as samples: source, land cover as indicators, and the truth as far as it is known."""

import hashlib
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mapper.arrays import ByteArray, Float32Array
from mapper.cube.source import average_blocks
from mapper.errors import InputError
from mapper.evaluation.relief import COVER, UNKNOWN_COVER, Ground
from mapper.training.config import ElevationData
from mapper.training.height_rasters import Raster, burn_outlines, count_pixels, overlap, read_raster
from mapper.training.places import Place, PlaceConfig, find_places
from mapper.training.sample import Sample

TARGET, UNITS = "dtm", "m"
"""Band that is learnt, and its units."""
CHANNELS = COVER[1:]
"""Channels of land cover; all 0 is bare ground."""
_SOURCE_M = 30.0
_SCALES = ((3.0, 10), (10.0, 5), (np.inf, 3))
"""Largest pixel in metres, and the scale at which bare earth is coarsened."""
_BORDER_SOURCE_PX = 2
"""Rim that is not scored where the source is made of the truth: interpolation has no neighbours there."""


@dataclass(frozen=True, kw_only=True)
class _Source:
    """The coarse raster, and the pixels of the truth that it covers."""

    values: Float32Array
    scale: int
    fine: tuple[slice, slice]
    origin: str
    """Description for the card."""
    of_truth: bool = False
    """True where it is the block mean of the truth."""


def read_places(data: ElevationData) -> list[Sample]:
    """Read the places that are asked for, in the order of their names.

    Raises:
        InputError: If a place is not there, or its files do not fit together, or none has objects to be dropped.
    """
    places = choose_places(data)
    if not places:
        raise InputError(f"{data.folder} is left without a place: no objects are known that drop_objects could drop")
    return [read_place(place, data) for place in places]


def choose_places(data: ElevationData) -> list[Place]:
    """Find the places that are asked for; where objects are to be dropped, those with a mask of them."""
    return [place for place in find_places(data) if place.config.mask is not None or not data.drop_objects]


def read_place(place: Place, data: ElevationData) -> Sample:
    """Read one place, as many whole source pixels as there are.

    Raises:
        InputError: If its files cannot be read or do not fit together.
    """
    config = place.config
    roles = ("truth", "surface", "mask", "truth_distance", "source")
    rasters = {role: read_raster(path) for role in roles if (path := getattr(config, role)) is not None}
    truth = rasters["truth"]
    truth.check_grid([rasters[role] for role in ("surface", "mask", "truth_distance") if role in rasters])
    source = _find_source(rasters, config, data)
    heights = truth.band[source.fine]
    cover = _classify(rasters.get("mask"), config, truth.shape)[source.fine]
    guide = _show(_drop_objects(cover, data), config, data, truth, source.fine)
    scored = _choose_scored(heights, rasters, source, config, data)
    lost = f" -{100 * data.drop_objects:g} %" if data.drop_objects else ""
    dy_m, dx_m = truth.measure()
    edges = [np.arange(source.scale, length, source.scale) for length in heights.shape]
    return Sample(
        guide=guide,
        source=source.values,
        source_sd=np.full_like(source.values, np.nan),
        truth=scored,
        bands=tuple((name, "1") for name in CHANNELS),
        source_units=UNITS,
        target=TARGET,
        name=place.name + lost,
        degradation=source.origin,
        digest=hashlib.sha256(b"".join(part.tobytes() for part in (source.values, guide, scored))).hexdigest(),
        vertical_datum=_find_datum(rasters, config),
        place=place.ground,
        ground=Ground(
            dy_m=dy_m[source.fine[0]],
            dx_m=dx_m[source.fine[0]],
            heights=heights,
            cover=cover if (cover != UNKNOWN_COVER).any() else None,
            edges=(edges[0], edges[1]),
        ),
    )


def _find_source(rasters: dict[str, Raster], config: PlaceConfig, data: ElevationData) -> _Source:
    """Return the source that is there, or the block mean of the surface, or that of the truth."""
    truth, given = rasters["truth"], rasters.get("source")
    if given is not None:
        scale = count_pixels(truth, given)
        if scale < 2:
            raise InputError(f"{given.path} of {given.transform.a:g} is no whole multiple of {truth.transform.a:g}")
        fine, coarse = overlap(truth, given, scale)
        return _Source(values=given.band[coarse], scale=scale, fine=fine, origin=f"as delivered: {given.path.name}")
    pixel_m = float(np.mean(truth.measure()))
    scale = config.scale or data.scale or 0
    averaged = rasters.get("surface")
    if averaged is not None and not scale:
        scale = round(_SOURCE_M / pixel_m)
        if scale < 2 or abs(scale * pixel_m - _SOURCE_M) > 1e-3:
            scale, averaged = 0, None
    if not scale:
        scale = next(scale for largest, scale in _SCALES if pixel_m <= largest)
    averaged = averaged or truth
    rows, cols = (length // scale * scale for length in truth.shape)
    if not rows or not cols:
        raise InputError(f"{truth.path} has {truth.shape[1]} x {truth.shape[0]} px, no source pixel of {scale} px")
    fine = slice(0, rows), slice(0, cols)
    origin = f"block mean of the {'truth' if averaged is truth else 'surface'}, {scale} x {scale}"
    values = average_blocks(averaged.band[fine], scale)
    return _Source(values=values, scale=scale, fine=fine, origin=origin, of_truth=averaged is truth)


def _classify(mask: Raster | None, config: PlaceConfig, shape: tuple[int, int]) -> ByteArray:
    """Return the land cover of each pixel as an index in ``COVER``, or ``UNKNOWN_COVER``."""
    if mask is None:
        return np.full(shape, UNKNOWN_COVER, np.uint8)
    cover = np.where(np.isfinite(mask.band), 0, UNKNOWN_COVER).astype(np.uint8)
    classes = {str(name): codes for name, codes in config.classes.items()}
    for index, name in enumerate(CHANNELS, 1):
        cover[np.isin(mask.band, classes.get(name, ()))] = index
    return cover


def _drop_objects(cover: ByteArray, data: ElevationData) -> ByteArray:
    """Return land cover that lacks a share of its buildings and of its stands of trees, each a whole."""
    random = np.random.default_rng(data.seed)
    left = cover.copy()
    for code in (COVER.index("building"), COVER.index("tree")):
        parts, number = ndimage.label(cover == code)
        lost = 1 + random.permutation(number)[: round(data.drop_objects * number)]
        left[np.isin(parts, lost)] = COVER.index("bare")
    return left


def _show(
    cover: ByteArray, config: PlaceConfig, data: ElevationData, truth: Raster, fine: tuple[slice, slice]
) -> Float32Array:
    """Return an indicator for each channel (channel, y, x), NaN where land cover is not known."""
    codes = np.arange(1, len(COVER), dtype=np.uint8)[:, None, None]
    known = cover != UNKNOWN_COVER
    guide = np.where(known, (cover == codes).astype(np.float32), np.float32(np.nan))
    if data.outlines and config.mask is None and config.outlines is not None:
        guide[CHANNELS.index("building")] = burn_outlines(config.outlines, truth)[fine]
    return guide


def _choose_scored(
    heights: Float32Array, rasters: dict[str, Raster], source: _Source, config: PlaceConfig, data: ElevationData
) -> Float32Array:
    """Return heights that are scored: near a ground return, and off the border where that cannot be mapped."""
    border = config.border_source_px
    if border is None:
        border = _BORDER_SOURCE_PX if source.of_truth else 0
    scored = np.zeros(heights.shape, bool)
    rim = border * source.scale
    scored[rim : heights.shape[0] - rim, rim : heights.shape[1] - rim] = True
    if "truth_distance" in rasters:
        scored &= rasters["truth_distance"].band[source.fine] <= data.truth_within_m
    if not (scored & np.isfinite(heights)).any():
        raise InputError(
            f"{rasters['truth'].path} has no height that can be scored, {border} source pixels off its border"
        )
    return np.where(scored, heights, np.float32(np.nan))


def _find_datum(rasters: dict[str, Raster], config: PlaceConfig) -> str:
    """Return the vertical datum of truth and source; empty where nobody says.

    Raises:
        InputError: If the files of a place are said to differ in it.
    """
    said = {raster.vertical_datum for role in ("truth", "surface", "source") if (raster := rasters.get(role))} - {""}
    if config.vertical_datum:
        return config.vertical_datum
    if len(said) > 1:
        found = ", ".join(f"{r.path.name} {r.vertical_datum or 'unknown'}" for r in rasters.values())
        raise InputError(f"heights of {rasters['truth'].path.parent} differ in vertical datum: {found}")
    return next(iter(said), "")
