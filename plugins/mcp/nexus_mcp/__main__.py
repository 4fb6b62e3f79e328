"""``python -m nexus_mcp MODULE:ATTRIBUTE``: serve an application's workflows to one MCP client on stdio."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import TYPE_CHECKING

from nexus_core import ConfigurationError, Nexus, process
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
        process.run_until_signal(_serve(given[0]))
        return 0
    except ConfigurationError as exc:
        print(f"nexus_mcp: {exc}", file=sys.stderr)  # noqa: T201
        return 1


async def _serve(target: str) -> None:
    # Before the application is imported: its module may print too.
    with redirected() as (reader, writer):
        nexus = _application(target)
        async with nexus:
            channel = nexus.channel("mcp")
            if not isinstance(channel, McpChannel):
                raise ConfigurationError(f'{target} does not load the plugin "mcp".')
            await channel.serve_streams(reader, writer)


def _application(target: str) -> Nexus:
    module, _, attribute = target.partition(":")
    sys.path.insert(0, "")
    found = getattr(importlib.import_module(module), attribute, None)
    if not isinstance(found, Nexus):
        raise ConfigurationError(f"{target} is not a Nexus object.")
    return found


if __name__ == "__main__":
    raise SystemExit(main())
