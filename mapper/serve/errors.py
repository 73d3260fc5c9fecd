"""Errors as answers: one line of text for people, a status for programs, the rest in the log, never a trace."""

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mapper.errors import GridError, InputError, StoreError
from mapper.redaction import redact
from mapper.serve.answers import JsonAnswer
from mapper.serve.versions import GoneVersionError, UnknownVersionError

_log = logging.getLogger(__name__)

_REASONS: Mapping[int, str] = MappingProxyType(
    {
        400: "The body cannot be read",
        401: "A token is needed",
        404: "There is no such version, variable, key or tile",
        410: "The version has expired, and is gone for good",
        413: "The body is too large",
        414: "The address is too long",
        416: "The range lies beyond the end",
        422: "A parameter or the body is not as described",
        503: "Busy, too slow, or the store cannot be read at the moment; try again",
    }
)
_REFUSAL: Mapping[str, Any] = MappingProxyType(
    {
        "type": "object",
        "properties": {"detail": {"type": "string"}},
        "required": ["detail"],
        "additionalProperties": False,
    }
)


def add_error_handlers(app: FastAPI) -> None:
    """Let an application answer errors as ``{"detail": text}``."""
    app.add_exception_handler(HTTPException, _answer_refusal)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(UnknownVersionError, _answer_missing)
    app.add_exception_handler(GoneVersionError, _answer_gone)
    app.add_exception_handler(GridError, _answer_missing)
    app.add_exception_handler(InputError, _answer_input)
    app.add_exception_handler(StoreError, _answer_store)
    app.add_exception_handler(Exception, _answer_unexpected)


def make_refusal(status: int, text: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an answer that gives the reason why there is no other."""
    return JsonAnswer({"detail": text}, status_code=status, headers={"Cache-Control": "no-store", **(headers or {})})


def describe_refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the descriptions of answers with these statuses, for the page of the API."""
    content = {"application/json": {"schema": dict(_REFUSAL)}}
    return {status: {"description": _REASONS[status], "content": content} for status in statuses}


async def _answer_refusal(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    return make_refusal(error.status_code, str(error.detail), dict(error.headers or {}))


async def _answer_invalid(_: Request, error: Exception) -> JSONResponse:
    """Return which parameter is wrong and why, without what was sent: it may not be text at all."""
    if not isinstance(error, RequestValidationError):
        raise error
    faults = [f"{fault['loc'][-1] if fault['loc'] else 'request'}: {fault['msg']}" for fault in error.errors()]
    return make_refusal(422, "; ".join(faults)[:1000])


async def _answer_missing(_: Request, error: Exception) -> JSONResponse:
    return make_refusal(404, redact(str(error), paths=True))


async def _answer_gone(_: Request, error: Exception) -> JSONResponse:
    return make_refusal(410, redact(str(error), paths=True))


async def _answer_input(_: Request, error: Exception) -> JSONResponse:
    return make_refusal(422, redact(str(error), paths=True))


async def _answer_store(_: Request, error: Exception) -> JSONResponse:
    """Return a refusal; the words of the storage may hold its location and go to the log alone."""
    _log.error("the store cannot be read: %s", error)
    return make_refusal(503, "the store cannot be read at the moment; try again", {"Retry-After": "5"})


async def _answer_unexpected(request: Request, error: Exception) -> JSONResponse:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return make_refusal(500, "the server failed to answer; its log says why")
