"""Limits of what a card may say: a card comes with its weights from somewhere else, and is read before them.

A number that is not finite would pass into every pixel, a halo of a million pixels into every read, and a width of a
billion into the memory of the machine.
"""

import math
from collections.abc import Mapping
from typing import Any

from mapper.models.contract import BandNorm, Contract, Input, Output

_LONGEST_NAME = 200
_MOST_ENTRIES = 10_000
"""Bands of an input."""
_MOST_OPTIONS = 64
_LARGEST_OPTION = 65_536
_MOST_MEMBERS = 64
_DEEPEST_OPTION = 4
_RANGES: Mapping[str, tuple[int, int]] = {
    "halo_px": (0, 16_384),
    "halo_source_px": (0, 4_096),
    "align_px": (1, 4_096),
    "noise_bands": (0, 1_024),
    "samples": (1, 10_000),
    "steps": (1, 10_000),
    "step_px": (0, 4_096),
}
"""Least and greatest value of the whole numbers of a contract."""
_LARGEST_SCALE = 4_096
_INPUT_RANGES: Mapping[str, tuple[int, int]] = {"dates": (0, 10_000), "px": (0, 4_096), "cells_px": (0, 4_096)}


def check_contract(contract: Contract) -> None:
    """Check types and ranges of a contract.

    Raises:
        ValueError: With the first that is wrong.
    """
    check_name("model", contract.model)
    for key, (least, greatest) in _RANGES.items():
        _check_whole(key, getattr(contract, key), least, greatest)
    if contract.scale is not None:
        _check_whole("scale", contract.scale, 1, _LARGEST_SCALE)
    _check_finite("sd_scale", contract.sd_scale, least=0)
    for key in ("tile_exact", "band_sd"):
        if not isinstance(getattr(contract, key), bool):
            raise TypeError(f"{key} is {getattr(contract, key)!r:.60}, expected true or false")
    if contract.source_m is not None:
        _check_sizes(*contract.source_m)
    _check_bounds(*contract.bounds)
    for entry in contract.inputs:
        _check_input(entry)
    for output in contract.outputs:
        _check_output(output)


def check_options(options: Any) -> None:
    """Check the options of an architecture: few, and of numbers that a network can have.

    Raises:
        ValueError: With the first that is wrong.
    """
    if not isinstance(options, Mapping) or len(options) > _MOST_OPTIONS:
        raise ValueError(f"mlm:hyperparameters are no object of at most {_MOST_OPTIONS} options")
    _check_whole("members", options.get("members", 1), 1, _MOST_MEMBERS)
    for name, value in options.items():
        check_name("name of an option", name)
        _check_option(name, value, 0)


def check_name(key: str, name: Any) -> None:
    """Check that a name is a short text without separators of folders.

    Raises:
        ValueError: If it is not.
    """
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable() or {*name} & {*"/\\"}:
        raise ValueError(f"{key} is {name!r:.60}, expected a name")


def _check_bounds(low: float | None, high: float | None) -> None:
    for bound in (low, high):
        if bound is not None:
            _check_finite("bounds", bound)
    if low is not None and high is not None and low >= high:
        raise ValueError(f"bounds are {low} and {high}, expected the least first")


def _check_sizes(least: float, most: float) -> None:
    for edge in (least, most):
        _check_finite("source_m", edge, least=0)
    if not 0 < least <= most:
        raise ValueError(f"source_m is {least} to {most}, expected the least first, above 0")


def _check_input(entry: Input) -> None:
    check_name("role of an input", entry.role)
    for key, (least, greatest) in _INPUT_RANGES.items():
        _check_whole(f"{key} of input {entry.role}", getattr(entry, key), least, greatest)
    if len(entry.bands) > _MOST_ENTRIES:
        raise ValueError(f"input {entry.role} has {len(entry.bands)} bands")
    for band in entry.bands:
        _check_band(band)


def _check_band(band: BandNorm) -> None:
    check_name("name of a band", band.name)
    _check_text(f"units of band {band.name}", band.units)
    _check_finite(f"mean of band {band.name}", band.mean)
    _check_finite(f"sd of band {band.name}", band.sd, least=0)


def _check_output(output: Output) -> None:
    check_name("name of an output", output.name)
    _check_text(f"units of output {output.name}", output.units)
    if output.kind not in ("mean", "sd", "quality", "sample"):
        raise ValueError(f"output {output.name} is of kind {output.kind!r:.40}")
    if not isinstance(output.of, str):
        raise TypeError(f"output {output.name} is of {output.of!r:.40}, expected a name")


def _check_option(name: str, value: Any, depth: int) -> None:
    if isinstance(value, Mapping | list | tuple) and depth < _DEEPEST_OPTION and len(value) <= _MOST_OPTIONS:
        for part in value.values() if isinstance(value, Mapping) else value:
            _check_option(name, part, depth + 1)
    elif isinstance(value, str):
        _check_text(f"option {name}", value)
    elif isinstance(value, int | float) and math.isfinite(value) and abs(value) <= _LARGEST_OPTION:
        return
    elif value is not None:
        raise ValueError(f"option {name} is {value!r:.60}, which no network has")


def _check_whole(key: str, value: Any, least: int, greatest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= greatest:
        raise ValueError(f"{key} is {value!r:.60}, expected a whole number from {least} to {greatest}")


def _check_finite(key: str, value: Any, *, least: float = -math.inf) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < least:
        raise ValueError(
            f"{key} is {value!r:.60}, expected a number" + ("" if least == -math.inf else f" from {least}")
        )


def _check_text(key: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) > _LONGEST_NAME or not value.isprintable():
        raise ValueError(f"{key} is {value!r:.60}, expected a short text")
