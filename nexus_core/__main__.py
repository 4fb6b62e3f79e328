"""The ``nexus`` script: ``nexus plugins`` is answered here, every other command by the plugin ``cli``.

Where that is not installed, ``nexus serve`` is answered here too.

It belongs to the core so that a broken plugin can't take away the tool that removes it.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

from nexus_core.options.first_party import hint, provider
from nexus_core.plugins.discovery import installed, read_models

if TYPE_CHECKING:
    from importlib.metadata import Distribution

CLI_GROUP = "nexus.cli"
"""Entry point group of the command line: one callable that takes the arguments and returns the exit code."""

_USAGE = f"""\
usage: nexus plugins list|check|info|disable|enable
       nexus serve MODULE:ATTR|FILE.py:ATTR [--stdio]

The other commands need the plugin "{provider("command line")[0]}": {hint("command line")}
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the script and return its exit code."""
    _accept_any_text()
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["plugins"]:
        from nexus_core.plugins import commands

        return commands.run(given[1:])
    unreadable: list[str] = []
    found = list(installed(CLI_GROUP, unreadable))
    if unreadable:
        read_models()
    if len(found) > 1:
        owners = " and ".join(_owner(distribution) for _, distribution in found)
        print(f"nexus: {owners} both provide the command line.", file=sys.stderr)
        return 1
    if not found and given[:1] == ["serve"]:
        from nexus_core.app import serving

        return serving.run(given[1:])
    if not found:
        print(_USAGE, end="", file=sys.stderr)
        return 0 if given in (["--help"], ["-h"]) else 1
    entry_point, distribution = found[0]
    try:
        command_line = entry_point.load()
    except Exception as exc:
        print(f"nexus: the command line of {_owner(distribution)} can't be loaded: {exc!r}", file=sys.stderr)
        print("nexus: `nexus plugins list` and `nexus plugins disable` still work.", file=sys.stderr)
        return 1
    return int(command_line(given))


def _accept_any_text() -> None:
    """Let no character fail where the terminal's encoding, or the locale's, does not have it: it is escaped."""
    for stream, errors in (
        (sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")
    ):  # fmt: skip
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _owner(distribution: Distribution) -> str:
    return str(distribution.metadata["Name"])


if __name__ == "__main__":
    sys.exit(main())
