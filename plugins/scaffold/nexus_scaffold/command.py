"""The command ``nexus plugins new``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nexus_core.plugins.discovery import core_version, discover
from nexus_scaffold.new import NewPluginError, kinds, write

if TYPE_CHECKING:
    import argparse


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of ``nexus plugins``."""
    text = "Write a new plugin with tests."
    command = commands.add_parser("new", help=text, description=text)
    command.add_argument("name", help="Name of the plugin.")
    command.add_argument("--kind", required=True, help=f"Kind of plugin: {', '.join(kinds())}.")
    command.add_argument(
        "--directory", type=Path, default=Path(), help="Parent of the new folder. Default: the current one."
    )
    command.set_defaults(run=_new)


def _new(options: argparse.Namespace) -> int:
    try:
        folder = write(
            options.name, options.kind, options.directory, {each.name for each in discover()}, core_version()
        )
    except NewPluginError as exc:
        print(f"nexus plugins: {exc}", file=sys.stderr)
        return 1
    print(f"Created {folder}. Next:\n\n  cd {shlex.quote(str(folder))}\n  pip install -e '.[test]'")
    print(f"  nexus plugins check {options.name}\n  pytest")
    return 0
