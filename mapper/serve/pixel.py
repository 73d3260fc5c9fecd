"""``/pixel`` and ``/history``: values of a pixel, their provenance, and those of earlier versions."""

import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from types import MappingProxyType
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Response
from pyproj import CRS
from pyproj.exceptions import ProjError

from mapper.predict.quality import BITS
from mapper.redaction import redact_all
from mapper.serve.answers import JsonAnswer
from mapper.serve.errors import describe_refusals
from mapper.serve.schemas import FlagMeaning, History, PixelVersion, ServedPixel
from mapper.serve.versions import ResolvedVersion, ServedStore, Version
from mapper.store.errors import explain_faults
from mapper.store.why import Answer, BandValue, explain_pixel, to_plain, trace_pixel

FLAG_MEANINGS: Mapping[str, str] = MappingProxyType(
    {bit.name: bit.description for bit in BITS.values()}
    | {"not_written": "no tile with data was written here", "gap": "a channel had no valid observation"}
)
"""Meanings of flags in words."""

_CRS = re.compile(r"[A-Za-z][A-Za-z0-9_]{1,15}:[A-Za-z0-9]{1,12}")
_MAP_CRS = "map"

Coordinate = Annotated[float, Query(allow_inf_nan=False)]
CrsName = Annotated[str, Query(description="CRS of x and y: an authority and a code, or `map` for the map's own")]
Ref = Annotated[str, Query(description="Branch, tag or snapshot id")]


def make_pixel_router(served: ServedStore) -> APIRouter:
    """Return the routes of pixels and their history."""
    router = APIRouter(tags=["pixel"], responses=describe_refusals(404, 422))

    @router.get("/pixel", summary="What a pixel holds and what made it", response_model=ServedPixel)
    def get_pixel(x: Coordinate, y: Coordinate, crs: CrsName = "EPSG:4326", ref: Ref = "main") -> Response:
        """Return values with units, quality flags in words, and the record: items, dates, model, code, snapshot."""
        found = served.versions.find(ref)
        with explain_faults("the store"):
            answer = _explain(found.version, x, y, crs)
        return _reply(served, found, _describe_pixel(answer, ref=ref, version=found.version.snapshot))

    @router.get("/history", summary="What a pixel held before", response_model=History)
    def get_history(
        x: Coordinate,
        y: Coordinate,
        crs: CrsName = "EPSG:4326",
        ref: Ref = "main",
        limit: Annotated[int, Query(ge=1, le=50, description="Versions at most")] = 10,
    ) -> Response:
        """Return the versions of the tile that the point lies in, the latest first; expired ones are left out."""
        found = served.versions.find(ref)
        name = _check_crs(found.version, crs)
        try:
            answers = trace_pixel(found.version.ledger, x, y, crs=name, description=found.version.description)
            versions = [_describe_version(answer) for answer in islice(answers, limit)]
        except ProjError as error:
            raise _refuse_crs(crs) from error
        return _reply(served, found, History(versions=versions, ref=ref, version=found.version.snapshot))

    return router


def _describe_pixel(answer: Answer, *, ref: str, version: str) -> ServedPixel:
    """Return a pixel as it is served: flags in words, values with the digits that are known."""
    quality = [FlagMeaning(flag=name, meaning=FLAG_MEANINGS.get(name, name.replace("_", " "))) for name in answer.flags]
    values = {"value": _shorten(answer.value), "sd": _shorten(answer.sd), "bands": _shorten_bands(answer)}
    ancillary = {name: _shorten_number(value) for name, value in answer.ancillary.items()}
    about = vars(answer) | values | {"ancillary": ancillary}
    return ServedPixel(**about, quality=quality, ref=ref, version=version)


def _explain(version: Version, x: float, y: float, crs: str) -> Answer:
    try:
        return explain_pixel(version.ledger, x, y, crs=_check_crs(version, crs), description=version.description)
    except ProjError as error:
        raise _refuse_crs(crs) from error


def _check_crs(version: Version, crs: str) -> str:
    """Return the name of a CRS: a code of an authority alone, since other forms may name files or addresses."""
    if crs == _MAP_CRS:
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
    named = crs if _CRS.fullmatch(crs) else "that"
    return HTTPException(422, f"crs: {named} is no CRS for points; expected a code as EPSG:4326, or map")


def _describe_version(answer: Answer) -> PixelVersion:
    """Return one version of a pixel, which has a record: without one there would be no version."""
    from_record = ("run_id", "task_id", "status", "reason", "model", "model_digest")
    return PixelVersion(
        snapshot=answer.snapshot,
        written_at=answer.written_at,
        value=_shorten(answer.value),
        sd=_shorten(answer.sd),
        units=answer.units,
        flags=answer.flags,
        bands=_shorten_bands(answer),
        **{name: getattr(answer.record, name) for name in from_record},
    )


def _reply(served: ServedStore, found: ResolvedVersion, content: ServedPixel | History) -> Response:
    shown = redact_all(to_plain(content), paths=True)  # records of before hold folders of the machine that made them
    return JsonAnswer(shown, headers={"Cache-Control": served.cache_control(fixed=found.fixed)})


def _shorten_bands(answer: Answer) -> tuple[BandValue, ...]:
    return tuple(replace(band, value=_shorten(band.value), sd=_shorten(band.sd)) for band in answer.bands)


def _shorten_number(value: float | str | None) -> float | str | None:
    return _shorten(value) if isinstance(value, float) else value


def _shorten(value: float | None) -> float | None:
    """Return a value with as many digits as a float32 holds."""
    return None if value is None else float(f"{value:.7g}")
