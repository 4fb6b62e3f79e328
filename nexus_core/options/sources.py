"""Options: one flat name each, wherever they are set.

Precedence: argument of `Nexus`, environment (``NEXUS_`` and the name in capitals), configuration file, the
``config=`` object, default. Each option belongs to the core or to one plugin's settings model.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from nexus_core.errors import ConfigurationError
from nexus_core.options import first_party
from nexus_core.options.channel import OptionSource, attributes
from nexus_core.options.settings import ENV_PREFIX, PluginSettings, is_blank, is_secret
from nexus_core.text import nearest, printable

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

log = logging.getLogger(__name__)

_SERVICE = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_[A-Z]+(_[A-Z]+)?)?)$")
RESERVED = frozenset({
    "NEXUS_CONFIG_FILE", "NEXUS_APP", "NEXUS_TOKEN", "NEXUS_SESSION", "NEXUS_CONNECT", "NEXUS_COMPLETION_TIMEOUT",
})  # fmt: skip
"""``NEXUS_`` variables that are no options: they speak to the command line."""

Settings = TypeVar("Settings", bound=PluginSettings)


class OptionSources:
    """Everything that was set, and where.

    Raises:
        ConfigurationError: The configuration file is missing, or is not a mapping.
    """

    def __init__(
        self, arguments: Mapping[str, Any], config: object = None, config_file: str | os.PathLike[str] | None = None
    ) -> None:
        path = config_file or os.environ.get("NEXUS_CONFIG_FILE")
        self._arguments = OptionSource(arguments, lambda option: f"argument {option}")
        self._environment = OptionSource(_environment(), _variable)
        self._below = [
            OptionSource(_read_file(Path(path)) if path else {}, lambda option: f"{option} in {path}"),
            OptionSource(_members(config), lambda option: f"{option} of {type(config).__name__}"),
        ]
        self.sources: dict[str, str] = {}

    def read(self, model: type[Settings]) -> Settings:
        """Return a settings model filled from the sources.

        Raises:
            ConfigurationError: A value does not fit. The message names the option and where it was set.
        """
        settings, wrong = self.read_all(model)
        if wrong:
            raise ConfigurationError("; ".join(dict.fromkeys(wrong.values())))
        return settings

    def read_all(self, model: type[Settings]) -> tuple[Settings, dict[str, str]]:
        """Return a settings model filled from the sources, and the errors of options that do not fit, by name.

        Those are at their defaults in the model.

        Raises:
            ConfigurationError: The model can't be made without them either.
        """
        values: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for name, field in model.model_fields.items():
            try:
                found = self._find(name, field)
            except ConfigurationError as exc:  # it is set to two things
                wrong[name] = str(exc)
            else:
                if found is not None:
                    values[name], self.sources[name] = found
        while True:
            try:
                return model(**values), wrong
            except ValidationError as exc:
                found_now = self._complaints(exc)
                wrong = found_now | wrong  # what was wrong with a value comes before that it is missing without it
                if not found_now.keys() & values.keys():
                    raise ConfigurationError("; ".join(dict.fromkeys(wrong.values()))) from None
                values = {name: value for name, value in values.items() if name not in found_now}

    def _complaints(self, exc: ValidationError) -> dict[str, str]:
        found: dict[str, list[str]] = {}
        for each in exc.errors(include_input=False, include_url=False):
            name = str(each["loc"][0]) if each["loc"] else ""
            found.setdefault(name, []).append(each["msg"].removeprefix("Value error, "))
        return {
            name: "; ".join(f"{self.sources.get(name, name)}: {message}" for message in dict.fromkeys(messages))
            for name, messages in found.items()
        }

    def is_from_environment(self, name: str) -> bool:
        """Whether an option is set by a variable of the environment, and not by an argument."""
        return self._arguments.find(name) is None and self._environment.find(name) is not None

    def given(self, known: Container[str]) -> dict[str, str]:
        """Return the name of every option that is set, and where, whether anything knows it or not.

        Args:
            known: The options there are.
        """
        layers = (*reversed(self._below), self._environment, self._arguments)
        return {name: source for layer in layers for name, source in layer.given(known)}

    def value(self, name: str) -> Any:
        """Return what is set for an option that may belong to a plugin that is not there; None if nothing is."""
        found = self._find(name)
        return None if found is None else found[0]

    def _find(self, name: str, field: FieldInfo | None = None) -> tuple[Any, str] | None:
        others = () if field is None else _other_variable(name, field)
        for layer in (self._arguments, self._environment, *others, *self._below):
            found: tuple[Any, str] | None = layer.find(name)
            if found is None:
                continue
            if field is None or field.default is not None or not (is_secret(field) and is_blank(found[0])):
                return found
            log.warning("%s is empty and therefore ignored", found[1])  # and hides no secret that another source has
        return None


def _other_variable(name: str, field: FieldInfo) -> list[OptionSource]:
    """Return the source that an option names for itself, if that is set."""
    extra = field.json_schema_extra
    variable = extra.get("environment") if isinstance(extra, dict) else None
    value = os.environ.get(variable, "") if isinstance(variable, str) else ""
    return [OptionSource({name: value}, lambda _: f"environment variable {variable}")] if value else []


def _variables() -> list[str]:
    """Return the environment's variables for options, in capitals or small letters, as pydantic-settings takes them."""
    return [each for each in os.environ if each.upper().startswith(ENV_PREFIX) and not _is_of_a_service(each)]


