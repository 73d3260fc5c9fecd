"""``/pixel`` and ``/history``: what a pixel holds, what made it, and what it held before."""

import math
import re
from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.responses import JSONResponse
from pyproj import CRS
from pyproj.exceptions import ProjError

from mapper.serve.errors import describe_refusals
from mapper.serve.schemas import History, PixelAnswer
from mapper.serve.versions import Found, Served, Version
from mapper.store.errors import explain_faults
from mapper.store.why import Answer, explain_pixel, trace_pixel

SAID: Mapping[str, str] = MappingProxyType(
    {
        "guide_gap": "a guide channel had no valid observation",
        "source_missing": "the source has no value here",
        "source_disagrees": "the network's mean was farther from the source than the source's standard deviation",
        "outside_area": "not part of the map",
        "item_dropped": "an item of this tile could not be read and was left out",
        "few_dates": "the stack has fewer dates here than were asked for",
        "few_observations": "few valid observations entered the guide",
        "not_written": "no tile with data was written here",
        "gap": "a channel had no valid observation",
    }
)
"""Flags of a pixel, in words."""

_CRS = re.compile(r"[A-Za-z][A-Za-z0-9_]{1,15}:[A-Za-z0-9]{1,12}")
_OF_THE_MAP = "map"

Coordinate = Annotated[float, Query(allow_inf_nan=False)]
CrsName = Annotated[str, Query(description="CRS of x and y: an authority and a code, or `map` for the map's own")]
Ref = Annotated[str, Query(description="Branch, tag or snapshot id")]


def make_pixel_router(served: Served) -> APIRouter:
    """The routes of pixels and their history."""
    router = APIRouter(tags=["pixel"], responses=describe_refusals(404, 422))

    @router.get("/pixel", summary="What a pixel holds and what made it", response_model=PixelAnswer)
    def get_pixel(x: Coordinate, y: Coordinate, crs: CrsName = "EPSG:4326", ref: Ref = "main") -> Response:
        """Values with units, quality flags in words, and the record: items, dates, model, code, snapshot."""
        found = served.versions.find(ref)
        with explain_faults("the store"):
            answer = _ask(found.version, x, y, crs)
        return _reply(served, found, describe_answer(answer) | _name_version(ref, found))

    @router.get("/history", summary="What a pixel held before", response_model=History)
    def get_history(
        x: Coordinate,
        y: Coordinate,
        crs: CrsName = "EPSG:4326",
        ref: Ref = "main",
        limit: Annotated[int, Query(ge=1, le=50, description="Versions at most")] = 10,
    ) -> Response:
        """The versions of the tile that the point lies in, the latest first; expired ones are not told."""
        found = served.versions.find(ref)
        name = _check_crs(found.version, crs)
        try:
            versions = list(islice(trace_pixel(found.version.ledger, x, y, crs=name), limit))
        except ProjError as error:
            raise _refuse_crs(crs) from error
        content = {"versions": [_describe_version(answer) for answer in versions]}
        return _reply(served, found, content | _name_version(ref, found))

    return router


def describe_answer(answer: Answer) -> dict[str, Any]:
    """A pixel and what made it as JSON; flags in words."""
    quality = [{"flag": name, "meaning": SAID.get(name, name.replace("_", " "))} for name in answer.flags]
    values = {name: _shorten(value) for name, value in (("value", answer.value), ("sd", answer.sd))}
    return {**_finite(answer.to_dict()), **values, "quality": quality}


def _ask(version: Version, x: float, y: float, crs: str) -> Answer:
    try:
        return explain_pixel(version.ledger, x, y, crs=_check_crs(version, crs))
    except ProjError as error:
        raise _refuse_crs(crs) from error


def _check_crs(version: Version, crs: str) -> str:
    """The name of a CRS: a code of an authority alone, since other forms may name files or addresses."""
    if crs == _OF_THE_MAP:
        return version.description.grid.crs
    if not _CRS.fullmatch(crs):
        raise _refuse_crs(crs)
    try:
        known = CRS.from_user_input(crs)
    except ProjError as error:
        raise _refuse_crs(crs) from error
    if not (known.is_geographic or known.is_projected):  # heights alone, or distances from the centre of the earth
        raise _refuse_crs(crs)
    return crs


def _refuse_crs(crs: str) -> HTTPException:
    said = crs if _CRS.fullmatch(crs) else "that"
    return HTTPException(422, f"crs: {said} is no CRS that points can be given in; expected EPSG:4326, say, or map")


def _describe_version(answer: Answer) -> dict[str, Any]:
    record = answer.record
    facts = {name: getattr(record, name) for name in ("run_id", "task_id", "status", "reason", "model", "model_digest")}
    return {
        name: _finite(value)
        for name, value in {
            "snapshot": answer.snapshot,
            "written_at": answer.written_at.isoformat() if answer.written_at else None,
            "value": _shorten(answer.value),
            "sd": _shorten(answer.sd),
            "units": answer.units,
            "flags": list(answer.flags),
            **facts,
        }.items()
    }


def _name_version(ref: str, found: Found) -> dict[str, str]:
    """Which version was asked; ``snapshot`` is the one that wrote the tile."""
    return {"ref": ref, "version": found.version.snapshot}


def _reply(served: Served, found: Found, content: dict[str, Any]) -> Response:
    return JSONResponse(content, headers={"Cache-Control": served.say_caching(fixed=found.fixed)})


def _shorten(value: float | None) -> float | None:
    """As many digits as a float32 holds."""
    return None if value is None else float(f"{value:.7g}")


def _finite(value: Any) -> Any:
    """JSON has no NaN: null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
