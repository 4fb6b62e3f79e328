"""An application whose workflows ask questions. With ``ASKING_AUTH`` set, it asks callers who they are."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "services"))
import callers

from nexus_core import Context, Nexus

nexus = Nexus(plugins=[callers.Callers()] if os.environ.get("ASKING_AUTH") else [])


class Decision(BaseModel):
    """What is decided about an order."""

    agreed: bool = Field(description="Whether it\x07 may leave.")
    speed: Literal["slow", "fast"] = "slow"
    days: int = Field(ge=1, le=9)
    note: str = ""
    tags: list[str] = []


@nexus.workflow
async def ship(order: str, context: Context) -> dict[str, Any]:
    details = {"order": order, "lines": [1, 2], "evil": "\x1b[31m\u202e"}
    asked = f"Ship {order}?\x1b]0;title\x07 " + "It is a long way to go, so be sure. " * 4
    decision = await context.ask(asked, Decision, details=details, timeout=3600)
    return decision.model_dump()


@nexus.workflow
async def confirm(context: Context) -> str:
    return "yes" if await context.ask("Are you sure?", bool) else "no"


@nexus.workflow
async def name(context: Context) -> str:
    return await context.ask("Who are you?")


@nexus.workflow
async def amount(context: Context) -> Any:
    return await context.ask("How much?", Annotated[float, Field(gt=0)])


@nexus.workflow
async def weights(context: Context) -> Any:
    return await context.ask("Which weights?", dict[str, int])


@nexus.workflow
async def colour(context: Context) -> Any:
    return await context.ask("Which?", Literal["red", "green", 3])


@nexus.workflow
async def twice(context: Context) -> Any:
    context.progress(1, 3, "begun")
    first = await context.ask("First?", int)
    context.progress(2, 3, "halfway")
    return [first, await context.ask("Second?", int)]


@nexus.workflow
async def both(context: Context) -> Any:
    import asyncio

    return await asyncio.gather(context.ask("Left?", int), context.ask("Right?", int))


@nexus.workflow
async def release(context: Context) -> str:
    return "released" if await context.ask("Release it?", bool, to="permission:data.read") else "kept"


@nexus.workflow
async def brief(context: Context) -> str:
    return await context.ask("Quick?", timeout=0.05, default="too late")
