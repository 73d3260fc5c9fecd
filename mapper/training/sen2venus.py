"""SEN2VENUS as scenes: patches of Sentinel-2 at 10 or 20 m with VENUS of the same day at 5 m.

J. Michel and others: SEN2VENµS, a dataset for the training of Sentinel-2 super-resolution algorithms. Data 7 (2022).
Its first version holds tensors in files ``SITE_TILE_DATE_10m_b2b3b4b8.pt``, which are pickles: reading one runs what is
in it, so they are refused. As GeoTIFFs the names are the same, one patch or mosaic a file::

    SITE/SITE_C_32ULU_2019-02-17_10m_b2b3b4b8.tif    SITE/SITE_C_32ULU_2019-02-17_05m_b2b3b4b8.tif
    SITE/SITE_C_32ULU_2019-02-17_20m_b5b6b7b8a.tif   SITE/SITE_C_32ULU_2019-02-17_05m_b5b6b7b8a.tif

Numbers are reflectance x 10000, -10000 where missing. There is one date, and it is the anchor.
"""

import re
from pathlib import Path

import numpy as np

from mapper.errors import InputError
from mapper.training.scene import Scene
from mapper.training.scene_files import find_known, read_image

_COARSE = re.compile(r"_(?P<px>10|20)m_(?P<bands>(?:b\d+a?)+)(?P<patch>.*)\.tiff?$")
_BAND = re.compile(r"b(\d+)(a?)")
_FINE_M = 5
_SCALE, _FILL = np.float32(1e-4), -10000.0


def read_patches(folder: Path) -> list[Scene]:
    """Read all patches of a folder and those in it, by name.

    Raises:
        InputError: If there is none, only pickles are there, or a pair does not fit together.
    """
    paths = [path for path in sorted(folder.rglob("*.tif*")) if _COARSE.search(path.name)]
    if not paths:
        pickled = next(iter(sorted(folder.rglob("*.pt"))), None)
        if pickled:
            raise InputError(f"{pickled} is a pickle, which runs what is in it: convert the tensors to GeoTIFFs first")
        raise InputError(f"{folder} holds no *_10m_b2b3b4b8.tif or *_20m_b5b6b7b8a.tif, as SEN2VENUS names patches")
    return [_read_patch(path) for path in paths]


def _read_patch(path: Path) -> Scene:
    named = _COARSE.search(path.name)
    px, stored_bands = (int(named["px"]), named["bands"]) if named else (0, "")
    bands = tuple(f"B{int(number):02d}" if not end else f"B{number}A" for number, end in _BAND.findall(stored_bands))
    beside = path.with_name(path.name.replace(f"_{px}m_", f"_{_FINE_M:02d}m_"))
    if not beside.is_file():
        raise InputError(f"{path} has no truth beside it: expected {beside.name}")
    image, truth, scale = read_image(path, fill=_FILL), read_image(beside, fill=_FILL), px // _FINE_M
    for each, by in ((image, 1), (truth, scale)):
        expected = (len(bands), image.shape[0] * by, image.shape[1] * by)
        if each.values.shape != expected:
            raise InputError(f"{each.path} has (band, y, x) {each.values.shape}, expected {expected}")
    dates = image.values[None] * _SCALE
    return Scene(
        name=path.stem,
        dates=dates,
        clear=find_known(dates),
        days=np.zeros(1, np.float32),
        anchor=0,
        truth=truth.values * _SCALE,
        scale=scale,
        bands=bands,
        units="1",
        value_range=1.0,
        place=path.parent.name,
    )
