"""``python -m nexus_core.plugins.check NAME FILE``: load one plugin and write its record as JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

from nexus_core.options import PluginSettings
from nexus_core.plugins.discovery import discover
from nexus_core.plugins.manager import PluginManager
from nexus_core.threads import DaemonThreads


def main(name: str, file: str) -> None:
    """Load the plugin, ask it for its settings model, and write down what became of it."""
    logging.disable(logging.CRITICAL)
    others = {record.name for record in discover()} - {name}
    manager = PluginManager(DaemonThreads("nexus"), disabled=others)
    manager.load_installed()
    for owner, model in manager.collect("nexus_register_settings"):
        if not (isinstance(model, type) and issubclass(model, PluginSettings)):
            manager.fail(owner, "nexus_register_settings must return a subclass of PluginSettings")
    record = next(record for record in manager.records if record.name == name)
    Path(file).write_text(json.dumps(record.to_dict()), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # nothing that the plugin has started is waited for
