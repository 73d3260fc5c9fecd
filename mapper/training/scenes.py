"""Scenes of published layouts as samples: their own dates, dates simulated from them, or coarser ones."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from mapper.errors import InputError
from mapper.synthetic.bursts import degrade
from mapper.training.bursts import sample_of_image, sample_of_scene
from mapper.training.image_stacks import read_stacks
from mapper.training.opensr_test import read_pairs
from mapper.training.probav import read_image_sets
from mapper.training.sample import Sample, cut_rim
from mapper.training.scene import Scene
from mapper.training.scene_config import SceneData, SimulationConfig
from mapper.training.scene_files import find_known
from mapper.training.sen2venus import read_patches
from mapper.training.spacenet7 import read_months
from mapper.training.stored_scenes import read_archives
from mapper.training.worldstrat import read_areas

Notify = Callable[[str], None]

_TOLD = 5
"""Reasons that are told; thousands of folders may lack the same."""

_READERS: Mapping[str, Callable[[Path, SceneData], list[Scene]]] = MappingProxyType(
    {
        "probav": lambda folder, _: read_image_sets(folder),
        "worldstrat": lambda folder, data: read_areas(folder, scale=data.scale),
        "sen2venus": lambda folder, _: read_patches(folder),
        "spacenet7": lambda folder, _: read_months(folder),
        "opensr-test": lambda folder, _: read_pairs(folder),
        "image-stacks": lambda folder, data: read_stacks(
            folder, value_range=data.value_range or 1, units=data.units or "1"
        ),
        "archives": lambda folder, data: read_archives(folder, value_range=data.value_range or 1),
    }
)


def read_scenes(data: SceneData, notify: Notify = lambda _: None) -> list[Sample]:
    """Read the places of a layout as samples, in its order; none where optional data are not there.

    Args:
        data: Which, and how.
        notify: Gets a line for what is left out: data that are not there, and, where no places are named, those without
            a truth, an anchor or an image.

    Raises:
        InputError: If a folder that has to be there is not, holds something else, lacks a place that is named, or no
            place of it can be used.
    """
    folder = data.path
    if folder is None or not folder.is_dir():
        reason = f"{data.label or data.subfolder or data.kind} is left out: "
        reason += "say with --data where its folder is" if folder is None else f"{folder} is not there"
        if not data.optional:
            raise InputError(f"{folder} is no folder, expected {data.kind} data")
        notify(reason)
        return []
    samples, lacking = [], []
    for scene in _choose(_READERS[data.kind](folder, data), data):
        try:
            samples.append(_to_sample(scene, data))
        except InputError as error:
            if data.places is not None:
                raise
            lacking.append(str(error))
    told = lacking[:_TOLD] + ([f"and {len(lacking) - _TOLD} more"] if len(lacking) > _TOLD else [])
    if not samples:
        raise InputError(f"{folder} has no {data.kind} place to use: {'; '.join(told) or 'all are left out'}")
    for reason in told:
        notify(f"left out: {reason}")
    return samples


def _choose(scenes: list[Scene], data: SceneData) -> list[Scene]:
    known = [scene.name for scene in scenes]
    unknown = [name for name in data.places or () if name not in known]
    if unknown:
        raise InputError(f"{data.path} has no place {', '.join(unknown)}: it has {', '.join(known)}")
    wanted = known if data.places is None else data.places
    return [scene for scene in scenes if scene.name in wanted and scene.name not in data.leave_out]


def _to_sample(scene: Scene, data: SceneData) -> Sample:
    if data.simulate:
        sample = _simulate(scene, data.simulate)
    else:
        sample = sample_of_scene(_coarsen(scene, data.coarser) if data.coarser else scene, dates=data.dates)
    psf = data.psf or sample.psf
    if psf and (psf.aperture_px > sample.scale or (psf.aperture_px - sample.scale) % 2):
        raise InputError(
            f"the psf of {data.kind} has an aperture_px of {psf.aperture_px}, expected {sample.scale} as the scale, "
            "or 2, 4 ... less"
        )
    return replace(
        sample,
        name=f"{scene.name} {data.label}".strip(),
        place=scene.place,
        truth=cut_rim(sample.truth, data.border_px),
        value_range=data.value_range or scene.value_range,
        psf=psf,
        seen_through=sample.psf,
    )


def _simulate(scene: Scene, settings: SimulationConfig) -> Sample:
    """Return simulated dates of the truth of a scene, or of one of its dates.

    Raises:
        InputError: If nothing says of which, or it has gaps.
    """
    image, number = scene.truth, len(scene.dates)
    if settings.image is not None or image is None:
        at = settings.image if settings.image is not None else scene.anchor if number > 1 else 0
        if at is None or not -number <= at < number:
            raise InputError(f"scene {scene.name} has {number} dates: say by `image` which to simulate from, got {at}")
        image = scene.dates[at]
    image = image[:, slice(*_check_rows(scene, image.shape[1], settings.rows))]
    rows, cols = (min(edge, settings.size_px or edge) // settings.scale * settings.scale for edge in image.shape[1:])
    image = np.ascontiguousarray(image[:, :rows, :cols])
    if not np.isfinite(image).all():
        raise InputError(f"scene {scene.name} has gaps in the image to simulate from: give one without")
    sample = sample_of_image(image, settings, seed=settings.seed, name=scene.name)
    return replace(sample, source_units=scene.units, target=",".join(scene.bands))


def _check_rows(scene: Scene, number: int, rows: tuple[int, int] | None) -> tuple[int, int]:
    """Return the rows that are taken of so many.

    Raises:
        InputError: If the image does not have them.
    """
    first, end = rows or (0, number)
    if not 0 <= first < end <= number:
        raise InputError(f"scene {scene.name} has {number} rows, got rows {first} to {end}")
    return first, end


def _coarsen(scene: Scene, by: int) -> Scene:
    """Return a scene with coarser dates, by the protocol of published tables, whose truth is the anchor as it was.

    Raises:
        InputError: If nobody says which date is the anchor.
    """
    if scene.anchor is None:
        raise InputError(f"scene {scene.name} lacks an anchor: say in anchors.json which date is to be the truth")
    rows, cols = (edge // by * by for edge in scene.dates.shape[2:])
    dates, clear = scene.dates[:, :, :rows, :cols], scene.clear[:, :rows, :cols]
    coarse = np.stack([degrade(date, by) for date in dates])
    whole = clear.reshape(len(dates), rows // by, by, cols // by, by).all((2, 4))
    return replace(
        scene,
        dates=coarse,
        clear=whole & find_known(coarse),
        truth=np.where(clear[scene.anchor], dates[scene.anchor], np.float32(np.nan)),
        scale=by,
        shift=None if scene.shift is None else scene.shift / by,
        buildings=None,
    )
