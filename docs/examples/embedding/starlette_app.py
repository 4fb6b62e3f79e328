"""Nexus beside other routes of a Starlette application: `hypercorn starlette_app:app`.

REST is at /nexus/api, MCP at /nexus/mcp, the command line at /nexus/cli. A mounted application is not told that the
server starts and stops, so that the application's own lifespan starts the platform.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from nexus_core import Nexus

nexus = Nexus()


@nexus.workflow
def greet(name: str) -> str:
    """Greet somebody."""
    return f"Hello {name}"


async def home(request: Request) -> PlainTextResponse:
    """Answer by a workflow: the same checks and limits hold as for every other caller."""
    result = await nexus.invoke("greet", {"name": request.query_params.get("name", "you")})
    return PlainTextResponse(result.value)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Start the platform with the server, and let its work finish when that stops."""
    async with nexus:
        yield


app = Starlette(routes=[Route("/", home), Mount("/nexus", nexus.asgi_app())], lifespan=lifespan)
