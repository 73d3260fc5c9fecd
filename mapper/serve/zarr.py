"""``/zarr/{ref}/{key}``: a version of the store as plain Zarr v3, for readers of Zarr over HTTP.

Only keys that Zarr knows are there: metadata, and chunks of arrays. A chunk that was never written is not there (404),
which to every reader means the fill value. So no other chunk is answered with 404: one of a version or an array that is
not there any more is gone (410), one that cannot be read at the moment is unavailable (503). A snapshot never changes
and may be cached for ever; that of a branch or a tag is asked again, and answered with 304 as long as it is the same.
"""

import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from mapper.errors import StoreError
from mapper.serve.conditions import is_known
from mapper.serve.errors import describe_refusals
from mapper.serve.index_reads import IndexReads, has_chunks_at, name_clients
from mapper.serve.versions import ResolvedVersion, ServedStore, UnknownVersionError, Version
from mapper.store.zarr_keys import PlainZarr, is_private

_PIECE = 4 << 20
"""Bytes held at once of an object that is sent whole."""
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_CONTENT: dict[str, dict[str, Any]] = {"application/json": {}, "application/octet-stream": {}}
_CHUNK = re.compile(r"(?:[^/]+/)+?c(?:/(?:0|[1-9][0-9]{0,9}))*")
_GONE = "the version or the array of this chunk is not there any more; open the map anew"
_NOT_THERE = "no such key: expected zarr.json of a group or array, or a chunk of an array that was written"


@dataclass(frozen=True, kw_only=True)
class ByteRange:
    """Range of bytes, its stop left out."""

    start: int
    stop: int


def make_zarr_router(served: ServedStore) -> APIRouter:
    """Return the routes of plain Zarr."""
    router = APIRouter(tags=["zarr"])
    responder = _KeyResponder(served)

    @router.get(
        "/zarr/{ref}/{key:path}",
        summary="One key of the store as plain Zarr v3",
        responses={
            200: {"description": "The key", "content": _CONTENT},
            206: {"description": "The range asked for", "content": _CONTENT},
            304: {"description": "As the client knows it"},
            **describe_refusals(404, 410, 416, 422),
        },
        response_class=Response,
    )
    async def get_key(ref: str, key: str, request: Request) -> Response:
        """Metadata (`zarr.json`, consolidated) or a chunk of a branch, a tag or a snapshot.

        Open `/zarr/main` with any reader of Zarr v3; ranges, also from the end, give chunks inside of shards.
        """
        return await responder.respond(ref, key, request)

    @router.head("/zarr/{ref}/{key:path}", include_in_schema=False)
    async def head_key(ref: str, key: str, request: Request) -> Response:
        return await responder.respond(ref, key, request)

    return router


class _KeyResponder:
    """Responses to requests for keys."""

    def __init__(self, served: ServedStore) -> None:
        self._served = served
        self._index_reads = IndexReads()

    async def respond(self, ref: str, key: str, request: Request) -> Response:
        found = await self._find(ref, key, request)
        plain = found.version.zarr
        headers = {"Cache-Control": self._served.cache_control(fixed=found.fixed)}
        document = plain.documents.get(key)
        chunk = plain.has_chunk(key)
        size = len(document) if document else await plain.size_of(key) if chunk else 0
        if not chunk and _is_chunk(key) and not plain.has_array(key):
            raise HTTPException(410, _GONE)
        if not size:
            raise HTTPException(404, _NOT_THERE, headers if chunk else None)
        headers |= {"ETag": f'"{found.version.snapshot}/{key}"', "Accept-Ranges": "bytes"}
        if is_known(request.headers, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        span = _parse_range(request, size, headers["ETag"])
        status = 206 if span else 200
        if span:
            headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
        span = span or ByteRange(start=0, stop=size)
        headers["Content-Length"] = str(span.stop - span.start)
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type=_media_of(document))
        if document:
            return Response(document[span.start : span.stop], status, headers, _media_of(document))
        if span.stop - span.start <= _PIECE:
            return Response(await plain.read(key, span.start, span.stop), status, headers, _media_of(document))
        return StreamingResponse(_read_pieces(plain, key, span), status, headers, _media_of(document))

    async def _find(self, ref: str, key: str, request: Request) -> ResolvedVersion:
        """Return the version that a request means: one that is in the middle of being read, if its chunks fit."""
        versions = self._served.versions
        found = versions.find_cached(ref)
        if found is None:
            try:
                found = await run_in_threadpool(versions.find, ref)
            except UnknownVersionError as error:
                if _is_chunk(key):  # who asks for one has read the metadata of its array
                    raise HTTPException(410, _GONE) from error
                raise
        asked = _RANGE.fullmatch(request.headers.get("range", "").strip())
        if found.fixed or asked is None or not found.version.zarr.has_chunk(key):
            return found
        name, head = f"{ref}/{key}", found.version.snapshot
        if not asked.group(1):
            for client in name_clients(request):
                self._index_reads.record(client, name, head)
            return found
        others = [snapshot for snapshot in self._index_reads.list(name) if snapshot != head]
        if not others:
            return found
        own = [self._index_reads.find(client, name) for client in name_clients(request)]
        candidates = [versions.recall(snapshot) for snapshot in dict.fromkeys([*own, head, *others])]
        chosen = await _choose([each for each in candidates if each], key, asked)
        return ResolvedVersion(version=chosen, fixed=False) if chosen else found


async def _choose(versions: list[Version], key: str, asked: re.Match[str]) -> Version | None:
    """Return the first version that has chunks where a range begins and ends; the very first if none has."""
    start, stop = int(asked.group(1)), int(asked.group(2)) + 1 if asked.group(2) else None
    for version in versions:
        with suppress(StoreError):  # what is gone cannot be meant
            if await has_chunks_at(version.zarr, key, start, stop):
                return version
    return versions[0] if versions else None


def _is_chunk(key: str) -> bool:
    """Return True if a key is that of a chunk of some array, and not of what is never served."""
    return _CHUNK.fullmatch(key) is not None and not is_private(key)


def _media_of(document: bytes | None) -> str:
    return "application/json" if document else "application/octet-stream"


def _parse_range(request: Request, size: int, etag: str) -> ByteRange | None:
    """Return the range a client asks for; None for all: without a range, with several, or one that is not understood.

    Raises:
        HTTPException: If it lies beyond the end.
    """
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if request.method == "HEAD" or match is None or request.headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if first and last and int(first) > int(last):
        return None
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    if start >= stop:
        raise HTTPException(416, f"the object has {size} bytes", {"Content-Range": f"bytes */{size}"})
    return ByteRange(start=start, stop=stop)


async def _read_pieces(plain: PlainZarr, key: str, span: ByteRange) -> AsyncIterator[bytes]:
    for start in range(span.start, span.stop, _PIECE):
        yield await plain.read(key, start, min(start + _PIECE, span.stop))
