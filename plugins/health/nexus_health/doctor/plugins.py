"""The status of plugins, and how to fix inactive ones."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nexus_core.plugins.discovery import PluginRecord, PluginStatus, disabled_here
from nexus_health.doctor.findings import Finding, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MISSING = re.compile(r"No module named '([A-Za-z0-9_]+)")


def plugins(records: Iterable[PluginRecord]) -> Iterator[Finding]:
    """Examine plugins."""
    there = False
    for record in records:
        there = True
        shown = " ".join(text for text in (str(record.status), record.version, record.distribution) if text)
        match record.status:
            case PluginStatus.ACTIVE if record.warnings:
                advice = "mark it with @hookimpl, or rename it"
                yield warning("plugins", record.name, f"{shown}: {'; '.join(record.warnings)}", advice)
            case PluginStatus.ACTIVE | PluginStatus.AVAILABLE:
                yield Finding("plugins", record.name, shown)
            case PluginStatus.DISABLED:
                yield Finding("plugins", record.name, f"{shown}: {record.reason}", advice=_enable(record.name))
            case _:
                yield problem("plugins", record.name, f"{shown}: {record.reason}", _mend(record))
    if not there:
        yield Finding("plugins", "none", "no plugin is installed")


def _enable(name: str) -> str:
    if name in disabled_here():
        return f"to enable it: nexus plugins enable {name}, and remove it from NEXUS_DISABLED_PLUGINS"
    return f"to enable it: remove {name} from disabled_plugins"


def _mend(record: PluginRecord) -> str:
    otherwise = f"or nexus plugins disable {record.name}"
    if record.status is PluginStatus.INCOMPATIBLE:
        return f"pip install --upgrade nexus-hub-core {record.distribution}, {otherwise}"
    if record.status is PluginStatus.DUPLICATE:
        return f"pip uninstall one of them, {otherwise}"
    if found := _MISSING.search(record.reason):
        missing = found[1].replace("_", "-")
        return f"pip install {missing} (or pip install --force-reinstall {record.distribution}), {otherwise}"
    if not record.distribution:
        return "fix it where the application passes it: Nexus(plugins=[...])"
    return f"pip install --upgrade {record.distribution}, {otherwise}"
