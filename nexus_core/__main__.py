"""The ``nexus`` script. ``nexus plugins`` is answered here; every other command comes from the plugin ``cli``.

It belongs to the core so that a broken plugin can't take away the tool that removes it.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points

CLI_GROUP = "nexus.cli"
"""Entry point group of the command line: one callable that takes the arguments and returns the exit code."""

_USAGE = """\
usage: nexus plugins list|check|info|disable|enable

The other commands need the plugin "cli": pip install nexus-hub-cli
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the script and return its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["plugins"] and given[1:2] != ["new"]:
        from nexus_core.plugins import commands

        return commands.run(given[1:])
    found = list(entry_points(group=CLI_GROUP))
    if len(found) > 1:
        print(f"nexus: {' and '.join(_owner(each) for each in found)} both provide the command line.", file=sys.stderr)
        return 1
    if not found:
        print(_USAGE, end="", file=sys.stderr)
        return 0 if given in (["--help"], ["-h"]) else 1
    try:
        command_line = found[0].load()
    except Exception as exc:
        print(f"nexus: the command line of {_owner(found[0])} can't be loaded: {exc!r}", file=sys.stderr)
        print("nexus: `nexus plugins list` and `nexus plugins disable` still work.", file=sys.stderr)
        return 1
    return int(command_line(given))


def _owner(entry_point: EntryPoint) -> str:
    return entry_point.dist.name if entry_point.dist else entry_point.value


if __name__ == "__main__":
    sys.exit(main())
