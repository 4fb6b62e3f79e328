"""The guide's code blocks, as they stand in its text, and what they need around them."""

from __future__ import annotations

import re
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from nexus_core import Nexus

TEXT = (Path(__file__).parents[1] / "guide" / "guide.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def blocks(language: str = "python") -> dict[str, str]:
    """Return each code block of a language by the heading above it. No heading has two."""
    found: dict[str, str] = {}
    for match in _BLOCK.finditer(TEXT):
        if match[1] == language:
            heading = [each[1] for each in _HEADING.finditer(_without_code(TEXT[: match.start()]))][-1]
            assert heading not in found
            found[heading] = match[2]
    return found


def _without_code(text: str) -> str:
    return _BLOCK.sub("", text)


def run(heading: str, **names: Any) -> dict[str, Any]:
    """Run a block as a module of its own, with names that the guide leaves undefined; return what it has defined."""
    space = {"__name__": "guide", **names}
    exec(compile(blocks()[heading], f"guide.md: {heading}", "exec"), space)
    return space


@asynccontextmanager
async def served(nexus: Nexus) -> AsyncIterator[dict[str, str]]:
    """Serve a platform on free ports of this machine, whatever ports the guide gives it; yield each channel's URL."""
    await nexus.__aenter__()
    for channel in nexus.channels:
        if channel.port is not None:
            channel.port = 0
    async with nexus.serving() as listeners:
        yield {name: each.url for each in listeners for name in each.channels}


def hosts(monkeypatch: Any, **places: int) -> None:
    """Let names of hosts in the guide be on this machine: ``redis_cluster=6390``, whatever port is asked for."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **named: Any) -> Any:
        key = str(host.decode() if isinstance(host, bytes) else host).replace("-", "_").replace(".", "_")
        return real("127.0.0.1", places[key], *args, **named) if key in places else real(host, port, *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def sentences() -> Iterator[str]:
    """Yield each sentence, bullet and checkbox of the guide outside of its code."""
    for line in _without_code(TEXT).splitlines():
        text = line.strip()
        if text and not text.startswith(("#", "---")):
            yield text
