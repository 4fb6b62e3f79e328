"""The peer product, kailash-nexus: the same function by its handler registration, and the same Kailash workflow.

Its handlers read annotations as objects; with ``from __future__ import annotations`` they would take ``a`` as text.
"""

from common import arguments
from kailash_workflow import build
from nexus import Nexus


async def add(a: int, b: int) -> dict:
    """Add two numbers."""
    return {"sum": a + b}


if __name__ == "__main__":
    given = arguments(mcp=0, kailash=0)
    app = Nexus(api_port=given.port, mcp_port=given.mcp, enable_durability=False, enable_auth=False, rate_limit=None)
    app.register_handler("add", add)
    if given.kailash:
        app.register("two_nodes", build())
    app.start()
