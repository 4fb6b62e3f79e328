"""Commands that plugins add (`nexus_register_commands`)."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

import typer

from nexus_cli.options import UsageError
from nexus_core import process
from nexus_core.errors import ConfigurationError
from nexus_core.schema.report import nearest, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_cli.state import State
    from nexus_core.channel import Command
    from nexus_core.plugins.manager import PluginManager


def add_commands(app: typer.Typer, state: State, wanted: str, known: list[str]) -> None:
    """Add a command of the application's plugins; without an application, of the installed plugins.

    Raises:
        UsageError: None of them has it.
        ConfigurationError: Several have.
    """
    from nexus_core.app import Nexus

    try:
        nexus = state.nexus() if state.app_name() else Nexus()
    except ConfigurationError:
        plugins, commands = _without_platform()
        if all(command.name != wanted for _, command in commands):
            raise
    else:
        plugins = nexus.plugins
        commands = plugins.collect("nexus_register_commands", nexus=nexus)
    found = {plugins.origin(plugin): command for plugin, command in commands if command.name == wanted}
    if len(found) > 1:
        raise ConfigurationError(f"The command {wanted!r} is given by both {' and '.join(sorted(found))}.")
    for command in found.values():
        if isinstance(command.callback, typer.Typer):
            app.add_typer(command.callback, name=command.name, help=command.help or None)
        else:
            app.command(command.name, help=command.help or None)(_awaited(command.callback))
        return
    near = nearest(wanted, [*known, *(command.name for _, command in commands)])
    hint = f" Did you mean {near!r}?" if near else " See nexus --help."
    raise UsageError(f"There is no command {printable(wanted)!r}.{hint}")


def _without_platform() -> tuple[PluginManager, list[tuple[str, Command]]]:
    """Return the installed plugins, and those of their commands that need no platform."""
    from nexus_core.plugins.manager import PluginManager
    from nexus_core.threads import DaemonThreads

    plugins = PluginManager(DaemonThreads("nexus-commands"))
    plugins.load_installed()
    return plugins, plugins.collect("nexus_register_commands")


def _awaited(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs an async callback to its end: typer would drop the coroutine."""
    if not inspect.iscoroutinefunction(callback):
        return callback

    @functools.wraps(callback)
    def run(*args: Any, **kwargs: Any) -> Any:
        return process.run(callback(*args, **kwargs))

    return run
