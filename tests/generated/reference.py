"""The reference: pages below ``docs/reference`` that follow from settings models, error classes and commands."""

from __future__ import annotations

from typing import Any

from first_party import settings_models
from marked_parts import replaced, table

OPTIONS = ["option", "default", "meaning"]


def option_rows(model: Any) -> list[list[str]]:
    """Return a row for each option of a settings model."""
    rows = []
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "none" if default in (None, [], (), {}) else str(default)
        rows.append([f"`{name}`", shown, field.description or ""])
    return rows


def options(page: str) -> str:
    """Write the options of the core and of each plugin."""
    from nexus_core import CoreSettings

    page = replaced(page, "core options", table(OPTIONS, option_rows(CoreSettings)))
    models = settings_models()
    parts = [
        f"### {name}\n\n[{name}](../../plugins/{name}/README.md) says more.\n\n{table(OPTIONS, option_rows(model))}"
        for name, model in models.items()
    ]
    return replaced(page, "plugin options", "\n\n".join(parts))


def errors(page: str) -> str:
    """Write a row for each class of errors: what a caller may see, and what ends a start."""
    from nexus_core import errors as module

    def summary(cls: type) -> str:
        return " ".join((cls.__doc__ or "").partition("\n\n")[0].split())

    rows = [
        [
            f"`{each.code}`",
            f"`{each.__name__}`",
            *map(str, (each.status, each.exit_code, each.jsonrpc_code)),
            summary(each),
        ]
        for each in module.error_classes()
        if each.__module__ == module.__name__
    ]
    page = replaced(page, "errors", table(["code", "class", "HTTP", "exit", "JSON-RPC", "when"], rows))
    starting = [module.ConfigurationError, module.PluginError, module.PortInUse]
    return replaced(
        page, "start errors", table(["class", "when"], [[f"`{each.__name__}`", summary(each)] for each in starting])
    )


def events(page: str) -> str:
    """Write a row for each type of events: the core's, then those of plugins."""
    from nexus_core.events.event import EVENT_TYPES

    rows = [[f"`{name}`", meaning, ""] for name, meaning in EVENT_TYPES.items()]
    for plugin, model in settings_models().items():
        rows += [[f"`{name}`", meaning, plugin] for name, meaning in model.event_types.items()]
    return replaced(page, "event types", table(["type", "meaning", "plugin"], rows))


def metadata(page: str) -> str:
    """Write a row for each key of workflows' metadata: the core's, then those of plugins."""
    from nexus_core.workflows.metadata import KEYS

    found = {"": KEYS} | {plugin: model.workflow_metadata for plugin, model in settings_models().items()}
    rows = [
        [f"`{name}`", key.meaning, "" if key.option is None else f"`{key.option}`", plugin]
        for plugin, keys in found.items()
        for name, key in keys.items()
    ]
    return replaced(page, "metadata keys", table(["key", "meaning", "needs the option", "plugin"], rows))


FILES = {
    "docs/reference/options.md": options,
    "docs/reference/errors.md": errors,
    "docs/reference/events.md": events,
    "docs/reference/metadata.md": metadata,
}
