"""``/api/workflows``: the workflows and their descriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from nexus_api.operations import OBJECT, DescribedRoute, operation
from nexus_api.operations import json_answer as described
from nexus_api.translate import encode, view_of
from nexus_core import NotFound
from nexus_core.server.asgi import rate_limit_headers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from nexus_core import Platform
    from nexus_core.app.view import CallerView


def json_answer(value: Any, view: CallerView, status: int = 200) -> Response:
    """Return a JSON response to the caller of a view, with its rate limit headers."""
    response = Response(encode(value), status, media_type="application/json")
    response.raw_headers += rate_limit_headers(view.rate_limit)
    return response


def routes(platform: Platform) -> Sequence[DescribedRoute]:
    """Return the routes under ``/api/workflows``."""

    async def list_all(request: Request) -> Response:
        view = await view_of(platform, request.scope)
        return json_answer({"workflows": [each.summary() for each in await view.workflows()]}, view)

    async def describe(request: Request) -> Response:
        view = await view_of(platform, request.scope)
        return json_answer((await view.workflow(request.path_params["name"])).describe(), view)

    listed = operation("Catalog", "List the workflows.", {200: described("The workflows.", OBJECT)})
    shown = operation("Catalog", "Describe a workflow.", {200: described("The workflow.", OBJECT)}, errors=(NotFound,))
    return [
        DescribedRoute("/api/workflows", list_all, listed),
        DescribedRoute("/api/workflows/{name}", describe, shown),
    ]
