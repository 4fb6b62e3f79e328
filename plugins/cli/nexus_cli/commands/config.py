"""``nexus config``: the options with their values and sources, and the schema of the configuration file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from nexus_cli.context import CliContext
    from nexus_core.app.nexus import Nexus

FILE = "NEXUS_CONFIG_FILE"


def show(cli: CliContext, file: str, *, changed: bool) -> None:
    """Show every option; with ``changed``, only options that are set."""
    from nexus_toolkit.option_list import options

    found = [each for each in options(_platform(cli, file)) if not changed or each.source is not None]
    if not cli.output.pretty:
        cli.output.json(msgspec.json.encode({"options": [each.to_dict() for each in found]}))
    elif not found:
        cli.output.line("All options have their defaults.")
    else:
        rows = [
            (each.name, _text(each.value), each.source or "default", _text(each.default), each.plugin) for each in found
        ]
        cli.output.table(["OPTION", "VALUE", "SOURCE", "DEFAULT", "PLUGIN"], rows)


def schema(cli: CliContext, file: str) -> None:
    """Print the JSON Schema of a configuration file."""
    from nexus_toolkit.option_list import schema as schema_of

    cli.output.document(schema_of(_platform(cli, file)))


def _platform(cli: CliContext, file: str) -> Nexus:
    """Return the application; if none is named, a platform with the options of the environment and the file.

    Raises:
        ConfigurationError: An option is invalid, or the application can't be loaded.
    """
    if file:
        os.environ[FILE] = file  # applications read it there
    if cli.app_name() is not None:
        return cli.nexus()
    from nexus_core.app.nexus import Nexus

    return Nexus()


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
