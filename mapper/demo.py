"""The main job from end to end on a synthetic region: scenes, search, plan, run, scores, pictures, provenance.

Everything is done with the same functions, in the same order, as for a MAP.yaml of one's own; only the scenes are made
first, and a truth is at hand that no model was shown. Demos of presets differ in their scenes alone.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mapper.cluster.open_executor import open_executor
from mapper.evaluation.overview import draw_overview
from mapper.evaluation.score_map import Comparison, find_truth, score_map
from mapper.events import Callback
from mapper.plan.job import Job, prepare_job
from mapper.run.report import RunReport
from mapper.run.runner import run_plan
from mapper.store.why import Answer, why
from mapper.synthetic.elevation import write_rasters
from mapper.synthetic.revisits import SHOWN, name_truth, write_revisits
from mapper.synthetic.scenes import write_scenes

Notify = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Region:
    """Synthetic region for the maps of one preset."""

    write: Callable[..., Path]
    """Writes a catalogue, and ``map.yaml`` beside its directory."""
    truth: tuple[str, ...]
    """Truths of bands in the catalogue, COLLECTION:BAND."""
    seed: int
    """Seed of a region that no model was trained on."""
    size_px: int = 1024
    """Edge of the mapped area in pixels of the map, where nobody says."""


REGIONS: Mapping[str, Region] = MappingProxyType(
    {
        "biomass": Region(write=write_scenes, truth=("truth:agb",), seed=7),
        "elevation": Region(write=write_rasters, truth=("truth:elevation",), seed=900),
        "sentinel2-multi": Region(
            write=write_revisits, truth=tuple(f"{name_truth(2)}:{band}" for band in SHOWN), seed=5000, size_px=192
        ),
        "sentinel2-generative": Region(
            write=partial(write_revisits, scale=4),
            truth=tuple(f"{name_truth(4)}:{band}" for band in SHOWN),
            seed=6000,
            size_px=128,
        ),
    }
)
"""Region of a demo by preset."""


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Choices of a demo: preset, size of the area, tiles, seed and workers.

    Raises:
        ValueError: If the tile is not a multiple of the chunk.
    """

    preset: str = "biomass"
    """Kind of map, of :data:`REGIONS`."""
    size_px: int | None = None
    """Edge of the mapped area in pixels of the map; None takes that of the preset."""
    tile_px: int = 512
    seed: int | None = None
    """Seed of the region; None takes that of the preset."""
    workers: int = 0
    """Worker processes; 0 computes in threads of this one."""


@dataclass(frozen=True, kw_only=True)
class DemoReport:
    """Outcome of a demo."""

    comparison: Comparison
    answer: Answer
    """Provenance of the pixel in the middle of the map."""
    run: RunReport
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall seconds by step."""

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON: scores per method, seconds per step and stage, tiles."""
        return {
            **self.comparison.to_dict(),
            "tiles": {"done": self.run.done, "empty": self.run.empty, "failed": self.run.failed},
            "seconds": {name: round(seconds, 2) for name, seconds in self.seconds.items()},
            "stage_seconds": {name: round(seconds, 2) for name, seconds in self.run.totals.seconds.items()},
            "run": self.run.to_dict(),
            "why": self.answer.to_dict(),
        }


class _Clock:
    """Wall seconds by step, told as they begin."""

    def __init__(self, notify: Notify) -> None:
        self.seconds: dict[str, float] = {}
        self._notify = notify

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self._notify(f"[bold]{name}[/bold]")
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start


def make_scenes(directory: Path, options: DemoOptions, *, notify: Notify) -> float:
    """Write ``catalog/`` and ``map.yaml``; returns wall seconds."""
    clock, region = _Clock(notify), REGIONS[options.preset]
    directory.mkdir(parents=True, exist_ok=True)
    with clock.step("scenes"):
        region.write(
            directory / "catalog",
            size_px=region.size_px if options.size_px is None else options.size_px,
            seed=region.seed if options.seed is None else options.seed,
            tile_px=options.tile_px,
            chunk_px=min(256, options.tile_px),
        )
    return clock.seconds["scenes"]


def run_demo(
    directory: Path, options: DemoOptions, *, notify: Notify, callbacks: tuple[Callback, ...] = ()
) -> DemoReport:
    """Map the scenes in a directory, score the map, draw it, and explain one pixel.

    Args:
        directory: Where :func:`make_scenes` wrote.
        options: What was made.
        notify: Told of each step.
        callbacks: Hear of every event of the run.

    Returns:
        The report, which is also written to ``report.json``.
    """
    clock = _Clock(notify)
    with clock.step("search and plan"):
        job = prepare_job(directory / "map.yaml", refresh=True)
        job.freeze()
    with clock.step("run"), open_executor("local" if options.workers else "threads", options.workers) as executor:
        run = run_plan(job.plan, job.context, job.spec.store, executor, callbacks=callbacks)
    with clock.step("scores"):
        truths = [find_truth(job.spec, name) for name in REGIONS[options.preset].truth]
        comparison = score_map(job.spec, job.items, *truths)
    with clock.step("overview"):
        draw_overview(job.spec, job.items, directory / "overview.png", truth=truths[0])
    report = DemoReport(comparison=comparison, answer=_ask_middle(job), run=run, seconds=clock.seconds)
    (directory / "report.json").write_text(json.dumps(report.to_dict(), indent=2, default=str))
    return report


def _ask_middle(job: Job) -> Answer:
    middle = job.spec.area.geometry.representative_point()
    return why(job.spec.store, middle.x, middle.y)
