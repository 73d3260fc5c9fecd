"""The stage that holds a run back, from the utilisation of devices and of the committer."""

from collections.abc import Iterable, Mapping

_FULL = 0.8
"""A device, or a committer, that is used for so much of the time holds everything else back."""


def name_bottleneck(
    seconds: Mapping[str, float], *, device_share: float | None = None, commit_share: float | None = None
) -> str:
    """Return the stage that holds a run back; empty before the first tile.

    That is ``commit`` or ``predict`` if the committer or the devices are used for four fifths of the time, however
    much work goes on beside; else the stage with most seconds of work. Waiting for a device is no work.

    Args:
        seconds: Seconds of work, by stage.
        device_share: Part of the wall time that devices were held.
        commit_share: Part of the wall time that the driver committed.
    """
    if commit_share is not None and commit_share >= _FULL:
        return "commit"
    if device_share is not None and device_share >= _FULL:
        return "predict"
    return max(working(seconds), key=lambda stage: seconds[stage], default="")


def working(stages: Iterable[str]) -> list[str]:
    """Return the stages in which something is done."""
    return [stage for stage in stages if stage != "wait"]
