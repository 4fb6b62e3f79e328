"""``python -m nexus_core.app.plugin_check FILE [NAME]``: load one plugin, or start all, and write records as JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from nexus_core.concurrency.threads import DaemonThreads
from nexus_core.options.sources import PluginSettings
from nexus_core.plugins.discovery import discover
from nexus_core.plugins.manager import PluginManager


def main(file: str, name: str | None = None) -> None:
    """Write down what became of a plugin that is loaded, or of all plugins when a platform has started."""
    logging.disable(logging.CRITICAL)
    found = asyncio.run(_started()) if name is None else _loaded(name)
    Path(file).write_text(json.dumps(found), encoding="utf-8")


async def _started() -> dict[str, Any]:
    """Start a platform, without ports, with the options of the environment and the configuration file."""
    from nexus_core.app.nexus import Nexus
    from nexus_core.errors import ConfigurationError

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
    """Load a plugin alone, and ask it for its settings model."""
    others = {record.name for record in discover()} - {name}
    manager = PluginManager(DaemonThreads("nexus"), disabled=others)
    manager.load_installed()
    for owner, model in manager.collect("nexus_register_settings"):
        if not (isinstance(model, type) and issubclass(model, PluginSettings)):
            manager.fail(owner, "nexus_register_settings must return a subclass of PluginSettings")
    return next(record for record in manager.records if record.name == name).to_dict()


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # nothing that the plugin has started is waited for
