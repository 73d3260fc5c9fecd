"""Synthetic elevation as people have it: a folder of GeoTIFFs, described by the importer of rasters, and a map of it.

A surface model of 30 m that holds trees and buildings, land cover of 3 m, and the bare earth of 3 m that both were made
from. The terrain lies where the scenes of :mod:`mapper.synthetic.scenes` do.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from odc.geo.geobox import GeoBox

from mapper.catalog.importers.raster_layer import LayerRequest
from mapper.catalog.importers.rasters import ANY_DAY, RasterRequest, make_raster_catalog
from mapper.grid import Window
from mapper.spec import parse_spec
from mapper.synthetic.frames import write_cog
from mapper.synthetic.scenes import fit_box
from mapper.synthetic.terrain import CLASSES, make_terrain, observe

SURFACE, COVER, TRUTH = "surface", "cover", "truth"
"""Collections, and names of their files."""
_LOGGER = logging.getLogger(__name__)
_TARGET_M = 3
_SCALE = 10
_DATUM = "EPSG:3855"
_LAYERS = {
    SURFACE: LayerRequest(kind="elevation", units="m", vertical_datum=_DATUM, heights="surface"),
    COVER: LayerRequest(kind="classes", classes={name: (code,) for name, code in CLASSES.items()}),
    TRUTH: LayerRequest(kind="elevation", units="m", vertical_datum=_DATUM, heights="ground"),
}


def write_rasters(
    out_dir: Path, *, seed: int, size_px: int = 1024, tile_px: int = 512, chunk_px: int = 256, margin_px: int = 200
) -> Path:
    """Write the rasters of one terrain to ``rasters/``, a catalogue of them, and ``map.yaml``, all in one folder.

    Args:
        out_dir: Directory of the catalogue and its ``provider.yaml``; the others go to its parent.
        seed: Names the terrain.
        size_px: Edge of the mapped area in pixels of 3 m.
        tile_px: Tile edge of the map.
        chunk_px: Chunk edge of the map; divides ``tile_px``.
        margin_px: Least distance from the tiles of the map to the edges of the rasters, in pixels of 3 m.

    Returns:
        Path of ``catalog.json``.

    Raises:
        ValueError: If the map would be smaller than two source pixels.
        InputError: If the directory holds another catalogue.
    """
    out_dir = Path(out_dir)
    spec = describe_map(provider=f"{out_dir.name}/provider.yaml", size_px=size_px, tile_px=tile_px, chunk_px=chunk_px)
    grid = parse_spec(spec, base=out_dir.parent).map_grid
    rows, cols = grid.shape
    ground = grid.geobox_of(Window(top=0, left=0, bottom=rows, right=cols).grown(margin_px, _SCALE))
    _draw_terrain(out_dir.parent / "rasters", ground, seed=seed)
    for name, layer in _LAYERS.items():
        source = str(out_dir.parent / "rasters" / f"{name}.tif")
        made = make_raster_catalog(
            RasterRequest(source=source, out=out_dir, collection=name, layer=layer, licence="CC0-1.0")
        )
    (out_dir.parent / "map.yaml").write_text(yaml.safe_dump(spec, sort_keys=False, default_flow_style=None, width=110))
    _LOGGER.info("wrote terrain %d to %s", seed, out_dir.parent)
    return made.catalog


def describe_map(*, provider: str, size_px: int, tile_px: int = 512, chunk_px: int = 256) -> dict[str, Any]:
    """Return the description of a map of bare earth, as YAML holds it; paths refer to the folder of ``map.yaml``.

    Raises:
        ValueError: If the map would be smaller than two source pixels.
    """
    if size_px < 2 * _SCALE:
        raise ValueError(f"a map needs at least {2 * _SCALE} px, got {size_px} px")
    return {
        "preset": "elevation",
        "name": "demo",
        "area": {"bbox": fit_box(size_px, scale=_SCALE, px_m=_TARGET_M)},
        "period": {"start": str(ANY_DAY), "end": str(ANY_DAY)},
        "grid": {"kind": "projected", "crs": "EPSG:3035", "resolution": _TARGET_M, "tile": tile_px, "chunk": chunk_px},
        "catalog": {"provider": provider},
        "source": {"collection": SURFACE, "variable": "elevation", "resolution": _TARGET_M * _SCALE},
        "guide": {"layers": [{"collection": COVER, "bands": list(CLASSES), "static": True}]},
        "model": {"name": "bare-earth-x10-cover"},
        "store": "map.icechunk",
    }


def _draw_terrain(folder: Path, ground: GeoBox, *, seed: int) -> None:
    """Write surface, land cover and bare earth of the ground, cut from one square terrain."""
    rows, cols = ground.shape
    terrain = make_terrain(seed, size_px=max(rows, cols), px_m=_TARGET_M)
    coarse = ground.zoom_out(_SCALE)
    heights = observe(terrain, seed=seed, scale=_SCALE)[: coarse.shape.y, : coarse.shape.x]
    write_cog(folder / f"{SURFACE}.tif", heights, coarse, nodata=np.nan)
    write_cog(folder / f"{COVER}.tif", terrain.cover[:rows, :cols], ground, nodata=None)
    write_cog(folder / f"{TRUTH}.tif", terrain.ground[:rows, :cols], ground, nodata=np.nan)
