"""What options there are: each with its value, where that was set, and the JSON Schema of a configuration file."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr
from pydantic.json_schema import GenerateJsonSchema

from nexus_core.options.channel import SUFFIX
from nexus_core.options.settings import CoreSettings, PluginSettings
from nexus_toolkit.redaction import HIDDEN, Redactor, option_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus_core.app.nexus import Nexus

DIALECT = "https://json-schema.org/draft/2020-12/schema"
CHANNELS = ("api", "cli", "mcp")
"""The channels whose configurations the schema of a file describes."""


@dataclass(frozen=True)
class Option:
    """An option of a platform.

    Attributes:
        name: What it is called.
        value: Its value in JSON's types, without secrets; of an object from code, its class's name.
        source: Where it was set; None for its default.
        default: Its default, likewise.
        plugin: Whose it is: a plugin's name, ``core``, or ``inactive`` where its plugin has failed.
        description: What it means.
    """

    name: str
    value: Any
    source: str | None
    default: Any
    plugin: str
    description: str

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def options(nexus: Nexus) -> Iterator[Option]:
    """Return every option of a platform, plugin by plugin, the core's first."""
    redactor = Redactor(secrets=option_secrets(nexus.every_settings))
    sources, owners = nexus.option_sources(), _owners(nexus)
    for settings in nexus.every_settings:
        for name, field in type(settings).model_fields.items():
            default = field.get_default(call_default_factory=True, validated_data={})
            yield Option(
                name,
                _shown(name, getattr(settings, name), redactor),
                sources.get(name),
                _shown(name, default, redactor),
                owners.get(type(settings), "inactive"),
                " ".join((field.description or "").split()),
            )


def _owners(nexus: Nexus) -> dict[type[PluginSettings], str]:
    found: dict[type[PluginSettings], str] = {CoreSettings: "core"}
    return found | {model: plugin for plugin, model in nexus.plugins.collect("nexus_register_settings")}


def _shown(name: str, value: Any, redactor: Redactor) -> Any:
    if isinstance(value, SecretStr):
        return HIDDEN
    if redactor.is_secret(name) and not isinstance(value, bool) and value not in (None, "", [], {}):
        return HIDDEN
    if isinstance(value, bool | int | float | None):
        return value
    if isinstance(value, str | Path):
        return redactor.text(str(value))
    if isinstance(value, list | tuple | set | frozenset):
        return [_shown("", each, redactor) for each in value]
    if isinstance(value, dict):
        return {str(key): _shown(str(key), each, redactor) for key, each in value.items()}
    return f"a {getattr(value, '__name__', type(value).__name__)}"


def schema(nexus: Nexus) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a configuration file for a platform with these plugins."""
    properties: dict[str, Any] = {}
    owners = _owners(nexus)
    for settings in nexus.every_settings:
        model = type(settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what only code can give, such as functions, has no schema
            found = model.model_json_schema(schema_generator=_Generator)["properties"]
        properties |= {name: _readable(each, owners.get(model, "inactive")) for name, each in found.items()}
    app = {"type": "string", "description": "The application that the command line serves, such as shop:nexus."}
    channels = {f"{channel}{SUFFIX}": _channel(channel, properties) for channel in CHANNELS}
    return {
        "$schema": DIALECT,
        "title": "Nexus",
        "description": "Options of a Nexus platform.",
        "type": "object",
        "properties": {"app": app, **dict(sorted((properties | channels).items()))},
        "additionalProperties": False,
    }


class _Generator(GenerateJsonSchema):
    """Leaves out titles, which repeat names."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012  (as the base has it)

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
        """Let anything be where only code can give a value."""
        return {}


def _readable(given: dict[str, Any], plugin: str) -> dict[str, Any]:
    """Return an option's schema as a file may have it: lists may be written with commas in between, as one text."""
    found: dict[str, Any] = _without_titles(given)
    found["description"] = f"{found.get('description', '').rstrip()} ({plugin})".strip()
    kinds = found.get("anyOf", [found])
    if any(each.get("type") == "array" for each in kinds):
        shape = {
            name: found.pop(name) for name in ("type", "items", "uniqueItems", "minItems", "anyOf") if name in found
        }
        found["anyOf"] = [*shape.get("anyOf", [shape]), {"type": "string"}]
    return found


def _without_titles(value: Any) -> Any:
    """Return a part of a schema without what only pydantic needs, and alternatives that only code can give."""
    if isinstance(value, list):
        return [_without_titles(each) for each in value if each != {}]
    if not isinstance(value, dict):
        return value
    kept = {name: each for name, each in value.items() if name not in ("title", "writeOnly", "environment")}
    if kept.get("format") in ("path", "password", "file-path"):
        del kept["format"]
    return {name: each if name in ("default", "enum") else _without_titles(each) for name, each in kept.items()}


def _channel(channel: str, properties: dict[str, Any]) -> dict[str, Any]:
    short = {
        name.removeprefix(f"{channel}_"): each for name, each in properties.items() if name.startswith(f"{channel}_")
    }
    return {
        "type": "object",
        "description": f"Options of the channel {channel} together: its own without {channel}_ in front.",
        "properties": short | {name: True for name in properties if name not in short},
        "additionalProperties": False,
    }
