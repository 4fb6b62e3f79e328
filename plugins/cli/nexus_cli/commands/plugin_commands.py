"""Commands that plugins add (`nexus_register_commands`)."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

import typer

from nexus_cli.commands.declared_commands import declared_commands
from nexus_cli.options import UsageError
from nexus_core.errors import ConfigurationError
from nexus_core.options import first_party

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_cli.context import CliContext
    from nexus_core.plugins.manager import PluginManager
    from nexus_core.server.channel import Command


PANEL = "Plugin commands"
HOOK = "nexus_register_commands"


def add_command(app: typer.Typer, cli: CliContext, wanted: str, known: list[str]) -> str:
    """Add one command: of the application's plugins or, without an application, of the installed ones.

    Returns:
        The plugin that has the command.

    Raises:
        UsageError: The command is unknown.
        ConfigurationError: Several plugins have the command, or its first-party plugin is not active.
    """
    try:
        plugins, commands = of_application(cli)
    except ConfigurationError:
        plugins, commands = _without_platform()
        if all(command.name != wanted for _, command in commands):
            raise
    found = {plugins.origin(plugin): (plugin, command) for plugin, command in commands if command.name == wanted}
    if len(found) > 1:
        raise ConfigurationError(f"The command {wanted!r} is registered by both {' and '.join(sorted(found))}.")
    for plugin, command in found.values():
        if isinstance(command.callback, typer.Typer):
            app.add_typer(command.callback, name=command.name, help=command.help or None)
        else:
            app.command(command.name, help=command.help or None)(_awaited(command.callback, cli))
        return plugin
    if wanted in first_party.COMMANDS:
        raise ConfigurationError(_needs(wanted, first_party.COMMANDS[wanted], plugins))
    from nexus_core.text import nearest, printable

    near = nearest(wanted, [*known, *(command.name for _, command in commands)])
    hint = f" Did you mean {near!r}?" if near else " See nexus --help."
    raise UsageError(f"Unknown command {printable(wanted)!r}.{hint}{_failed(plugins)}")


def _failed(plugins: PluginManager) -> str:
    """Return a message about plugins whose commands failed; empty without any."""
    broken = [each for each in plugins.records if HOOK in each.reason]
    return "".join(f' The plugin "{each.name}" is not active: {each.reason}.' for each in broken)


def list_commands(app: typer.Typer, cli: CliContext) -> None:
    """Add the commands of plugins to an application that only shows its help."""
    own = {each.name for each in app.registered_commands} | {each.name for each in app.registered_groups}
    for name, text in listed(cli).items():
        if name not in own:
            app.command(name, help=text or None, rich_help_panel=PANEL)(_listed)


def listed(cli: CliContext) -> dict[str, str]:
    """Return the commands of plugins, sorted, with the help of each.

    Commands of installed plugins are read from metadata: no plugin is imported. Those of a named application come from
    the application.
    """
    found = {each.name: each.help for each in declared_commands()}
    if cli.options.app:
        try:
            found |= {command.name: command.help for _, command in of_application(cli)[1]}
        except (ConfigurationError, UsageError) as exc:
            cli.output.note(f"The commands of the application's plugins are not listed: {exc}")
    return dict(sorted(found.items()))


def of_application(cli: CliContext) -> tuple[PluginManager, list[tuple[str, Command]]]:
    """Return the plugins of the named application, or the installed ones, and their commands.

    Raises:
        UsageError: The application's name is not valid.
        ConfigurationError: The application can't be loaded, or an option is invalid.
    """
    from nexus_core.app.nexus import Nexus

    nexus = cli.nexus() if cli.app_name() else Nexus()
    nexus.starts_schedules = False  # a command ends before its runs would
    return nexus.plugins, _commands(nexus.plugins, nexus.plugins.collect(HOOK))


def _commands(plugins: PluginManager, given: list[tuple[str, Any]]) -> list[tuple[str, Command]]:
    """Return the commands that plugins have registered; a plugin that registers anything else fails."""
    for plugin, item in given:
        is_command = isinstance(getattr(item, "name", None), str) and callable(getattr(item, "callback", None))
        if not is_command and plugins.is_active(plugin):
            plugins.fail(plugin, f"{HOOK} returned a {type(item).__name__}, which is not a Command")
    return [(plugin, item) for plugin, item in given if plugins.is_active(plugin)]


def _listed() -> None:
    """Stand for a command that is only listed in the help."""


def _needs(command: str, plugin: str, plugins: PluginManager) -> str:
    reason = plugins.inactive().get(plugin)
    if reason is not None:
        return f'The command {command!r} belongs to the plugin "{plugin}", which is not loaded: {reason}'
    install = first_party.install(plugin)
    return f'The command {command!r} needs the plugin "{plugin}": {install}'


def _without_platform() -> tuple[PluginManager, list[tuple[str, Command]]]:
    """Return the installed plugins, and their commands that need no platform."""
    from nexus_core.app.plugin import manager_without_platform

    plugins = manager_without_platform("nexus-commands")
    plugins.load_installed()
    return plugins, _commands(plugins, plugins.collect(HOOK))


def _awaited(callback: Callable[..., Any], cli: CliContext) -> Callable[..., Any]:
    """Return a sync function that runs an async callback; typer would not await it."""
    if not inspect.iscoroutinefunction(callback):
        return callback

    @functools.wraps(callback)
    def run(*args: Any, **kwargs: Any) -> Any:
        return cli.run(callback(*args, **kwargs))

    return run
