"""``python -m nexus_mcp MODULE:ATTRIBUTE``: serve an application's workflows to one MCP client on stdio."""

from __future__ import annotations

import asyncio
import importlib
import logging
import signal
import sys
from typing import TYPE_CHECKING

from nexus_core import ConfigurationError, Nexus
from nexus_mcp.channel import McpChannel
from nexus_mcp.stdio import redirected

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "usage: python -m nexus_mcp MODULE:ATTRIBUTE"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until the client closes its side. Returns the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if len(given) != 1 or ":" not in given[0]:
        print(USAGE, file=sys.stderr)  # noqa: T201
        return 2
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    try:
        return asyncio.run(_serve(given[0]))
    except ConfigurationError as exc:
        print(f"nexus_mcp: {exc}", file=sys.stderr)  # noqa: T201
        return 1


async def _serve(target: str) -> int:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    # Before the application is imported: its module may print too.
    with redirected() as (reader, writer):
        nexus = _application(target)
        try:
            async with nexus:
                channel = nexus.channel("mcp")
                if not isinstance(channel, McpChannel):
                    raise ConfigurationError(f'{target} does not load the plugin "mcp".')
                await channel.serve_streams(reader, writer)
        except asyncio.CancelledError:
            return 0
    return 0


def _application(target: str) -> Nexus:
    module, _, attribute = target.partition(":")
    sys.path.insert(0, "")
    found = getattr(importlib.import_module(module), attribute, None)
    if not isinstance(found, Nexus):
        raise ConfigurationError(f"{target} is not a Nexus object.")
    return found


if __name__ == "__main__":
    raise SystemExit(main())
