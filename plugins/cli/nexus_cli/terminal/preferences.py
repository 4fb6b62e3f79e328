"""The user's preferences: options of the loaded application, else of the environment and its file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nexus_cli.options import UsageError

if TYPE_CHECKING:
    from nexus_cli.settings import CliSettings
    from nexus_core.app.nexus import Nexus

_VARIABLES = (
    "NEXUS_CLI_NAME", "NEXUS_ENABLE_SHELL_COMPLETION", "NEXUS_ENABLE_HISTORY", "NEXUS_HISTORY_SIZE",
    "NEXUS_ENABLE_COLORS", "NEXUS_ENABLE_PROGRESS_BARS", "NEXUS_CLI_CONFIG", "NEXUS_CONFIG_FILE",
)  # fmt: skip


def are_set() -> bool:
    """Whether the environment sets any: only then are options read, which takes time."""
    return any(os.environ.get(variable) for variable in _VARIABLES)


def of_environment() -> CliSettings:
    """Return the preferences in the environment and its configuration file.

    Raises:
        UsageError: An option is invalid.
    """
    from nexus_cli.settings import CliSettings
    from nexus_core.errors import ConfigurationError
    from nexus_core.options.sources import OptionSources

    try:
        return OptionSources({}).read(CliSettings)
    except ConfigurationError as exc:
        raise UsageError(str(exc)) from None


def of_application(nexus: Nexus) -> CliSettings:
    """Return the preferences of an application; the defaults if it does not have this plugin."""
    from nexus_cli.settings import CliSettings

    found = (each for each in nexus.every_settings if isinstance(each, CliSettings))
    return next(found, None) or CliSettings.model_validate({})
