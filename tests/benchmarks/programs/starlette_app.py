"""The least that a Starlette application can do for the same answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common import arguments
from hypercorn_settings import serve
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request


async def execute(request: Request) -> JSONResponse:
    """Add two numbers. The reply has the members that Nexus sends, the run id too."""
    body = await request.json()
    return JSONResponse({"result": {"sum": body["a"] + body["b"]}, "run_id": "019ab0e5f2c8aaaaaaaaaaaaaaaaaaaa"})


if __name__ == "__main__":
    serve(Starlette(routes=[Route("/api/workflows/add/execute", execute, methods=["POST"])]), arguments().port)
