"""``/docs``: the page of the API, from this server alone."""

from importlib.resources import files

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import HTMLResponse

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
    """The page and what it loads."""
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
