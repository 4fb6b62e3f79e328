"""``/openapi.json`` and ``/docs``: the channel's own description, for programs and for people, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import FileResponse, Response
from starlette.routing import Route

from nexus_api.openapi import OpenAPI
from nexus_api.translate import view_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from nexus_core import Nexus

STATIC = Path(__file__).parent / "static"
FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "start.js", "favicon-32x32.png")
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
}


def routes(nexus: Nexus, title: str) -> Sequence[Route]:
    """Return the routes of the documentation."""
    document = OpenAPI(nexus, title)

    async def openapi(request: Request) -> Response:
        view = await view_of(nexus, request.scope)
        text = document.text(await view.workflows(), request.scope.get("root_path", ""))
        return Response(text, media_type="application/json")

    def file(name: str) -> Route:
        async def send_file(_: Request) -> Response:
            return FileResponse(STATIC / name, headers=_HEADERS)

        return Route("/docs" if name == "index.html" else f"/docs/{name}", send_file)

    return [Route("/openapi.json", openapi), *(file(name) for name in ("index.html", *FILES))]
