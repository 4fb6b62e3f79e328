"""An application with a workflow for each thing that a command line meets."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, Literal

from nexus_core import Context, Nexus, WorkflowError

nexus = Nexus()


@nexus.workflow
def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    Args:
        a: The first.
        b: The second.
    """
    return a + b


@nexus.workflow
def echo(
    text: str = "", number: float = 0, flag: bool = False, tags: list[str] = [], sizes: list[int] = [],  # noqa: B006
    kind: Literal["small", "large"] = "small", options: dict[str, int] | None = None, either: int | str | None = None,
    dry_run: bool = False, anything: Any = None,
) -> dict[str, Any]:  # fmt: skip
    """Return what came."""
    return dict(locals())


@nexus.workflow
def colliding(timeout: int = 1, data: str = "") -> list[Any]:
    return [timeout, data]


@nexus.workflow
def chatty() -> str:
    print("printed by the workflow")
    return "result"


@nexus.workflow
async def slow(steps: int = 100, *, context: Context) -> str:
    for step in range(steps):
        context.progress(step + 1, steps, f"step {step + 1}")
        await asyncio.sleep(0.05)
    return "done"


@nexus.workflow
async def stream(n: int = 3, pause: float = 0.01) -> Any:
    for i in range(n):
        yield {"i": i}
        await asyncio.sleep(pause)


@nexus.workflow
def visit(context: Context) -> int:
    """Count visits in the caller's session."""
    assert context.session is not None
    context.session.state["visits"] = context.session.state.get("visits", 0) + 1
    return int(context.session.state["visits"])


@nexus.workflow
async def followers() -> int:
    """Return how many follow events."""
    return nexus.event_log.followed_by


@nexus.workflow
def told() -> None:
    raise WorkflowError("no luck\x1b[31m\r\ntoday")


@nexus.workflow
def crash() -> None:
    raise ValueError("the secret")


@nexus.workflow
def hang(path: str = "") -> None:
    if path:
        Path(path).touch()
    time.sleep(1000)


@nexus.workflow
async def marks_cancel(path: str) -> None:
    Path(path + ".began").touch()
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        Path(path).touch()
        raise


@nexus.workflow
def not_json() -> Any:
    return object()


@nexus.workflow
def evil() -> str:
    return "\x1b]0;title\x07 \x9b31m \u202e"


@nexus.workflow
def huge(n: int) -> str:
    return "x" * n