def _is_of_a_service(variable: str) -> bool:
    """Whether Kubernetes has made a variable: it does for each Service, whose name may begin with the prefix too."""
    found = _SERVICE.search(variable)
    if not found or f"{variable[: found.start()]}_SERVICE_HOST" not in os.environ:
        return False
    return found[1] != "PORT" or "://" in os.environ[variable]  # a port alone is an option that somebody has set


def _option_of(variable: str) -> str:
    return variable.lower().removeprefix(ENV_PREFIX.lower())


def _environment() -> dict[str, str]:
    """Return what the environment sets.

    Raises:
        ConfigurationError: Two spellings of a variable have different values.
    """
    found: dict[str, str] = {}
    spelt: dict[str, str] = {}
    for variable in sorted(each for each in _variables() if each not in RESERVED):
        option, value = _option_of(variable), os.environ[variable]
        first = spelt.setdefault(option, variable)
        if found.setdefault(option, value) != value:
            raise ConfigurationError(
                f"environment variable {first} and environment variable {variable} are set to different values."
            )
    return found


def _variable(option: str) -> str:
    spelt = next((each for each in _variables() if _option_of(each) == option), ENV_PREFIX + option.upper())
    return f"environment variable {spelt}"


def unknown_option(
    name: str, source: str, known: Iterable[str], unloaded: Mapping[str, str], owner: str | None = None
) -> tuple[str, bool]:
    """Return what to tell about an option that no loaded plugin has, and whether one that is not loaded may have it.

    Args:
        name: The option.
        source: Where it was set.
        known: Every option there is.
        unloaded: Plugins that are installed and not loaded, and why.
        owner: The plugin that it belongs to, if that is known and not first-party.
    """
    owner = owner or first_party.owner_of(name)
    if owner is not None and owner in unloaded:
        return f'{source}: it belongs to the plugin "{owner}", which is not loaded: {unloaded[owner]}', True
    if owner is not None:
        return f'{source}: it needs the plugin "{owner}": {first_party.install(owner)}', False
    complaint = f"{source}: there is no option {printable(name)!r}"
    strangers = sorted(plugin for plugin in unloaded if plugin not in first_party.OPTIONS)
    for plugin in strangers:
        if name.startswith(f"{plugin}_"):
            return f'{complaint}, unless it belongs to the plugin "{plugin}": not loaded, {unloaded[plugin]}', True
    every = [*known, *(option for options in first_party.OPTIONS.values() for option in options)]
    near = nearest(name, every)
    if near or not strangers:
        return complaint + (f"; did you mean {near!r}?" if near else ""), False
    listed = ", ".join(f'"{plugin}"' for plugin in strangers)
    return f"{complaint}, unless it belongs to a plugin that is not loaded: {listed}", True


def _read_file(path: Path) -> dict[str, Any]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        _refuse_repeated_options(yaml.compose(text, yaml.SafeLoader), path)
        content = yaml.safe_load(text)
    except OSError as exc:
        raise ConfigurationError(f"The configuration file {path} can't be read: {exc.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"The configuration file {path} is not UTF-8.") from None
    except yaml.MarkedYAMLError as exc:  # its own text repeats lines of the file, which may hold secrets
        line = f"line {exc.problem_mark.line + 1}: " if exc.problem_mark else ""
        raise ConfigurationError(f"The configuration file {path} is not YAML: {line}{exc.problem}") from None
    except (yaml.YAMLError, ValueError) as exc:
        raise ConfigurationError(f"The configuration file {path} is not YAML: {printable(str(exc), 200)}") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigurationError(f"The configuration file {path} must contain a mapping of option names to values.")
    content.pop("app", None)  # the command line's: which application to serve
    return content


def _refuse_repeated_options(root: Any, path: Path) -> None:
    """YAML's reader would take the last of several: whoever reads the file may see the first."""
    seen: set[str] = set()
    pairs = root.value if getattr(root, "id", "") == "mapping" else ()
    for key, _ in pairs:
        if not isinstance(key.value, str):
            continue
        if key.value in seen:
            line = key.start_mark.line + 1
            raise ConfigurationError(f"The configuration file {path} sets {key.value!r} twice: again in line {line}.")
        seen.add(key.value)


def _members(config: object) -> dict[str, Any]:
    if config is None:
        return {}
    if isinstance(config, Mapping):
        return dict(config)
    if isinstance(config, BaseSettings):
        return config.model_dump(exclude_unset=True)
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    if isinstance(config, type) or not hasattr(config, "__dict__"):
        raise ConfigurationError(
            f"config must be a mapping or an object with attributes, not a {type(config).__name__}."
        )
    return attributes(config)
