"""``nexus_core/options/first_party.json``: what the plugins in ``plugins/`` have, for hints at what to install."""

from __future__ import annotations

import importlib
import json
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PREFIX = "nexus-hub-"
DATA = ROOT / "nexus_core/options/first_party.json"
if not DATA.exists():  # the core reads it, and the plugins import the core
    DATA.write_text('{"distribution_prefix": "", "plugins": {}, "plugin_commands": {}}\n', encoding="utf-8")
NO_SETTINGS = {
    "options": [],
    "workflow_metadata": {},
    "services": {},
    "policies": {},
    "provides": {},
    "policy_lists": [],
}


def plugins(root: Path = ROOT) -> dict[str, dict[str, Any]]:
    """Return each plugin by its name."""
    found = {}
    for project in _projects(root):
        groups = project.get("entry-points", {})
        for name, target in groups.get("nexus.plugins", {}).items():
            found[name] = _settings(target) | {"commands": sorted(groups.get("nexus.commands", {}))}
    return found


def plugin_commands(root: Path = ROOT) -> dict[str, str]:
    """Return the commands that distributions add to ``nexus plugins``, each with its distribution."""
    return {
        command: project["name"]
        for project in _projects(root)
        for command in project.get("entry-points", {}).get("nexus.plugin_commands", {})
    }


def _projects(root: Path) -> list[dict[str, Any]]:
    paths = sorted(root.glob("plugins/*/pyproject.toml"))
    return [tomllib.loads(path.read_text(encoding="utf-8"))["project"] for path in paths]


def _settings(target: str) -> dict[str, Any]:
    module, _, attribute = target.partition(":")
    plugin = importlib.import_module(module)
    register = getattr(getattr(plugin, attribute) if attribute else plugin, "nexus_register_settings", None)
    if register is None:
        return dict(NO_SETTINGS)
    model = register()
    return {
        "options": list(model.model_fields),
        "workflow_metadata": model.workflow_metadata,
        "services": model.services,
        "policies": model.policies,
        "provides": model.provides,
        "policy_lists": [name for name, field in model.model_fields.items() if _lists_policies(field)],
    }


def _lists_policies(field: Any) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("lists_policies"))


def first_party(_text: str) -> str:
    """Return the file."""
    data = {"distribution_prefix": PREFIX, "plugins": plugins(), "plugin_commands": plugin_commands()}
    return json.dumps(data, indent=1) + "\n"


FILES = {"nexus_core/options/first_party.json": first_party}
