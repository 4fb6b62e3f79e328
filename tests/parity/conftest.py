"""Serves a platform in a thread of its own: every test has a loop, and the doors are used from outside."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus_core import Nexus

sys.path.insert(0, str(Path(__file__).parent))


@contextmanager
def serving(nexus: Nexus) -> Iterator[tuple[dict[str, str], asyncio.AbstractEventLoop]]:
    """Yield the channels' addresses, and the loop that the platform is on."""
    served: dict[str, Any] = {}
    started = threading.Event()

    async def serve() -> None:
        served["loop"], served["stop"] = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with nexus.serving() as listeners:
                served["urls"] = {name: each.url for each in listeners for name in each.channels}
                started.set()
                await served["stop"].wait()
        finally:
            started.set()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(30)
    assert {"api", "cli", "mcp"} <= served["urls"].keys()
    yield served["urls"], served["loop"]
    served["loop"].call_soon_threadsafe(served["stop"].set)
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture(name="serving", scope="session")
def serving_fixture() -> Any:
    return serving
