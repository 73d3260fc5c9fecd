"""Fit a network to samples, on a CPU, a GPU or several.

Normalisation is measured on what is trained on and fixed. The weights that are saved are a running mean over the last
steps, buffers included. On a CPU, the same description gives the same weights to the bit, however often it was
interrupted.
"""

import copy
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mapper.errors import MapperError
from mapper.models.model import TrainedModel
from mapper.models.weights import save_model
from mapper.synthetic.bursts import PROTOCOL_SD
from mapper.training.checkpoint import Checkpoint, RunFolder
from mapper.training.config import TrainConfig
from mapper.training.curves import Row, write_curves
from mapper.training.distributed import Ranks
from mapper.training.initial_model import choose_options, make_model
from mapper.training.losses import Objective, Patches, members_of, unit_of
from mapper.training.registered_loss import Radiometry
from mapper.training.sample import Sample
from mapper.training.sampler import PatchSampler, measure
from mapper.training.scene_config import PsfConfig

_WARM_UP = 0.05
_LAST_RATE = 0.01
_ROWS = 200
"""Points of a curve, about."""
_MIN_INTERVAL_S = 30.0
"""Seconds between two pictures of the curves."""
_AHEAD = 4
"""Batches that are drawn while a GPU computes."""

Validate = Callable[[TrainedModel], float]
"""RMSE of a model on the validation sites, in target units."""
Watch = Callable[[Row], None]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A trained model, on the CPU, and how it went."""

    model: TrainedModel
    rows: tuple[Row, ...]
    seconds: float
    """Seconds of computing, interruptions left out."""


def fit(
    samples: Sequence[Sample],
    config: TrainConfig,
    *,
    run: RunFolder | None = None,
    ranks: Ranks | None = None,
    validate: Validate | None = None,
    watch: Watch | None = None,
    bicubic: float | None = None,
) -> Fitted:
    """Train a model on samples, from where its run folder stands.

    Args:
        samples: Samples of one scale and one set of channels.
        config: Description of the training.
        run: Gets checkpoints; None saves nothing.
        ranks: The processes that share the work; None is this one.
        validate: Called in the first process every so often, with the running mean.
        watch: Gets every point of the curves, in the first process.
        bicubic: RMSE of bicubic interpolation on the validation sites, for the curves.

    Raises:
        InputError: If samples do not belong together, or network and loss do not.
        MapperError: If the loss is no longer finite.
    """
    ranks = ranks or Ranks(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    with _own_random_state(ranks.device), torch.backends.cudnn.flags(enabled=True, benchmark=True):
        fitting = _Fitting(samples, config, ranks)
        saved = run.load() if run else None
        if saved:
            fitting.restore(saved)
        for patches in fitting.patches():
            fitting.advance(patches)
            row = fitting.report(validate)
            if row and ranks.is_first and watch:
                watch(row)
            if run and ranks.is_first:
                _save(fitting, run, bicubic)
        return Fitted(model=fitting.averaged.cpu().eval(), rows=tuple(fitting.rows), seconds=fitting.seconds)


def _save(fitting: "_Fitting", run: RunFolder, bicubic: float | None) -> None:
    """Write the best weights yet, and what it takes to go on, when it is time."""
    if fitting.is_best:
        row = asdict(fitting.rows[-1])
        save_model(fitting.averaged, run.path / "best.safetensors", options=fitting.options, training=row)
    if fitting.is_due(fitting.config.checkpoint_every):
        run.save(fitting.checkpoint())
        write_curves(
            fitting.rows,
            run.path / fitting.config.name,
            bicubic=bicubic,
            units=fitting.model.contract.target_units,
            min_interval_s=0 if fitting.step == fitting.config.steps else _MIN_INTERVAL_S,
        )


class _Fitting:
    """A training under way."""

    def __init__(self, samples: Sequence[Sample], config: TrainConfig, ranks: Ranks) -> None:
        self.config, self.ranks = config, ranks
        self.options = choose_options(config, samples[0])
        self.model = make_model(samples, config).to(ranks.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.averaged = copy.deepcopy(self.model).eval()
        bf16 = _takes_bf16(config, ranks.device)
        self._objective = Objective(
            self.model,
            loss=config.loss,
            rim_source_px=config.margin_source_px,
            bf16=bf16,
            radiometry=_measure_radiometry(samples),
        ).to(ranks.device)
        self._parallel = ranks.wrap(self._objective)
        self._optimizer = _make_optimizer(self._objective, config)
        if not config.model.guide:
            samples = [replace(sample, guide=sample.guide[:0], bands=(), dates=1) for sample in samples]
        self._sampler = PatchSampler(
            samples,
            patch_px=config.patch_px,
            step=self.model.contract.step(samples[0].scale),
            augment=config.augment,
            bands=self.model.contract.guide,
            source_sd=unit_of(self.model.contract),
            seed=config.seed,
        )
        self.step = 0
        self.rows: list[Row] = []
        self._loss = torch.zeros(2, dtype=torch.float64, device=ranks.device)
        self._before, self._start = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._start

    @property
    def is_best(self) -> bool:
        """True where the running mean was validated at this step, and never was better."""
        seen = [(row.rmse, row.step) for row in self.rows if row.rmse is not None]
        return bool(seen) and min(seen)[1] == self.step

    def is_due(self, every: int) -> bool:
        """Return whether something that is done every so many steps, and at the end, is due."""
        return self.step % every == 0 or self.step == self.config.steps

    def patches(self) -> Iterator[Patches]:
        """Yield the patches of the steps that are left."""
        steps = range(self.step, self.config.steps)
        return _look_ahead(self._draw, steps, _AHEAD if self.ranks.device.type == "cuda" else 0)

    def _draw(self, step: int) -> Patches:
        slots, members = self.ranks.share(self.config.batch), range(len(members_of(self.model)))
        batches = [self._sampler.draw(step, slots, member=member) for member in members]
        names = Patches._fields
        return Patches(*(torch.from_numpy(np.stack([getattr(batch, name) for batch in batches])) for name in names))

    def advance(self, patches: Patches) -> None:
        """Take one step."""
        torch.manual_seed(_seed_of(self.config.seed, self.ranks.rank, self.step))
        rate = self.config.lr * _rate(self.step, self.config.steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        patches = Patches(*(array.to(self.ranks.device, non_blocking=True) for array in patches))
        pixels = self.ranks.sum(self._objective.count(patches)).clamp(min=1)
        losses = self._parallel(patches) / pixels
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(losses.sum() * self.ranks.world)  # processes' gradients are averaged, not summed
        for part in (*members_of(self.model), *self._objective.learned):
            nn.utils.clip_grad_norm_(part.parameters(), self.config.clip)
        self._optimizer.step()
        _follow(self.averaged, self.model, min(self.config.ema, (1 + self.step) / (10 + self.step)))
        self._loss += torch.stack([losses.detach().mean().double(), torch.ones_like(self._loss[0])])
        self.step += 1

    def report(self, validate: Validate | None) -> Row | None:
        """Return a point of the curves, if one is due.

        Raises:
            MapperError: If the loss is no longer finite.
        """
        validates = validate is not None and self.is_due(self.config.validate_every)
        dues = max(1, self.config.steps // _ROWS), self.config.checkpoint_every
        if not validates and not any(map(self.is_due, dues)):
            return None
        total, _ = self.ranks.sum(self._loss).tolist()
        loss = total / float(self._loss[1])
        self._loss.zero_()
        if not math.isfinite(loss):
            raise MapperError(
                f"training {self.config.name} diverged before step {self.step}: choose a smaller lr or clip"
            )
        rmse = validate(self.averaged) if validate and validates and self.ranks.is_first else None
        rate = float(self._optimizer.param_groups[0]["lr"])
        self.rows.append(Row(step=self.step, loss=loss, rate=rate, rmse=rmse))
        return self.rows[-1]

    def checkpoint(self) -> Checkpoint:
        """Return all that decides how it resumes."""
        tensors = {
            **{f"model.{name}": value for name, value in self.model.network.state_dict().items()},
            **{f"kept.{name}": value for name, value in self.averaged.network.state_dict().items()},
            **{f"loss.{name}": value for name, value in self._objective.learned.state_dict().items()},
        }
        for index, moments in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
        progress = {
            "rows": [asdict(row) for row in self.rows],
            "loss": self._loss.tolist(),
            "seconds": round(self.seconds, 3),
        }
        return Checkpoint(step=self.step, tensors=tensors, progress=progress)

    def restore(self, saved: Checkpoint) -> None:
        """Restore the state of a checkpoint."""
        parts = {"model.": self.model.network, "kept.": self.averaged.network, "loss.": self._objective.learned}
        for prefix, part in parts.items():
            part.load_state_dict(_strip(saved.tensors, prefix))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _strip(saved.tensors, "optimizer.").items():
            index, _, what = name.partition(".")
            moments.setdefault(int(index), {})[what] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.step = saved.step
        self.rows = [Row(**row) for row in saved.progress["rows"]]
        self._loss = torch.tensor(saved.progress["loss"], dtype=torch.float64, device=self.ranks.device)
        self._before = saved.progress["seconds"]


def _measure_radiometry(samples: Sequence[Sample]) -> Radiometry:
    """Return level, spread and sensor of samples; the modulation is the mean over those that are stacks of dates."""
    mean, unit = measure([sample.source for sample in samples])
    published = PsfConfig(sd=PROTOCOL_SD, aperture_px=2 - samples[0].scale % 2)
    seen = [sample.psf or published for sample in samples if sample.psf or sample.stack]
    mtf = sum(psf.modulation(samples[0].scale) for psf in seen) / len(seen) if seen else None
    return Radiometry(bands=len(samples[0].targets), mean=mean, unit=unit or 1.0, mtf=mtf)


def _make_optimizer(objective: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return AdamW that draws only the weights of layers towards 0, not biases or slopes."""
    parameters = list(objective.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr)


def _takes_bf16(config: TrainConfig, device: torch.device) -> bool:
    if config.precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return config.precision == "bf16"


def _rate(step: int, steps: int) -> float:
    """Return the share of the learning rate: a short rise, then half a cosine."""
    rise = max(1, round(_WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    progress = (step - rise) / max(1, steps - rise)
    return _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def _follow(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, current in zip(averaged.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(current, 1 - decay)
        else:
            mean.copy_(current)


def _look_ahead(draw: Callable[[int], Patches], steps: range, ahead: int) -> Iterator[Patches]:
    """Draw in the order of steps, some in advance and beside other work."""
    if not ahead:
        yield from map(draw, steps)
        return
    with ThreadPoolExecutor(ahead) as pool:
        waiting = deque(pool.submit(draw, step) for step in steps[:ahead])
        for step in steps:
            patches = waiting.popleft().result()
            if step + ahead < steps.stop:
                waiting.append(pool.submit(draw, step + ahead))
            yield patches


def _seed_of(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@contextmanager
def _own_random_state(device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _strip(tensors: Any, prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
