"""Crops of Sentinel-2 at level 1C as samples of its 20 m bands, one scale coarser, where these are the truth.

A crop is an ``.npz`` with ``b10``, (4, y, x), and ``b20``, (6, y / 2, x / 2), digital numbers of 1/10000 in the order
of DSen2. Source is the mean of 2 x 2 pixels of 20 m, guide that of 2 x 2 pixels of 10 m,
truth the bands of 20 m: whoever learns from such a sample by Wald's protocol sees pixels of 40 m and larger alone.
"""

import hashlib
from pathlib import Path

import numpy as np

from mapper.arrays import Float32Array
from mapper.catalog.provider import CollectionRule, load_provider
from mapper.cube.source import average_blocks
from mapper.errors import InputError
from mapper.training.sample import Sample
from mapper.training.scene_config import Sentinel2BandsData
from mapper.training.transfer import Transfer

GUIDE = ("B04", "B03", "B02", "B08")
"""Bands of 10 m in the order of a crop."""
TARGETS = ("B05", "B06", "B07", "B8A", "B11", "B12")
"""Bands of 20 m in the order of a crop."""
SCALE = 2
_UNIT = np.float32(1e-4)
"""Reflectance of a digital number of 1."""


def read_band_crops(data: Sentinel2BandsData) -> list[Sample]:
    """Read the crops that are asked for, in the order of their names.

    Raises:
        InputError: If a crop is not there, or none is, or its arrays are not as described.
    """
    return [_read_crop(path, data) for path in find_band_crops(data)]


def find_band_crops(data: Sentinel2BandsData) -> list[Path]:
    """Find the files of the crops that are asked for.

    Raises:
        InputError: If one is not there, or none is.
    """
    found = {path.stem: path for path in sorted(data.folder.glob("*.npz"))}
    wanted = found if data.crops is None else data.crops
    missing = [name for name in (*(data.crops or ()), *data.leave_out) if name not in found]
    if missing or not found:
        lacks = f"no crop {', '.join(missing)}" if missing else "no crop, an .npz with b10 and b20"
        raise InputError(f"{data.folder} has {lacks}; it has {', '.join(found) or 'none'}")
    return [found[name] for name in wanted if name not in data.leave_out]


def describe_transfers() -> dict[str, Transfer]:
    """Return the transfer of the pixels of a crop by band: means of 2 x 2 pixels of what the catalogues declare."""
    rule: CollectionRule = load_provider("stac-api").rule("sentinel-2")
    splined = rule.resampled == "cubic-spline"
    return {band: Transfer(mtf=rule.mtf[band], splined=splined, block=SCALE) for band in (*GUIDE, *TARGETS)}


def _read_crop(path: Path, data: Sentinel2BandsData) -> Sample:
    try:
        content = path.read_bytes()
        with np.load(path, allow_pickle=False) as arrays:
            fine, coarse = np.asarray(arrays["b10"]), np.asarray(arrays["b20"])
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"crop {path} cannot be read: {error}; expected an .npz with b10 and b20") from error
    _check(path, fine.shape, coarse.shape)
    truth = _calibrate(coarse)
    rim = data.border_px
    scored = np.full_like(truth, np.nan)
    inside = (slice(None), *(slice(rim, edge - rim) for edge in truth.shape[1:]))
    scored[inside] = truth[inside]
    source = np.stack([average_blocks(band, SCALE) for band in truth])
    return Sample(
        guide=np.stack([average_blocks(band, SCALE) for band in _calibrate(fine)]),
        source=source,
        source_sd=np.full_like(source, np.nan),
        truth=scored,
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
