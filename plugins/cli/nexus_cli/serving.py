"""``nexus serve``: the application on its ports, or as an MCP server on stdin and stdout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import process
from nexus_core.errors import ConfigurationError

if TYPE_CHECKING:
    from nexus_cli.state import State
    from nexus_core.app import Nexus


def serve(state: State, *, stdio: bool) -> None:
    """Serve until the process is told to stop.

    Raises:
        ConfigurationError: The application can't be loaded or served.
        SystemExit: The application has already said on stderr why it can't start.
    """
    if stdio:
        import sys

        from nexus_cli.output import protocol_stdout

        with protocol_stdout():
            nexus = state.nexus()
        sys.stdout.flush()
        process.run_until_signal(_stdio(nexus))
    else:
        state.nexus().start()


async def _stdio(nexus: Nexus) -> None:
    async with nexus:
        channel = nexus.channel("mcp")
        serve_stdio = getattr(channel, "serve_stdio", None)
        if serve_stdio is None:
            raise ConfigurationError('--stdio needs the plugin "mcp": pip install nexus-hub-mcp')
        await serve_stdio()
