"""``nexus_core/options/first_party.json``: what the plugins in ``plugins/`` have, for hints at what to install."""

from __future__ import annotations

import json
import tomllib
from importlib.metadata import EntryPoint
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
            found[name] = _described(settings_model(target)) | {"commands": sorted(groups.get("nexus.commands", {}))}
    return found


def settings_models(root: Path = ROOT) -> dict[str, Any]:
    """Return the settings model of each plugin that has one, by the plugin's name."""
    targets = [each.get("entry-points", {}).get("nexus.plugins", {}) for each in _projects(root)]
    models = {name: settings_model(target) for each in targets for name, target in each.items()}
    return {name: model for name, model in models.items() if model is not None}


def settings_model(target: str) -> Any:
    """Return the settings model of a plugin that an entry point names, or None."""
    register = getattr(EntryPoint("", target, "").load(), "nexus_register_settings", None)
    return None if register is None else register()


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


def _described(model: Any) -> dict[str, Any]:
    if model is None:
        return dict(NO_SETTINGS)
    return {
        "options": list(model.model_fields),
        "workflow_metadata": {key: each.option for key, each in model.workflow_metadata.items()},
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
