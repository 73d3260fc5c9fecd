"""Train a model from map descriptions, and write weights with their card."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mapper.catalog.items import freeze_items
from mapper.catalog.provider import load_provider
from mapper.catalog.search import search, search_collection
from mapper.models.card import Card
from mapper.models.model import Model
from mapper.models.weights import load_model, save_model
from mapper.predict.predictor import Predictor
from mapper.spec import ModelSpec, read_spec
from mapper.training.config import TrainConfig, TruthConfig
from mapper.training.datasets import samples_from_map
from mapper.training.fitting import fit
from mapper.training.sampler import Sample


def train(config: TrainConfig) -> Card:
    """Train a model and write ``<name>.safetensors`` and ``<name>.json``.

    Raises:
        SpecError: If a map description is wrong.
        WeightsError: If the architecture does not take its options.
    """
    torch.set_num_threads(config.threads)
    samples = [read_sample(path, config.truth) for path in config.maps]
    model = fit(samples, config)
    facts = {
        "data": [sample.digest for sample in samples],
        "pixels": sum(int(np.isfinite(sample.truth).sum()) for sample in samples),
        "config": config.model_dump(mode="json", exclude={"out", "maps", "validation"}),
        "rmse": {
            f"{path.parent.name}/{path.stem}": score(model, read_sample(path, config.truth))
            for path in config.validation
        },
    }
    path = config.out / f"{config.name}.safetensors"
    return save_model(model, path, options=config.model.options, training=facts)


def read_sample(path: Path, truth: TruthConfig) -> Sample:
    """Read a map with its truth.

    Raises:
        SpecError: If the map description is wrong.
        SearchError: If nothing is found.
    """
    spec = read_spec(path)
    provider = load_provider(spec.catalog.provider)
    items = freeze_items([*search(spec), *search_collection(spec, truth.collection)])
    sample = samples_from_map(spec, items, provider, truth.collection, truth.variable)
    return sample if truth.limit is None else sample.cut_truth(truth.limit)


def score(model: Model, sample: Sample) -> dict[str, float]:
    """Root mean squared error of a model and of bicubic interpolation on one sample, without consistency."""
    bicubic = load_model(ModelSpec(name="bicubic"))
    return {
        sample_model.contract.model: round(rmse(predict_sample(sample_model, sample), sample.truth), 3)
        for sample_model in (model, bicubic)
    }


def predict_sample(model: Model, sample: Sample) -> npt.NDArray[np.float32]:
    """What a model makes of a whole sample; (y, x)."""
    channels = model.contract.check(
        channels=sample.bands,
        source_units=sample.source_units,
        target_units=sample.source_units,
        scale=sample.scale,
    )
    return Predictor(model).predict(sample.guide[list(channels)], sample.source).mean


def rmse(value: npt.NDArray[np.float32], truth: npt.NDArray[np.float32]) -> float:
    """Root mean squared error over pixels where both are known."""
    return float(np.sqrt(np.nanmean(np.square(value.astype(np.float64) - truth))))
