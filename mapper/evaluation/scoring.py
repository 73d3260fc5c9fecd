"""Scores of a finished map, from its description: finds the truth, loads the interpolations, compares."""

from pathlib import Path

from mapper.catalog.archives import provider_of
from mapper.catalog.items import Items
from mapper.catalog.search import search_collection
from mapper.errors import SpecError
from mapper.evaluation.compare import Comparison, Truth, compare_methods
from mapper.evaluation.metrics import DATA_RANGE
from mapper.evaluation.plots import plot_tallies
from mapper.models.card import INTERPOLATIONS
from mapper.models.weights import load_model
from mapper.predict.predictor import Predictor
from mapper.spec import MapSpec, ModelSpec
from mapper.store.repository import open_map


def find_truth(spec: MapSpec, name: str, *, clip: float | None = None, data_range: float = DATA_RANGE) -> Truth:
    """Find the truth of a map in its own catalogue.

    Args:
        spec: The map.
        name: ``collection:band``.
        clip: Larger true values count as this one.
        data_range: Range of the values, which PSNR and SSIM refer to.

    Raises:
        SpecError: If the name has no band, or the provider does not describe it.
        SearchError: If the catalogue has no such item.
    """
    collection, _, variable = name.partition(":")
    bands = provider_of(spec).rule(collection).bands
    if variable not in bands:
        raise SpecError(f"truth {name!r} is not COLLECTION:BAND; {collection} has the bands {', '.join(sorted(bands))}")
    return Truth(
        collection=collection,
        variable=variable,
        items=search_collection(spec, collection),
        clip=clip,
        data_range=data_range,
    )


def score_map(spec: MapSpec, items: Items, truth: Truth) -> Comparison:
    """Score a finished map and nearest, bilinear and bicubic interpolation of its source."""
    return compare_methods(
        spec,
        items=items,
        provider=provider_of(spec),
        truth=truth,
        interpolations={name: Predictor(load_model(ModelSpec(name=name))) for name in INTERPOLATIONS},
        written=open_map(spec.store),
    )


def draw_comparison(comparison: Comparison, directory: Path, *, quantity: str) -> list[Path]:
    """Draw scatter and error by class of the truth for all methods, and the reliability of the written map.

    Args:
        comparison: What to draw.
        directory: Where the PNGs go.
        quantity: Name of the target.
    """
    uncertainties = {comparison.own: comparison.uncertainty} if comparison.own else None
    return plot_tallies(
        comparison.tallies, directory, units=comparison.units, quantity=quantity, uncertainties=uncertainties
    )
