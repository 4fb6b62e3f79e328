"""What the project's own plugins have, read from a generated file: for hints at what to install.

One entry does more: the option that switches on what provides "authentication" stops the start where that is missing.

``first_party.json`` is written by ``make generate`` from the plugins' settings models and entry points.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_DATA: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
_PLUGINS: dict[str, dict[str, Any]] = _DATA["plugins"]

DISTRIBUTION_PREFIX: str = _DATA["distribution_prefix"]

OPTIONS: dict[str, tuple[str, ...]] = {plugin: tuple(each["options"]) for plugin, each in _PLUGINS.items()}
"""The options of each plugin."""

METADATA: dict[str, dict[str, str | None]] = {
    plugin: each["workflow_metadata"] for plugin, each in _PLUGINS.items() if each["workflow_metadata"]
}
"""The keys of workflows' metadata that each plugin reads, and the option that switches it on."""

SERVICES: dict[str, tuple[str, str]] = {
    name: (plugin, option or "") for plugin, each in _PLUGINS.items() for name, option in each["services"].items()
}
"""Services, each with its plugin and the option that switches it on."""

PROVIDES: dict[str, tuple[str, str]] = {
    need: (plugin, option or "") for plugin, each in _PLUGINS.items() for need, option in each["provides"].items()
}
"""What else there is to install, each with its plugin and the option that switches it on."""

COMMANDS: dict[str, str] = {command: plugin for plugin, each in _PLUGINS.items() for command in each["commands"]}
"""Commands, each with its plugin."""

POLICIES: dict[tuple[str, ...], str] = {
    tuple(names.split()): option for each in _PLUGINS.values() for names, option in each["policies"].items()
}
"""Names in a list of middleware that stand for a policy of all channels, and the option that they switch on."""

POLICY_LISTS: tuple[str, ...] = tuple(option for each in _PLUGINS.values() for option in each["policy_lists"])
"""The options that hold such a list."""

PLUGIN_COMMANDS: dict[str, str] = _DATA["plugin_commands"]
"""Commands of ``nexus plugins`` in addition to the core's, each with its distribution."""


def every_option() -> set[str]:
    """Return the options of all first-party plugins."""
    return {option for options in OPTIONS.values() for option in options}


def owner_of(option: str) -> str | None:
    """Return the first-party plugin that an option belongs to, or None."""
    return next((plugin for plugin, options in OPTIONS.items() if option in options), None)


def install(plugin: str) -> str:
    """Return the command that installs a plugin."""
    return f"pip install {DISTRIBUTION_PREFIX}{plugin}"


def provider(need: str) -> tuple[str, str]:
    """Return the plugin that provides something, and the option that switches it on; each "" if unknown."""
    return PROVIDES.get(need, ("", ""))


def hint(need: str) -> str:
    """Return how to get what no active plugin provides: "pip install ...", and the option to set; "" if unknown."""
    plugin, option = provider(need)
    return f"{install(plugin)}{option and f', and set {option}'}" if plugin else ""
