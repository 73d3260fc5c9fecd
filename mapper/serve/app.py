"""Application of a served store: routes and middleware. Read-only; no parameter names a file or an address."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Response
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPBearer
from starlette.middleware.cors import CORSMiddleware

from mapper import __version__
from mapper.serve.answers import write_xml
from mapper.serve.errors import add_error_handlers, describe_refusals
from mapper.serve.middleware import LimitsMiddleware
from mapper.serve.page import make_page_router
from mapper.serve.pixel import make_pixel_router
from mapper.serve.schemas import Health
from mapper.serve.settings import AppSettings
from mapper.serve.stac import make_stac_router
from mapper.serve.stats.routes import make_stats_router
from mapper.serve.tiles.routes import make_tiles_router
from mapper.serve.versions import ServedStore, Versions
from mapper.serve.zarr import make_zarr_router

_ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css")
_MEDIA = {"js": "text/javascript", "css": "text/css"}
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>API of the map server</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = 'SwaggerUIBundle({ url: "openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null });\n'
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def make_docs_router() -> APIRouter:
    """Return the routes of the page of the API, which loads nothing from other servers."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    def get_page() -> Response:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY})

    @router.get("/docs/{name}")
    def get_asset(name: str) -> Response:
        headers = {"Cache-Control": "public, max-age=86400"}
        if name == "start.js":
            return Response(_START, headers=headers, media_type=_MEDIA["js"])
        if name not in _ASSETS:
            raise HTTPException(404, "no such file")
        content = (files("fastapi_offline") / "static" / name).read_bytes()
        return Response(content, headers=headers, media_type=_MEDIA[name.rpartition(".")[2]])

    return router


_ROUTERS = (
    make_page_router,
    make_zarr_router,
    make_tiles_router,
    make_pixel_router,
    make_stats_router,
    make_stac_router,
)
"""Functions that make the routes of one subject; a new subject is a module and a name here."""
_EXPOSED = ("Accept-Ranges", "Content-Length", "Content-Range", "ETag", "X-Bounds", "X-Crs", "X-Level", "X-Units")


def make_app(location: str | Path, settings: AppSettings | None = None) -> FastAPI:
    """Return the application that serves a store.

    Args:
        location: Directory, or s3://, gs://, az:// location.
        settings: Settings of the server; None takes the defaults.

    Raises:
        StoreError: If there is no store, or it cannot be read.
    """
    settings = settings or AppSettings()
    versions = Versions(location, stale_after_s=settings.stale_after_s, max_open=settings.open_versions)
    served = ServedStore(versions=versions, settings=settings)
    name = versions.find("main").version.description.name
    app = FastAPI(
        title=f"{write_xml(name)}: a map by mapper",
        version=__version__,
        servers=[{"url": settings.public_url}] if settings.public_url else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the host that a client claims
    )
    guarded = Depends(HTTPBearer(auto_error=False))  # shows on the page of the API that a token is asked for
    refusals = describe_refusals(410, 413, 414, 503)
    app.include_router(_make_health_router(served), responses=refusals)
    app.include_router(make_docs_router())
    for make_router in _ROUTERS:
        app.include_router(
            make_router(served),
            responses=(describe_refusals(401) if settings.token else {}) | refusals,
            dependencies=[guarded] if settings.token else [],
        )
    add_error_handlers(app)
    app.add_middleware(LimitsMiddleware, settings=settings)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Authorization", "Content-Type", "If-None-Match", "Range"],
            expose_headers=list(_EXPOSED),
            max_age=86400,
        )
    return app


def _make_health_router(served: ServedStore) -> APIRouter:
    """Return the route that orchestrators ask."""
    router = APIRouter(tags=["server"])

    @router.get("/health", summary="Whether the store can be read")
    def get_health() -> Health:
        """Answer with the snapshot of the main branch, 503 while it cannot be read; needs no token."""
        return Health(status="ok", snapshot=served.versions.find("main").version.snapshot)

    return router
