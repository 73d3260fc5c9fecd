"""Scores of one scene of several bands, for the tables of a suite: what is computed, and how it is printed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mapper.arrays import FloatArray
from mapper.evaluation.fidelity import (
    CPSNR_SHIFT_PX,
    View,
    cpsnr,
    cut_to_shift,
    detail_correlation,
    find_residual,
    find_shift,
    fit_affine,
    global_spectral_angle,
    gradient_ratio,
    mean_absolute_error,
    psnr,
    relative_error,
    rmse,
    spectral_angle,
    ssim,
)
from mapper.evaluation.metric import Better
from mapper.evaluation.opensr import BORDER_PX, PUBLISHED, resize, score_opensr


@dataclass(frozen=True, kw_only=True)
class SceneMetric:
    """One score of a scene, as a table names it."""

    name: str
    """Name in reports: the key of what :func:`score_scene` returns."""
    title: str
    """Name in the head of a table."""
    units: str
    """Units; empty where it has none, ``units`` where they are those of the bands."""
    better: Better | None
    """End of the scale at which a value is better; None where it has to be neither high nor low, but right."""


_SHARES: tuple[tuple[str, Better], ...] = (
    ("improvement", "higher"),
    ("omission", "lower"),
    ("hallucination", "lower"),
)
_KINDS = {  # end of the name: its words, and what of a score of opensr-test it is
    "": ("", "shares"),
    "_of_detail": (" of detail", "shares_of_detail"),
    "_rescaled": (", 0 to 1", "rescaled"),
    "_of_detail_rescaled": (" of detail, 0 to 1", "rescaled_of_detail"),
}
_HARMONISED = "_harmonised", ", harmonised"
_TABLE: tuple[tuple[str, str, str, Better], ...] = (
    ("psnr", "PSNR", "dB", "higher"),
    ("ssim", "SSIM", "", "higher"),
    ("cpsnr", "cPSNR", "dB", "higher"),
    ("affine_psnr", "affine PSNR", "dB", "higher"),
    ("affine_ssim", "affine SSIM", "", "higher"),
    ("affine_error", "affine RMSE / std", "", "lower"),
    ("displacement", "shift to truth", "px", "lower"),
    ("angle", "spectral angle", "degrees", "lower"),
    ("global_angle", "global angle", "degrees", "lower"),
    ("consistency_rmse", "consistency RMSE", "units", "lower"),
    ("consistency_mae", "consistency MAE", "units", "lower"),
    ("reflectance", "reflectance", "units", "lower"),
    ("spectral", "spectral", "degrees", "lower"),
    ("spatial", "spatial", "source px", "lower"),
    ("synthesis", "synthesis", "units", "higher"),
    *((f"{name}{end}", f"{name}{words}", "", better) for end, (words, _) in _KINDS.items() for name, better in _SHARES),
    (f"synthesis{_HARMONISED[0]}", f"synthesis{_HARMONISED[1]}", "units", "higher"),
    *((f"{name}{_HARMONISED[0]}", f"{name}{_HARMONISED[1]}", "", better) for name, better in _SHARES),
    ("gradient_excess", "gradients, excess", "", "zero"),
    ("detail_correlation", "correlation of detail", "", "higher"),
    ("covered", "covered", "", "higher"),
)

SCENE_METRICS: Mapping[str, SceneMetric] = {
    name: SceneMetric(name=name, title=title, units=units, better=better) for name, title, units, better in _TABLE
}
"""Scores of a scene by name, in the order of tables."""

_METHOD_TABLE: tuple[tuple[str, str, str, Better | None], ...] = (
    ("in_68", "in 68 %", "", None),
    ("in_90", "in 90 %", "", None),
    ("in_95", "in 95 %", "", None),
    ("least_in_90", "least decile in 90 %", "", None),
    ("s_per_mpx", "seconds", "s/Mpx", "lower"),
    ("tflop_per_mpx", "operations", "TFLOP/Mpx", "lower"),
)
METHOD_METRICS: Mapping[str, SceneMetric] = {
    name: SceneMetric(name=name, title=title, units=units, better=better)
    for name, title, units, better in _METHOD_TABLE
}
"""What a table tells of a method beside the scores of its images, by name: how often intervals hold, and the cost."""


def score_scene(
    value: FloatArray,
    truth: FloatArray,
    anchor: FloatArray,
    *,
    operator: View | Sequence[View],
    value_range: float,
    border_px: int = 0,
    shift_px: int = 0,
) -> dict[str, float]:
    """Return the scores of a result by name, in the order of :data:`SCENE_METRICS`.

    ``psnr``, ``ssim`` and angles are taken where the images lie, without the border; ``affine_...`` at the best
    whole-pixel shift and after a + b x per band, so that they compare detail across sensors; ``cpsnr`` with borders and
    shifts of its own; ``consistency_...`` against the anchor through the operator, on all of it; those of opensr-test
    within a border of its own, ``..._harmonised`` as it is published, which leaks the truth; ``gradient_excess`` is the
    ratio of the gradients less 1. Where an image is too small for one of them, it is NaN.

    ``reflectance`` looks at the result through an operator that no sensor has: it charges the truth itself, where
    ``consistency_mae`` does not.

    Args:
        value: (band, y, x), NaN where missing.
        truth: The same shape and units; NaN where unknown or concealed.
        anchor: (band, y / scale, x / scale), the image that the result shows; NaN where missing.
        operator: From the target to the source; one for all bands, or one for each.
        value_range: Range of the values, in their units, declared for the data.
        border_px: Target pixels left out on each side.
        shift_px: Radius of the shifts to the truth, in target pixels; 0 where it lies on the same grid.

    Raises:
        ValueError: If the shapes do not nest or the range is none.
    """
    operators = list(operator) if isinstance(operator, Sequence) else [operator] * len(anchor)
    residual = find_residual(value, anchor, operators)
    nothing = np.zeros_like(residual)
    scores = {
        **_score_in_place(value, truth, value_range, border_px),
        **_score_detail(value, truth, value_range, border_px, shift_px),
        "consistency_rmse": rmse(residual, nothing),
        "consistency_mae": mean_absolute_error(residual, nothing),
        **_score_opensr(value, truth, anchor),
    }
    return {name: scores.get(name, float("nan")) for name in SCENE_METRICS}


def _score_in_place(value: FloatArray, truth: FloatArray, value_range: float, border_px: int) -> dict[str, float]:
    inner, beneath = cut_to_shift(value, truth, (0, 0), border_px)
    known = np.isfinite(beneath)
    both = known & np.isfinite(inner)
    scores = {
        "psnr": psnr(inner, beneath, value_range),
        "ssim": ssim(inner, beneath, value_range),
        "angle": spectral_angle(inner, beneath),
        "global_angle": global_spectral_angle(inner, beneath),
        "gradient_excess": gradient_ratio(inner, beneath) - 1,
        "covered": float(both.sum() / known.sum()) if known.any() else float("nan"),
    }
    if min(value.shape[1:]) > 2 * CPSNR_SHIFT_PX:
        scores["cpsnr"] = cpsnr(value, truth, value_range)
    return scores


def _score_detail(
    value: FloatArray, truth: FloatArray, value_range: float, border_px: int, shift_px: int
) -> dict[str, float]:
    border = max(border_px, shift_px)
    if min(value.shape[1:]) <= 2 * border:
        return {}
    shift = find_shift(value, truth, shift_px)
    inner, beneath = cut_to_shift(value, truth, shift, border)
    fitted = fit_affine(inner, beneath)
    return {
        "affine_psnr": psnr(fitted, beneath, value_range),
        "affine_ssim": ssim(fitted, beneath, value_range),
        "affine_error": relative_error(fitted, beneath),
        "displacement": float(np.hypot(*shift)),
    }


def _score_opensr(value: FloatArray, truth: FloatArray, anchor: FloatArray) -> dict[str, float]:
    if min(value.shape[1:]) <= 2 * BORDER_PX:
        return {}
    score, harmonised = (score_opensr(value, truth, anchor, options=options) for options in (None, PUBLISHED))
    enlarged = resize(anchor, *value.shape[1:])
    return {
        **{name: getattr(score, name) for name in ("reflectance", "spectral", "spatial", "synthesis")},
        **{
            f"{name}{end}": getattr(getattr(score, attribute), name)
            for end, (_, attribute) in _KINDS.items()
            for name, _ in _SHARES
        },
        f"synthesis{_HARMONISED[0]}": harmonised.synthesis,
        **{f"{name}{_HARMONISED[0]}": getattr(harmonised.shares, name) for name, _ in _SHARES},
        "detail_correlation": detail_correlation(value, truth, enlarged),
    }
