"""``nexus serve``: an application on its ports, or for one client on stdin and stdout."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nexus_core.errors import ConfigurationError
from nexus_core.options import first_party

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nexus_core.app.nexus import Nexus


def run(arguments: Sequence[str]) -> int:
    """Run ``nexus serve`` with its arguments, where no command line is installed. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="nexus serve", description="Serve an application on its ports until it is stopped.", allow_abbrev=False
    )
    parser.add_argument(
        "target", nargs="?", metavar="MODULE:ATTR", default=os.environ.get("NEXUS_APP", ""),
        help="the application; also FILE.py:ATTR [NEXUS_APP]",
    )  # fmt: skip
    parser.add_argument("--stdio", action="store_true", help="serve one client on stdin and stdout; open no port")
    options = parser.parse_args(arguments)
    from nexus_core.app.applications import configured_app, load

    try:
        target = options.target or configured_app()
        if not target:
            raise ConfigurationError("No application is named: use nexus serve MODULE:ATTR, or set NEXUS_APP.")
        serve(lambda: load(target), stdio=options.stdio)
    except ConfigurationError as exc:
        print(f"nexus: {exc}", file=sys.stderr)
        return 1
    return 0


def serve(load: Callable[[], Nexus], *, stdio: bool) -> None:
    """Serve until the process gets a signal to stop.

    Args:
        load: Returns the application.
        stdio: Whether to serve one client on stdin and stdout, through the channel that can.

    Raises:
        ConfigurationError: The application can't be loaded or served.
        SystemExit: The application has already said on stderr why it can't start.
    """
    if not stdio:
        load().start()
        return
    from nexus_core.concurrency import process

    with _stdout_for_protocol():
        nexus = load()
    process.run_until_signal(_stdio(nexus))


async def _stdio(nexus: Nexus) -> None:
    async with nexus:
        channel = next((each for each in nexus.channels if hasattr(each, "serve_stdio")), None)
        if channel is None:
            plugin = first_party.provider("stdio")[0]
            reason = nexus.plugins.inactive().get(plugin)
            cure = first_party.hint("stdio") if reason is None else f"it is installed, but not active: {reason}"
            raise ConfigurationError(f'--stdio needs the plugin "{plugin}": {cure}')
        try:
            await channel.serve_stdio()
        finally:
            os.dup2(2, 1)  # what a workflow that still runs writes is not for the client, who may have gone


@contextmanager
def _stdout_for_protocol() -> Iterator[None]:
    """Send what is written to stdout meanwhile to stderr: stdout belongs to a protocol."""
    sys.stdout.flush()
    wire = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(wire, 1)
        os.close(wire)
