"""``python -m nexus_core.app.plugin_check FILE [NAME]``: load one plugin, or start all, and write records as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus_core.app import hookspecs
from nexus_core.app.plugin import PluginFactory
from nexus_core.concurrency.threads import DaemonThreads
from nexus_core.errors import ConfigurationError
from nexus_core.options.description import described_options
from nexus_core.options.settings import ENV_PREFIX
from nexus_core.options.sources import OptionSources
from nexus_core.plugins.discovery import discover
from nexus_core.plugins.manager import PluginManager
from nexus_core.plugins.option_reader import OptionReader

if TYPE_CHECKING:
    from nexus_core.app.nexus import Nexus


def main(file: str, name: str | None = None) -> None:
    """Write down what became of a plugin that is loaded, or of all plugins when a platform has started."""
    logging.disable(logging.CRITICAL)
    found = asyncio.run(_started()) if name is None else _loaded(name)
    Path(file).write_text(json.dumps(found), encoding="utf-8")


async def _started() -> dict[str, Any]:
    """Start a platform, without ports, with the options of the environment and the configuration file."""
    from nexus_core.app.nexus import Nexus

    nexus: Nexus | None = None
    complaint = ""
    try:
        nexus = Nexus()
        async with nexus:
            pass
    except ConfigurationError as exc:
        complaint = str(exc)
    records = [] if nexus is None else nexus.plugins.records
    return {"complaint": complaint, "records": [record.to_dict() for record in records]}


def _loaded(name: str) -> dict[str, Any]:
    """Load a plugin alone, with its options as the environment and the configuration file have them."""
    others = {record.name for record in discover()} - {name}
    options = OptionReader(OptionSources({}))
    platform = _empty_platform()
    manager = PluginManager(
        hookspecs, DaemonThreads("nexus"), disabled=others, make=PluginFactory(platform, options), platform=platform
    )
    try:
        manager.load_installed()
    except ConfigurationError as exc:
        manager.fail(name, str(exc))
    else:
        options.read_plugins(manager)
    record = next(record for record in manager.records if record.name == name)
    model = options.models.get(name)
    return record.to_dict() | {"options": [] if model is None else described_options(model)}


def _empty_platform() -> Nexus:
    """Return a platform without plugins, which no option of the environment is for."""
    from nexus_core.app.nexus import Nexus

    options = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith(ENV_PREFIX)}
    try:
        return Nexus(discover=False)
    finally:
        os.environ.update(options)


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # nothing that the plugin has started is waited for
