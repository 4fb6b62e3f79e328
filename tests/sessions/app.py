"""The application that the tests of sessions serve, in processes of its own."""

from __future__ import annotations

import asyncio

from nexus_core import Context, Nexus

nexus = Nexus()


@nexus.workflow
async def remember(key: str, value: int, context: Context) -> dict[str, object]:
    """Keep a value in the caller's session."""
    assert context.session is not None
    context.session.state[key] = value
    return context.session.state


@nexus.workflow
async def append(item: int, context: Context) -> int:
    """Read a list in the caller's session, and write it back with one item more."""
    assert context.session is not None
    items = list(context.session.state.get("items", []))
    await asyncio.sleep(0.005)  # for as long, others read the same
    context.session.state["items"] = [*items, item]
    return len(items) + 1


@nexus.workflow
async def recall(context: Context) -> dict[str, object] | None:
    """Return the state of the caller's session."""
    return context.session.state if context.session else None


@nexus.workflow
async def add(a: int, b: int = 0) -> int:
    return a + b


@nexus.workflow(serial="session")
async def collect(item: int, context: Context) -> int:
    """Do the same as `append`, one at a time for each session."""
    return await append(item, context)
