"""The application: routes, and what stands before them. Read-only; no parameter names a file or an address."""

from pathlib import Path

from fastapi import APIRouter, Depends, FastAPI
from fastapi.security import HTTPBearer
from starlette.middleware.cors import CORSMiddleware

from mapper import __version__
from mapper.serve.answers import Health
from mapper.serve.context import Served
from mapper.serve.docs import make_docs_router
from mapper.serve.faults import add_fault_handlers, describe_refusals
from mapper.serve.guard import Guard
from mapper.serve.page import make_page_router
from mapper.serve.pixel import make_pixel_router
from mapper.serve.settings import AppSettings
from mapper.serve.stac import make_stac_router
from mapper.serve.stats import make_stats_router
from mapper.serve.tiles import make_tiles_router
from mapper.serve.versions import Versions
from mapper.serve.zarr import make_zarr_router

_ROUTERS = (
    make_page_router,
    make_zarr_router,
    make_tiles_router,
    make_pixel_router,
    make_stats_router,
    make_stac_router,
)
"""Each makes the routes of one subject from what is served; a new subject is a module and a name here."""
_EXPOSED = ("Accept-Ranges", "Content-Length", "Content-Range", "ETag", "X-Bounds", "X-Crs", "X-Level", "X-Units")


def make_app(location: str | Path, settings: AppSettings | None = None) -> FastAPI:
    """Make the application that serves a store.

    Args:
        location: Directory, or s3://, gs://, az:// location.
        settings: How it is set up.

    Raises:
        StoreError: If there is no store, or it cannot be read.
    """
    settings = settings or AppSettings()
    versions = Versions(location, stale_after_s=settings.stale_after_s, kept=settings.open_versions)
    served = Served(versions=versions, settings=settings)
    name = versions.find("main").version.description.name
    app = FastAPI(
        title=f"{name}: a map by mapper",
        version=__version__,
        servers=[{"url": settings.public_url}] if settings.public_url else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the host that a client claims
    )
    guarded = Depends(HTTPBearer(auto_error=False))  # says on the page of the API what the guard asks for
    refusals = describe_refusals(413, 414, 503)
    app.include_router(_make_health_router(served), responses=refusals)
    app.include_router(make_docs_router())
    for make_router in _ROUTERS:
        app.include_router(
            make_router(served),
            responses=(describe_refusals(401) if settings.token else {}) | refusals,
            dependencies=[guarded] if settings.token else [],
        )
    add_fault_handlers(app)
    app.add_middleware(Guard, settings=settings)
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


def _make_health_router(served: Served) -> APIRouter:
    router = APIRouter(tags=["server"])

    @router.get("/health", summary="Whether the store can be read")
    def get_health() -> Health:
        """Answers 503 while it cannot; asked without a token."""
        return Health(status="ok", snapshot=served.versions.find("main").version.snapshot)

    return router
