"""``/openapi.json`` and ``/docs``: the OpenAPI document and a documentation page that needs no network."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from nexus_api.openapi import OpenAPI
from nexus_api.operations import DescribedRoute
from nexus_api.translate import view_of
from nexus_core.server.public_address import root_path, server_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from nexus_core import Platform

STATIC = Path(__file__).parent / "static"
FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "start.js", "theme.js", "favicon-32x32.png")
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
}


def routes(platform: Platform, title: str, described: Sequence[BaseRoute]) -> Sequence[DescribedRoute]:
    """Return the routes of the documentation.

    Args:
        platform: The platform.
        title: The title of the document and the page.
        described: The routes that it describes.
    """
    document = OpenAPI(platform, title, described)

    async def openapi(request: Request) -> Response:
        view = await view_of(platform, request.scope)
        text = await document.text(await view.workflows(), server_url(request.scope))
        return Response(text, media_type="application/json")

    page = (STATIC / "index.html").read_text().replace("{title}", escape(title))

    async def show(_: Request) -> Response:
        return HTMLResponse(page, headers=_HEADERS)

    async def redirect(request: Request) -> Response:
        return RedirectResponse(f"{quote(root_path(request.scope))}/docs")

    def file(name: str) -> DescribedRoute:
        async def send_file(_: Request) -> Response:
            return FileResponse(STATIC / name, headers=_HEADERS)

        return DescribedRoute(f"/docs/{name}", send_file, _answers("A file of the documentation page."))

    return [
        DescribedRoute("/", redirect, _answers("Redirect to `/docs`.", "307")),
        DescribedRoute("/docs", show, _answers("Documentation page; its files are below `/docs/`.")),
        DescribedRoute(
            "/openapi.json", openapi, _answers("OpenAPI document of the workflows that the caller may run.")
        ),
        *(file(name) for name in FILES),
    ]


def _answers(summary: str, status: str = "200") -> dict[str, Any]:
    """Return the operation of a route that the OpenAPI document leaves out: it is about the calls of programs."""
    return {"summary": summary, "parameters": (), "responses": {status: {"description": summary}}}
