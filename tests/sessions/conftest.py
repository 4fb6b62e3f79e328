"""Served processes for sessions and events: alone, or two that share a Redis."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from served import Process

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """A function that starts a process with options, given as environment variables without ``NEXUS_``."""
    from served import Process

    started: list[Process] = []

    def begin(**options: Any) -> Process:
        named = {f"NEXUS_{name.upper()}": str(value) for name, value in options.items()}
        process = Process(named, tmp_path / f"log {len(started)}")
        started.append(process)
        process.start()
        return process

    yield begin
    for process in started:
        process.stop()


@pytest.fixture(params=["alone", "two with redis"])
def two(request: pytest.FixtureRequest, start: Callable[..., Process], redis_server: Any) -> list[Process]:
    """Two processes that share their sessions and events; or one, twice."""
    if request.param == "alone":
        return [start()] * 2
    return [start(redis_url=redis_server.url, redis_timeout=10, session_backend="redis") for _ in range(2)]
