"""Samples of the 20 m bands of Sentinel-2: crops of level 1C one scale coarser, where they are the truth, or scenes.

A crop is an ``.npz`` with ``b10``, (4, y, x), and ``b20``, (6, y / 2, x / 2), digital numbers of 1/10000 in the order
of DSen2. Source is the mean of 2 x 2 pixels of 20 m, guide that of 2 x 2 pixels of 10 m,
truth the bands of 20 m: whoever learns from such a sample by Wald's protocol sees pixels of 40 m and larger alone.

A scene of no place is seen through the declared transfer of each band, in pixels of 10 and 20 m; its truth is what an
instrument of the same sharpness would see of the 20 m bands with pixels of 10 m.
"""

import hashlib
from pathlib import Path

import numpy as np

from mapper.arrays import Float32Array
from mapper.catalog.provider import CollectionRule, load_provider
from mapper.cube.source import average_blocks
from mapper.errors import InputError
from mapper.synthetic.reflectance import make_reflectance
from mapper.training.sample import Sample, cut_rim
from mapper.training.scene_config import Sentinel2BandsData
from mapper.training.transfer import Transfer, carry_over

GUIDE = ("B04", "B03", "B02", "B08")
"""Bands of 10 m in the order of a crop."""
TARGETS = ("B05", "B06", "B07", "B8A", "B11", "B12")
"""Bands of 20 m in the order of a crop."""
SCALE = 2
_UNIT = np.float32(1e-4)
"""Reflectance of a digital number of 1."""
_PIXEL = Transfer(mtf=2 / np.pi)
"""Transfer of the pixels of a scene of no place, which are means of what it was drawn with."""


def read_band_crops(data: Sentinel2BandsData) -> list[Sample]:
    """Read the crops that are asked for, in the order of their names, or simulate the scenes of the seeds.

    Raises:
        InputError: If a crop is not there, or none is, or its arrays are not as described.
    """
    if data.seeds:
        return [_simulate(seed, data) for seed in data.seeds]
    return [_read_crop(path, data) for path in find_band_crops(data)]


def find_band_crops(data: Sentinel2BandsData) -> list[Path]:
    """Find the files of the crops that are asked for.

    Raises:
        InputError: If one is not there, or none is.
    """
    found = {} if data.folder is None else {path.stem: path for path in sorted(data.folder.glob("*.npz"))}
    wanted = found if data.crops is None else data.crops
    missing = [name for name in (*(data.crops or ()), *data.leave_out) if name not in found]
    if missing or not found:
        lacks = f"no crop {', '.join(missing)}" if missing else "no crop, an .npz with b10 and b20"
        raise InputError(f"{data.folder} has {lacks}; it has {', '.join(found) or 'none'}")
    return [found[name] for name in wanted if name not in data.leave_out]


def describe_transfers(block: int = SCALE) -> dict[str, Transfer]:
    """Return the transfer of pixels by band: means of ``block`` x ``block`` pixels of what the catalogues declare."""
    rule: CollectionRule = load_provider("stac-api").rule("sentinel-2")
    splined = rule.resampled == "cubic-spline"
    return {band: Transfer(mtf=rule.mtf[band], splined=splined, block=block) for band in (*GUIDE, *TARGETS)}


def _simulate(seed: int, data: Sentinel2BandsData) -> Sample:
    """Return a scene of no place as a sample, its bands in the order of a crop."""
    size, step = data.size_px * SCALE, SCALE * data.block
    fine = make_reflectance(seed, size_px=size, bands=(*GUIDE, *TARGETS))
    transfers, random = describe_transfers(data.block), np.random.default_rng([seed, 19])
    seen = {
        band: carry_over(image, have=_PIXEL, want=transfers[band], scale=step * (SCALE if band in TARGETS else 1))
        for band, image in zip((*GUIDE, *TARGETS), fine, strict=True)
    }
    noise = np.float32(random.uniform(*data.noise))
    seen = {band: image + noise * random.standard_normal(image.shape, np.float32) for band, image in seen.items()}
    truth = np.stack(
        [
            carry_over(image, have=_PIXEL, want=transfers[band].finer(SCALE), scale=step)
            for band, image in zip(TARGETS, fine[len(GUIDE) :], strict=True)
        ]
    )
    source = np.stack([seen[band] for band in TARGETS])
    return Sample(
        guide=np.stack([seen[band] for band in GUIDE]),
        source=source,
        source_sd=np.full_like(source, np.nan),
        truth=cut_rim(truth, data.border_px),
        bands=tuple((band, "1") for band in GUIDE),
        source_units="1",
        target=",".join(TARGETS),
        transfer=transfers,
        name=f"scene {seed}, blocks of {data.block}",
        degradation="simulated: each band through the transfer of its instrument, with noise",
        digest=hashlib.sha256(truth.tobytes() + source.tobytes()).hexdigest(),
        place=f"scene {seed}",
    )


def _read_crop(path: Path, data: Sentinel2BandsData) -> Sample:
    try:
        content = path.read_bytes()
        with np.load(path, allow_pickle=False) as arrays:
            fine, coarse = np.asarray(arrays["b10"]), np.asarray(arrays["b20"])
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"crop {path} cannot be read: {error}; expected an .npz with b10 and b20") from error
    _check(path, fine.shape, coarse.shape)
    truth = _calibrate(coarse)
    source = np.stack([average_blocks(band, SCALE) for band in truth])
    return Sample(
        guide=np.stack([average_blocks(band, SCALE) for band in _calibrate(fine)]),
        source=source,
        source_sd=np.full_like(source, np.nan),
        truth=cut_rim(truth, data.border_px),
        bands=tuple((band, "1") for band in GUIDE),
        source_units="1",
        target=",".join(TARGETS),
        transfer=describe_transfers(),
        name=path.stem,
        degradation="mean of 2 x 2 pixels of 20 m",
        digest=hashlib.sha256(content).hexdigest(),
        place=path.stem,
    )


def _check(path: Path, fine: tuple[int, ...], coarse: tuple[int, ...]) -> None:
    """Check that the bands nest, in whole larger pixels."""
    rows, cols = coarse[-2:] if len(coarse) == 3 else (0, 0)
    whole = rows > 0 and cols > 0 and not rows % SCALE and not cols % SCALE
    if not whole or coarse[0] != len(TARGETS) or fine != (len(GUIDE), SCALE * rows, SCALE * cols):
        raise InputError(
            f"crop {path} has b10 {fine} and b20 {coarse}, expected ({len(GUIDE)}, 2 y, 2 x) and "
            f"({len(TARGETS)}, y, x) with y and x even"
        )


def _calibrate(numbers: np.ndarray) -> Float32Array:
    """Return reflectance, NaN where the number is 0: no data."""
    values = numbers.astype(np.float32)
    return np.where(values > 0, values * _UNIT, np.float32(np.nan)).astype(np.float32)
