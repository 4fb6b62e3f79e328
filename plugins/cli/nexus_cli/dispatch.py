"""Runs one command line: finds the command, runs it, turns errors into messages and exit codes."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from nexus_cli.options import INTERRUPTED, NAMES, Options, UsageError, take
from nexus_cli.terminal import preferences
from nexus_core.errors import ConfigurationError, NexusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nexus_cli.context import CliContext
    from nexus_cli.terminal.output import Output

USAGE = 2
LARGEST_EXIT_CODE = 255
HELP = ("--", "--help", "-h", "--version", "-V")
"""Options that are accepted in place of a command, besides the common options."""

BROKEN_PIPE = 141
"""Exit code that shells report for a program ended by SIGPIPE."""


def run(cli: CliContext, arguments: list[str], base: Options) -> int:
    """Run a command line and return its exit code.

    Args:
        cli: Its context. It is closed at the end.
        arguments: The command line.
        base: The options to start from.
    """
    cli.run_line = partial(run_line, cli)
    try:
        options, rest = take(arguments, base)
        cli.options, cli.output = options, cli.output.with_json(options.json)
        if preferences.are_set():
            with suppress(UsageError):  # commands that need preferences report it, and so does the platform
                cli.preferences()
        code = attempt(cli, lambda: dispatch(cli, rest))
    except UsageError as exc:
        cli.output.complain(str(exc))
        return USAGE
    closed = attempt(cli, cli.close)
    return code or closed


def run_line(cli: CliContext, base: Options, words: list[str]) -> int:
    """Run one line of a shell, on its context, and return the exit code."""

    def act() -> int:
        options, rest = take(words, base)
        cli.use(options)
        if rest[:1] in (["shell"], ["serve"], ["worker"]):
            raise UsageError(f"{rest[0]} does not work inside the shell.")
        return dispatch(cli, rest)

    return attempt(cli, act)


def dispatch(cli: CliContext, arguments: list[str]) -> int:
    """Run a command and return its exit code. Errors are raised."""
    if arguments in (["--version"], ["-V"]):
        arguments = ["version"]
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    if arguments and arguments[0].startswith("-") and arguments[0] not in HELP:
        raise UsageError(no_such_option(arguments[0].partition("=")[0], HELP))
    name = next((word for word in arguments if not word.startswith("-")), None)
    command, plugin = _command(cli, name)
    try:
        returned = command(arguments or ["--help"], prog_name="nexus", standalone_mode=False, obj=cli)
    except Exception as exc:
        if not plugin or _is_for_users(exc):
            raise
        from nexus_core.text import one_line

        what = f'The command {name!r} of the plugin "{plugin}" failed'
        raise ConfigurationError(f"{what}: {one_line(exc)}. `nexus --debug {name}` shows where.") from exc
    return returned if isinstance(returned, int) else 0


def no_such_option(name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown option, with the nearest known one.

    Args:
        name: The option.
        known: The options that are valid in its place, besides the common ones.
    """
    from nexus_core.text import nearest, printable

    near = nearest(name, sorted({*known, *NAMES}))
    hint = f" Did you mean {near!r}?" if near else " See --help."
    return f"Unknown option {printable(name)!r}.{hint}"


def _is_for_users(exc: Exception) -> bool:
    """Whether an exception is meant for users, as opposed to a defect of the command."""
    import typer

    from nexus_cli.terminal.output import ReaderLeft

    ends = (typer.exceptions.TyperException, typer.Abort, typer.Exit)
    return isinstance(exc, (NexusError, ConfigurationError, UsageError, ReaderLeft, *ends))


def _command(cli: CliContext, name: str | None) -> tuple[Any, str]:
    """Return the click group that has a command, and the plugin that added it or "".

    Without a name, the group lists every command: only its help is shown.
    """
    import typer

    from nexus_cli.commands.app import build, own_commands

    markup = "rich" if sys.stdout.isatty() else None
    own = own_commands(markup)
    if name in own.commands:
        return own, ""
    from nexus_cli.commands.plugin_commands import add_command, list_commands

    app, plugin = build(markup), ""
    if name is None:
        list_commands(app, cli)
    else:
        plugin = add_command(app, cli, name, list(own.commands))
    return typer.main.get_command(app), plugin


def attempt(cli: CliContext, action: Callable[[], Any]) -> int:
    """Run an action and return its exit code; errors are written to stderr."""
    import typer

    from nexus_cli.terminal.output import ReaderLeft

    try:
        code = action()
    except NexusError as exc:
        return fail(cli.output, exc)
    except (UsageError, typer.exceptions.TyperException) as exc:
        return _show_usage(cli.output, exc)
    except ConfigurationError as exc:
        if cli.options.debug:
            import traceback

            traceback.print_exception(exc)
        cli.output.complain(str(exc))
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except ReaderLeft:
        return BROKEN_PIPE
    except SystemExit as exc:
        if isinstance(exc.code, str):
            cli.output.complain(exc.code)
            return 1
        return exc.code or 0
    return code if isinstance(code, int) else 0


def fail(output: Output, error: NexusError) -> int:
    """Write an error to stderr and return the exit code.

    An event handler's reply takes the error's place: a number from 0 to 255 is the exit code, any other value is
    written instead of the error.
    """
    reply = error.reply
    if type(reply) is int and 0 <= reply <= LARGEST_EXIT_CODE:
        output.error(error)
        return reply
    if reply is None:
        output.error(error)
    else:
        output.complain_json(reply)
    return error.exit_code


def _show_usage(output: Output, exc: Any) -> int:
    text = exc.format_message() if hasattr(exc, "format_message") else str(exc)
    if type(exc).__name__ == "NoSuchOption":
        text = no_such_option(exc.option_name, exc.possibilities or ())
    if type(exc).__name__ != "NoArgsIsHelpError":
        output.complain(" ".join(text.split()))
        return USAGE
    if text:  # the help of a group that was given no command; with rich it has been printed
        output.line(text)
    return 0
