"""The same tool on fastmcp, under hypercorn or, with ``--own 1``, under the server that it brings."""

from __future__ import annotations

from common import arguments
from fastmcp import FastMCP
from hypercorn_settings import serve

server: FastMCP = FastMCP("peer")


@server.tool
async def add(a: int, b: int) -> dict:
    """Add two numbers."""
    return {"sum": a + b}


if __name__ == "__main__":
    given = arguments(own=0)
    if given.own:
        server.run(transport="http", host="127.0.0.1", port=given.port, show_banner=False)
    else:
        serve(server.http_app(path="/mcp"), given.port)
