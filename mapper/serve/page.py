"""``/``: the map page, and the versions that people choose from.

The page holds nothing of the map, so it is shown to everybody. It asks the other routes for all that it shows; where
they ask for a token, the person types it: it stays in that one tab (``sessionStorage``), goes out in the
``Authorization`` header alone, never in an address or a cookie, which other servers on the same machine would be sent.
Its policy lets scripts, styles, images and requests come from and go to this server alone.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response

from mapper.serve.answers import JsonAnswer
from mapper.serve.errors import describe_refusals
from mapper.serve.pixel import Ref
from mapper.serve.schemas import VersionList
from mapper.serve.versions import ResolvedVersion, ServedStore
from mapper.store.snapshots import Commit, find_branches, find_tags, trace_commits

_MEDIA = {"css": "text/css", "html": "text/html", "js": "text/javascript", "svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""Policy of the page. Tiles come by fetch and are shown as blobs; data: is Leaflet's empty image."""


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A file of the page."""

    content: bytes
    media: str

    @property
    def etag(self) -> str:
        """Return a tag that changes with the content."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'


def make_page_router(served: ServedStore) -> APIRouter:
    """Return the routes of the map page."""
    router = APIRouter(tags=["page"])
    assets = read_assets()
    page = assets.pop("page.html")

    @router.get("/", include_in_schema=False)
    def get_page() -> Response:
        return _reply(page, {"Content-Security-Policy": _POLICY})

    @router.get("/static/{name:path}", include_in_schema=False)
    def get_asset(name: str) -> Response:
        if name not in assets:
            raise HTTPException(404, "no such file")
        return _reply(assets[name], {})

    @router.get(
        "/versions",
        summary="Versions of the map",
        response_model=VersionList,
        responses=describe_refusals(404, 422),
    )
    def get_versions(
        ref: Ref = "main",
        limit: Annotated[int, Query(ge=1, le=200, description="Versions before it, at most")] = 30,
    ) -> Response:
        """List branches and tags with their commits now, and the versions that led to one of them, latest first."""
        return JsonAnswer(
            describe_versions(served.versions.find(ref), ref, limit), headers={"Cache-Control": "no-cache"}
        )

    return router


def read_assets() -> dict[str, Asset]:
    """Return the files of the page by name, as they are installed: ``main.js``, ``leaflet/leaflet.js``."""
    return dict(_read_folder(files("mapper.serve") / "static", ""))


def _read_folder(folder: Traversable, prefix: str) -> Iterator[tuple[str, Asset]]:
    for entry in folder.iterdir():
        name = prefix + entry.name
        if entry.is_dir():
            yield from _read_folder(entry, f"{name}/")
        else:
            yield name, Asset(content=entry.read_bytes(), media=_MEDIA.get(name.rpartition(".")[2], "text/plain"))


def _reply(asset: Asset, headers: Mapping[str, str]) -> Response:
    """Return an asset, which a browser that has it is not sent again."""
    headers = {"Cache-Control": "no-cache", "ETag": asset.etag, **headers}
    return Response(asset.content, headers=headers, media_type=asset.media)


def describe_versions(found: ResolvedVersion, ref: str, limit: int) -> dict[str, Any]:
    """Return the versions of the map, as JSON."""
    ledger = found.version.ledger
    return {
        "ref": ref,
        "version": found.version.snapshot,
        "branches": _describe_names(find_branches(ledger)),
        "tags": _describe_names(find_tags(ledger)),
        "snapshots": [_describe_commit(commit) for commit in trace_commits(ledger, limit)],
    }


def _describe_names(commits: Mapping[str, Commit]) -> list[dict[str, str]]:
    return [{"name": name} | _describe_commit(commit) for name, commit in commits.items()]


def _describe_commit(commit: Commit) -> dict[str, str]:
    written_at = commit.written_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"snapshot": commit.snapshot, "written_at": written_at, "message": commit.message}
