"""Synthetic terrains as samples: bare earth, what a map or a radar sees of the surface, and land cover."""

import hashlib

import numpy as np

from mapper.evaluation.relief import COVER, Ground
from mapper.synthetic.terrain import CLASSES, make_terrain, observe, spoil_cover
from mapper.training.config import TerrainData
from mapper.training.elevation import CHANNELS, TARGET, UNITS
from mapper.training.sample import Sample


def read_terrains(data: TerrainData) -> list[Sample]:
    """Make the terrains of the seeds, in their order, cut to whole source pixels."""
    return [_make(data, seed) for seed in data.seeds]


def _make(data: TerrainData, seed: int) -> Sample:
    size_px = max(data.size_px // data.scale, 1) * data.scale
    terrain = make_terrain(seed, size_px=size_px, px_m=data.px_m, relief_m=data.relief_m)
    source = observe(terrain, seed=seed, scale=data.scale, radar=data.radar)
    shown = spoil_cover(
        terrain,
        seed=seed,
        lost=data.drop_objects,
        frayed=data.frayed,
        shift_px=data.misplaced_px,
        cover_m=data.cover_m,
    )
    guide = np.stack([shown.cover == CLASSES[name] for name in CHANNELS]).astype(np.float32)
    code = np.zeros(256, np.uint8)
    for name, stored in CLASSES.items():
        code[stored] = COVER.index(name)
    edge_m = np.full(size_px, data.px_m)
    edges = np.arange(data.scale, size_px, data.scale)
    return Sample(
        guide=guide,
        source=source,
        source_sd=np.full_like(source, np.nan),
        truth=terrain.ground,
        bands=tuple((name, "1") for name in CHANNELS),
        source_units=UNITS,
        target=TARGET,
        name=f"terrain {seed}" + (f" -{100 * data.drop_objects:g} %" if data.drop_objects else ""),
        degradation=f"{'X-band radar' if data.radar else 'block mean of the surface'}, {data.scale} x {data.scale}",
        digest=hashlib.sha256(b"".join(part.tobytes() for part in (source, guide, terrain.ground))).hexdigest(),
        place=f"terrain {seed}",
        ground=Ground(dy_m=edge_m, dx_m=edge_m, cover=code[terrain.cover], edges=(edges, edges)),
    )
