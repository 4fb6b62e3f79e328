"""``/api/workflows``: what can be called, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

from nexus_api.translate import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from nexus_core import Nexus


def json_answer(value: Any, status: int = 200) -> Response:
    """Return an answer with a JSON body."""
    return Response(encode(value), status, media_type="application/json")


def routes(nexus: Nexus) -> Sequence[Route]:
    """Return the routes under ``/api/workflows``."""

    async def list_all(_: Request) -> Response:
        found = (nexus.workflows.get(name) for name in nexus.list_workflows())
        return json_answer({"workflows": [{"name": each.name, "description": each.description} for each in found]})

    async def describe(request: Request) -> Response:
        return json_answer(nexus.workflows.get(request.path_params["name"]).describe())

    return [Route("/api/workflows", list_all), Route("/api/workflows/{name}", describe)]
