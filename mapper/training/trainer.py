"""A training from its description to weights with their card: read sites, fit, validate, calibrate, save."""

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mapper.errors import InputError, WeightsError
from mapper.evaluation.score import Score, pool, rounded
from mapper.models.card import Card, read_card
from mapper.models.model import Model, TrainedModel
from mapper.models.stack_model import adapt
from mapper.models.weights import load_model, save_model
from mapper.predict.predictor import Estimate, Predictor
from mapper.predict.sampler import Sampler
from mapper.spec import ModelSpec
from mapper.training.checkpoint import RunFolder
from mapper.training.config import TrainConfig
from mapper.training.datasets import read_samples
from mapper.training.distributed import Ranks, connect
from mapper.training.fitting import Fitted, Watch, fit
from mapper.training.initial_model import choose_options
from mapper.training.sample import Sample
from mapper.training.sampler import pad_sample, pad_stack
from mapper.training.scoring import calibrate, describe_coverage, score
from mapper.training.split import hold_out

_UNDECISIVE = {"name", "out", "data", "validation", "threads", "validate_every", "checkpoint_every"}
"""Keys of a description that may change while a training is under way; sites count by what was read of them."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Samples:
    """Samples to learn from, and those to validate and calibrate on."""

    learnt: list[Sample]
    scored: list[Sample]

    def describe(self) -> dict[str, dict[str, str]]:
        """Return what was read of each site, for the run folder."""
        parts = {"learnt": self.learnt, "scored": self.scored}
        return {
            part: {f"{index} {sample.name}": _fingerprint(sample) for index, sample in enumerate(samples)}
            for part, samples in parts.items()
        }


def train(
    config: TrainConfig,
    *,
    samples: Sequence[Sample] | None = None,
    validation: Sequence[Sample] | None = None,
    notify: Callable[[str], None] | None = None,
    watch: Watch | None = None,
    command: str = "",
) -> Card:
    """Train a model and write ``<name>.safetensors`` and ``<name>.json``; goes on where it was interrupted.

    A training that is finished is not repeated unless its description has changed, and then stays under another name;
    one that is under way does not go on with a changed description.

    Args:
        config: Description of the training.
        samples: The sites to train on; None reads those of the description.
        validation: The sites to validate and calibrate on; None reads those of the description.
        notify: Gets messages for people.
        watch: Gets every point of the curves.
        command: Command line that started this, for the card.

    Raises:
        InputError: If the description is wrong, sites are not as described, or another training is under way.
        MapperError: If the training diverges.
    """
    with connect() as ranks, _use_threads(config.threads):
        report = (notify or _logger.info) if ranks.is_first else _logger.debug
        run = RunFolder(config.out / f"{config.name}.run")
        described = _describe(config)
        finished = _find_finished(config, run)
        if samples is None and finished and not run.differences(described):
            report(f"{config.name} is trained already; delete {run.path} to train it anew")
            return finished
        data = _read_samples(config, ranks, samples, validation)
        described |= data.describe()
        if finished and not run.differences(described):
            report(f"{config.name} is trained already; delete {run.path} to train it anew")
            return finished
        ranks.wait()  # all have looked before the first writes
        if ranks.is_first:
            _begin(run, described, config.name, report)
        ranks.wait()
        fitted = fit(
            data.learnt,
            config,
            run=run,
            ranks=ranks,
            validate=partial(_validate, data.scored) if data.scored else None,
            watch=watch,
            bicubic=_score_bicubic(data.scored),
        )
        with ranks.one_first():
            return _finish(fitted, config, data, run, command) if ranks.is_first else _read_finished(config)


def predict_sample(
    model: Model, sample: Sample, *, device: str = "auto", samples: int | None = None, steps: int | None = None
) -> Estimate:
    """Return what a model makes of a whole sample; values for all of it, also where the source has none.

    Args:
        model: Fits the site.
        sample: Of any size: it is continued by NaN to what the model demands, and cropped.
        device: auto, cpu, cuda, cuda:1 ...
        samples: Number that are drawn of a stochastic model, and whose mean is returned; None asks it without noise.
        steps: In which each is drawn; None takes what its card says.

    Raises:
        ContractError: If the site does not offer what the model demands.
        ValueError: If samples are asked for of a model that draws none.
    """
    channels = sample.check(model.contract)
    guide, source, source_sd, _ = pad_sample(sample, model.contract.step(sample.scale))
    predictor, inside = Predictor(model, device=device), tuple(slice(edge) for edge in sample.truth.shape[-2:])
    if source.ndim == 2:
        estimate = predictor.sharpen(guide[list(channels)], source, source_sd)
        return Estimate(mean=estimate.mean[inside], sd=None if estimate.sd is None else estimate.sd[inside])
    inputs: dict[str, npt.NDArray[Any]] = {"guide": guide[None, list(channels)], "source": source[None]}
    inputs["source.anchor"] = source[None]
    if sample.stack:
        stack = pad_stack(sample, model.contract.step(sample.scale))
        inputs |= {"source": stack.values, "source.days": stack.days}
        inputs |= {"source.clear": stack.clear, "source.shift": stack.shift}
    asked = predictor if samples is None else _open_sampler(model, device, samples, steps)
    found, contract = asked.predict(inputs, scale=sample.scale), asked.contract
    each = [Estimate.of(found, contract, name) for name in contract.name_means(sample.targets)]
    deviations = [estimate.sd[inside] for estimate in each if estimate.sd is not None]
    return Estimate(
        mean=np.stack([estimate.mean[inside] for estimate in each]), sd=np.stack(deviations) if deviations else None
    )


def _open_sampler(model: Model, device: str, samples: int, steps: int | None) -> Sampler:
    model = copy.copy(model)  # one that others ask too keeps its own number of steps
    model.contract = model.contract.take_steps(steps)
    return Sampler(predictor=Predictor(model, device=device), samples=samples, steps=model.contract.steps)


def _begin(run: RunFolder, described: Mapping[str, Any], name: str, report: Callable[[str], None]) -> None:
    if earlier := run.begin(described):
        report(f"another training was called {name} before: it is called {earlier} now, and {name} is trained anew")
    if saved := run.load():
        report(f"going on with {name} after step {saved.step}")


def _read_samples(
    config: TrainConfig, ranks: Ranks, samples: Sequence[Sample] | None, validation: Sequence[Sample] | None
) -> _Samples:
    """Read what was not given, and hold out blocks where asked for.

    Raises:
        InputError: If there is nothing to learn, or a site is to be both learnt and scored.
    """
    with ranks.one_first():
        learnt = list(samples) if samples is not None else read_samples(config.data)
        scored = list(validation) if validation is not None else read_samples(config.validation)
    if not learnt:
        raise InputError(f"training {config.name} has no site to learn from")
    both = {(sample.name, sample.digest) for sample in learnt} & {(sample.name, sample.digest) for sample in scored}
    if named := sorted(name for name, _ in both if name):
        raise InputError(f"sites to validate on may not be trained on: {', '.join(named)}")
    if config.hold_out:
        parts = [hold_out(sample, config.hold_out, config.seed + index) for index, sample in enumerate(learnt)]
        learnt, scored = [part for part, _ in parts], [*scored, *(part for _, part in parts)]
    return _Samples(learnt=learnt, scored=scored)


def _validate(samples: Sequence[Sample], model: TrainedModel) -> float:
    device = str(model.guide_mean.device)
    return pool([score(predict_sample(model, sample, device=device), sample) for sample in samples]).value("rmse")


def _score_bicubic(samples: Sequence[Sample]) -> float | None:
    return pool([_interpolate(sample) for sample in samples]).value("rmse") if samples else None


def _interpolate(sample: Sample) -> Score:
    return score(predict_sample(load_model(ModelSpec(name="bicubic")), sample), sample)


def _finish(fitted: Fitted, config: TrainConfig, data: _Samples, run: RunFolder, command: str) -> Card:
    """Calibrate, score and save a model, at last the note that all is done; return its card."""
    model, scores = _judge(fitted.model, data.scored)
    card = save_model(
        model,
        config.out / f"{config.name}.safetensors",
        options=choose_options(config, data.learnt[0]),
        training={
            "command": command,
            "data": [_describe_sample(sample) for sample in data.learnt],
            "validation": [_describe_sample(sample) for sample in data.scored],
            "config": config.model_dump(mode="json", exclude={"out", "data", "validation"}),
            "scores": scores,
            "seconds": round(fitted.seconds, 1),
            "device": _name_device(),
            "threads": torch.get_num_threads(),
        },
    )
    run.finish(card.sha256)
    return card


def _judge(model: TrainedModel, samples: Sequence[Sample]) -> tuple[TrainedModel, dict[str, Any]]:
    """Return the model, calibrated if it gives a deviation, and its scores on sites not trained on."""
    if not samples:
        return model, {}
    predictions = [predict_sample(model, sample) for sample in samples]
    by_method = {
        "model": [score(prediction, sample) for prediction, sample in zip(predictions, samples, strict=True)],
        "bicubic": [_interpolate(sample) for sample in samples],
    }
    scores: dict[str, Any] = {
        name: {
            "rmse": rounded(pool(parts).value("rmse")),
            "bias": rounded(pool(parts).value("bias")),
            "places": {sample.name: rounded(part.value("rmse")) for sample, part in zip(samples, parts, strict=True)},
        }
        for name, parts in by_method.items()
    }
    holds_source_sd = model.contract.sees_source_sd
    scale = calibrate(predictions, samples, holds_source_sd=holds_source_sd) if model.contract.gives_sd else None
    if scale is not None:
        scores["coverage"] = describe_coverage(predictions, samples, scale=scale, holds_source_sd=holds_source_sd)
        model = adapt(model.network, replace(model.contract, sd_scale=scale)).eval()
    return model, scores


def _find_finished(config: TrainConfig, run: RunFolder) -> Card | None:
    """Read the card of the weights that the run folder ended with, if they are still there."""
    if not run.weights:
        return None
    try:
        card = _read_finished(config)
    except WeightsError:
        return None
    return card if card.sha256 == run.weights else None


def _read_finished(config: TrainConfig) -> Card:
    return read_card(ModelSpec(name=config.name, weights=config.out / f"{config.name}.safetensors"))


def _describe(config: TrainConfig) -> dict[str, Any]:
    return {"config": config.model_dump(mode="json", exclude=_UNDECISIVE)}


def _describe_sample(sample: Sample) -> dict[str, Any]:
    return {
        "name": sample.name,
        "digest": sample.digest,
        "degradation": sample.degradation,
        "pixels": int(np.isfinite(sample.truth).sum()),
    }


def _fingerprint(sample: Sample) -> str:
    return (
        f"{sample.digest} {np.nansum(sample.truth, dtype=np.float64):.6g} of {np.isfinite(sample.truth).sum()} pixels"
    )


def _name_device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


@contextmanager
def _use_threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
