"""`OptionReader`: the settings models of one platform, filled from the sources of options, with all that is wrong."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

from nexus_core.errors import ConfigurationError, PluginError
from nexus_core.options import first_party
from nexus_core.options.channel import is_enabled
from nexus_core.options.settings import CoreSettings, PluginSettings
from nexus_core.options.sources import OptionSources, unknown_option
from nexus_core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Collection

    from nexus_core.plugins.manager import PluginManager

log = logging.getLogger(__name__)

Model = TypeVar("Model", bound=PluginSettings)

_LOADING = frozenset({"required_plugins", "disabled_plugins", "plugin_timeout"})
"""The core's options that say which plugins are loaded, and how."""


class OptionReader:
    """Reads settings models, and collects the errors of options until all are known.

    Args:
        sources: Where options are set.

    Attributes:
        sources: The same.
        settings: What was read, by model.
        models: The settings models of plugins, by the plugin's name, whether they can be filled or not.
    """

    def __init__(self, sources: OptionSources) -> None:
        self.sources = sources
        self.settings: dict[type[PluginSettings], PluginSettings] = {}
        self.models: dict[str, type[PluginSettings]] = {}
        self._owners = dict.fromkeys(CoreSettings.model_fields, "")  # no plugin's: the core's
        self._failed: dict[str, str] = {}  # the options of plugins that have failed since
        self._wrong: set[str] = set()
        self._complaints: list[str] = []

    def read_core(self) -> CoreSettings:
        """Return the core's options.

        Raises:
            ConfigurationError: One that plugins are loaded by is wrong.
        """
        settings = self._read(CoreSettings)
        if _LOADING & self._wrong:
            self._raise()
        return settings

    def read_plugin(self, plugin: str, model: type[Model]) -> Model:
        """Return a plugin's options.

        Raises:
            PluginError: The model can't be used, or an option of it belongs to another plugin already.
            ConfigurationError: The model can't be made of what is set, not even with defaults in its place.
        """
        if not (isinstance(model, type) and issubclass(model, PluginSettings)):
            raise PluginError("nexus_register_settings must return a subclass of PluginSettings")
        self.models[plugin] = model
        taken = sorted(self._owners.keys() & model.model_fields.keys())
        if taken:
            owner = self._owners[taken[0]]
            holder = f'the plugin "{owner}"' if owner else "the core"
            raise PluginError(f"its option {taken[0]} belongs to {holder} already")
        try:
            settings = self._read(model)
        except ConfigurationError as exc:
            self._complaints.append(str(exc))
            raise
        except Exception as exc:
            raise PluginError(f"its options can't be read: {one_line(exc)}") from exc
        self._owners |= dict.fromkeys(model.model_fields, plugin)
        return settings

    def read_plugins(self, plugins: PluginManager) -> None:
        """Read the other models that plugins register. A plugin whose model can't be used is taken out."""
        models = plugins.collect("nexus_register_settings")
        self._forget(plugins.inactive())
        for plugin, model in models:
            if self._is_read(model):
                continue
            try:
                self.read_plugin(plugin, model)
            except PluginError as exc:
                plugins.fail(plugin, str(exc), exc)
            except ConfigurationError:
                continue  # `refuse_wrong` raises it

    def _forget(self, failed: Collection[str]) -> None:
        """Forget what was read for plugins that have failed since: nothing takes these options any more."""
        options = {option: owner for option, owner in self._owners.items() if owner in failed}
        for model in [model for model in self.settings if model.model_fields.keys() & options]:
            del self.settings[model]
        for option in options:
            del self._owners[option]
        self._failed = options

    def _is_read(self, model: Any) -> bool:
        return isinstance(model, type) and model in self.settings

    def refuse_wrong(self, plugins: PluginManager) -> None:
        """Make sure that every option that is set has a fitting value and a plugin that takes it.

        A variable of the environment for a first-party plugin that is not installed is reported: one environment may
        be for several processes. One that switches a policy on (``enable_...``) is refused all the same.

        Raises:
            ConfigurationError: Some are not; the message names all of them.
        """
        known = {name for model in self.settings for name in model.model_fields}
        unloaded, every = plugins.inactive(), first_party.every_option()
        for name, source in self.sources.given(known | every).items():
            is_switch = name in every and name.startswith("enable_")
            if name in known or (is_switch and not is_enabled(self.sources.value(name))):
                continue
            complaint, may_be_unloaded = unknown_option(name, source, known, unloaded, self._failed.get(name))
            if may_be_unloaded or (name in every and not is_switch and self.sources.is_from_environment(name)):
                log.warning("%s", complaint)
            else:
                self._complaints.append(complaint)
        if self._complaints:
            self._raise()

    def _read(self, model: type[Model]) -> Model:
        settings, wrong = self.sources.read_all(model)
        self._wrong |= wrong.keys()
        self._complaints += wrong.values()
        self.settings[model] = settings
        return settings

    def _raise(self) -> None:
        raise ConfigurationError("; ".join(dict.fromkeys(self._complaints)))
