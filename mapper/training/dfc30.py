"""DFC30 as samples: cities of tiles with a surface of 30 m, bare earth, aerial image, land use and canopy height.

Layout as published: a folder for each city, in it a folder for each layer, tiles matched by the name of the file. All
layers of ``DFC30_3m`` and ``DFC30_8m`` lie on the grid of the truth, the surface interpolated to it: its block mean is
the source. X. Cai, M. D. Wilson: JSPSR: joint spatial propagation super-resolution networks for enhancement of
bare-earth digital elevation models from global data. Remote Sensing 17 (2025).
"""

import hashlib
from pathlib import Path

import numpy as np

from mapper.arrays import Float32Array
from mapper.cube.source import average_blocks
from mapper.errors import InputError
from mapper.evaluation.relief import Ground
from mapper.training.config import Dfc30Data
from mapper.training.elevation import TARGET, UNITS
from mapper.training.height_rasters import Raster, read_raster
from mapper.training.sample import Sample

TRUTH = "RGEALTI"
"""Layer of bare earth."""
_IMAGE, _LAND_USE, _CANOPY = "BDORTHO", "UA2012", "CHM"
_SOURCE_M = 30.0


def read_cities(data: Dfc30Data) -> list[Sample]:
    """Read all tiles of the cities that are asked for, by name of the city and of the tile.

    Raises:
        InputError: If a city or a layer is not there, or the layers of a tile do not fit together.
    """
    return [_read_tile(data, city, name) for city in find_cities(data) for name in _find_tiles(data, city)]


def find_cities(data: Dfc30Data) -> list[str]:
    """Return the names of the cities that are asked for: folders that hold the layer of the truth.

    Raises:
        InputError: If there is none, or one that is asked for is missing.
    """
    known = sorted(path.parent.name for path in data.folder.glob(f"*/{TRUTH}") if path.is_dir())
    missing = sorted({*(data.cities or ()), *data.leave_out} - set(known))
    if missing or not known:
        has = f"it has {', '.join(known)}" if known else f"expected folders CITY/{TRUTH}, for example in DFC30_3m"
        raise InputError(f"{data.folder} has no city {', '.join(missing)}; {has}")
    return [city for city in known if city in (data.cities or known) and city not in data.leave_out]


def _find_tiles(data: Dfc30Data, city: str) -> list[str]:
    """Return the names of the tiles of a city; a layer that lacks one is refused when the tile is read."""
    names = [
        path.name for path in sorted((data.folder / city / TRUTH).iterdir()) if path.suffix.lower() in (".tif", ".tiff")
    ]
    if not names:
        raise InputError(f"{data.folder / city / TRUTH} holds no tile: expected GeoTIFFs")
    return names


def _read_tile(data: Dfc30Data, city: str, name: str) -> Sample:
    truth = _read_layer(data, city, TRUTH, name)
    surface = _read_layer(data, city, data.surface, name)
    layers = [_read_layer(data, city, layer, name) for layer in data.layers]
    truth.check_grid([surface, *layers])
    pixel_m = float(np.mean(truth.measure()))
    scale = data.scale or max(round(_SOURCE_M / pixel_m), 2)
    rows, cols = (length // scale * scale for length in truth.shape)
    if not rows or not cols:
        raise InputError(f"{truth.path} has {truth.shape[1]} x {truth.shape[0]} px, no source pixel of {scale} px")
    source = average_blocks(surface.band[:rows, :cols], scale)
    parts = [_open_channels(layer, raster, data) for layer, raster in zip(data.layers, layers, strict=True)]
    guide = np.concatenate([values[:, :rows, :cols] for _, values in parts] or [np.empty((0, rows, cols), np.float32)])
    heights = np.ascontiguousarray(truth.band[:rows, :cols])
    dy_m, dx_m = truth.measure()
    edges = [np.arange(scale, length, scale) for length in heights.shape]
    return Sample(
        guide=guide,
        source=source,
        source_sd=np.full_like(source, np.nan),
        truth=heights,
        bands=tuple(band for bands, _ in parts for band in bands),
        source_units=UNITS,
        target=TARGET,
        name=f"{city}/{Path(name).stem}",
        degradation=f"{data.surface} as interpolated to the grid of the truth, block mean {scale} x {scale}",
        digest=hashlib.sha256(b"".join(part.tobytes() for part in (source, guide, heights))).hexdigest(),
        vertical_datum=truth.vertical_datum,
        place=city,
        ground=Ground(dy_m=dy_m[:rows], dx_m=dx_m[:rows], edges=(edges[0], edges[1])),
    )


def _read_layer(data: Dfc30Data, city: str, layer: str, name: str) -> Raster:
    path = data.folder / city / layer / name
    if not path.is_file():
        raise InputError(f"tile {name} of {city} is in {TRUTH} and not in {layer}: expected {path}")
    return read_raster(path)


def _open_channels(layer: str, raster: Raster, data: Dfc30Data) -> tuple[list[tuple[str, str]], Float32Array]:
    """Return names and units of the channels of a layer, and their values (channel, y, x)."""
    if layer == _IMAGE:
        if len(raster.values) < 3:
            raise InputError(f"{raster.path} has {len(raster.values)} bands, expected red, green and blue")
        return [(name, "1") for name in ("red", "green", "blue")], raster.values[:3] / np.float32(255)
    if layer == _CANOPY:
        return [("canopy_height", "m")], raster.values[:1]
    codes = raster.band
    unknown = sorted(set(np.unique(codes[np.isfinite(codes)]).tolist()) - set(data.classes))
    if unknown:
        raise InputError(
            f"{raster.path} has the codes {unknown[:8]} beside the classes {list(data.classes)}: name them all"
        )
    known = np.isfinite(codes)
    values = np.stack([np.where(known, codes == code, np.nan) for code in data.classes]).astype(np.float32)
    return [(f"land_use_{code}", "1") for code in data.classes], values
