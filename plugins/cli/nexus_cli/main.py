"""The entry point of the command line: takes the arguments, returns the exit code."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nexus_cli import preferences
from nexus_cli.options import NAMES, Options, UsageError, as_utf8, from_environment, take
from nexus_core.errors import ConfigurationError, NexusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nexus_cli.output import Output
    from nexus_cli.state import State

USAGE = 2
INTERRUPTED = 130
LARGEST_EXIT_CODE = 255
HELP = ("--", "--help", "-h", "--version", "-V")
"""What a command line may begin with that is neither a command nor an option of every command."""

BROKEN_PIPE = 141
"""What a shell reports for a program that SIGPIPE has ended."""


def main(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    if arguments[:1] in (["__complete"], ["__complete-line"]):
        from nexus_cli.completion import answer, words_of

        return answer(arguments[1:] if arguments[0] == "__complete" else words_of("".join(arguments[1:2]))[1:])
    from nexus_cli.output import standard_output
    from nexus_cli.state import State

    words = [as_utf8(word) for word in arguments]
    return run(State(Options(), standard_output(as_json="--json" in words)), words, from_environment())


def run(state: State, arguments: list[str], base: Options) -> int:
    """Run a command line on a state of its own, and return its exit code.

    Args:
        state: What it keeps. It is closed at the end.
        arguments: The command line.
        base: The options that it begins with.
    """
    try:
        options, rest = take(arguments, base)
        state.options, state.output = options, state.output.with_json(options.json)
        if preferences.are_set():
            with suppress(UsageError):  # who needs them says what is wrong, and so does the platform; doctor needs none
                state.preferences()
        code = attempt(state, lambda: dispatch(state, rest))
    except UsageError as exc:
        state.output.complain(str(exc))
        return USAGE
    closed = attempt(state, state.close)
    return code or closed


def dispatch(state: State, arguments: list[str]) -> int:
    """Run a command and return its exit code. Errors are raised."""
    if arguments in (["--version"], ["-V"]):
        arguments = ["version"]
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    if arguments and arguments[0].startswith("-") and arguments[0] not in HELP:
        raise UsageError(no_such_option(arguments[0].partition("=")[0], HELP))
    name = next((word for word in arguments if not word.startswith("-")), None)
    command, plugin = _command(state, name)
    try:
        returned = command(arguments or ["--help"], prog_name="nexus", standalone_mode=False, obj=state)
    except Exception as exc:
        if not plugin or _is_for_users(exc):
            raise
        from nexus_core.text import one_line

        what = f'The command {name!r} of the plugin "{plugin}" failed'
        raise ConfigurationError(f"{what}: {one_line(exc)}. `nexus --debug {name}` shows where.") from exc
    return returned if isinstance(returned, int) else 0


def no_such_option(name: str, known: Iterable[str]) -> str:
    """Return what to say of an option that is not there, with the nearest that is.

    Args:
        name: The option.
        known: Those that could stand in its place, beside the ones that hold for every command.
    """
    from nexus_core.text import nearest, printable

    near = nearest(name, sorted({*known, *NAMES}))
    hint = f" Did you mean {near!r}?" if near else " See --help."
    return f"There is no option {printable(name)!r}.{hint}"


def _is_for_users(exc: Exception) -> bool:
    """Whether an exception is a way to end a command, rather than a mistake in it."""
    import typer

    from nexus_cli.output import ReaderLeft

    ends = (typer.exceptions.TyperException, typer.Abort, typer.Exit)
    return isinstance(exc, (NexusError, ConfigurationError, UsageError, ReaderLeft, *ends))


def _command(state: State, name: str | None) -> tuple[Any, str]:
    """Return what reads a command line that begins with a command, or with none: then only its help is shown.

    With it the plugin that has the command, or "".
    """
    import typer

    from nexus_cli.commands import build, own_commands

    markup = "rich" if sys.stdout.isatty() else None
    own = own_commands(markup)
    if name in own.commands:
        return own, ""
    from nexus_cli.contributed import add_command, list_commands

    app, plugin = build(markup), ""
    if name is None:
        list_commands(app, state)
    else:
        plugin = add_command(app, state, name, list(own.commands))
    return typer.main.get_command(app), plugin


def attempt(state: State, action: Callable[[], Any]) -> int:
    """Do something and return the exit code; what goes wrong is told on stderr."""
    import typer

    from nexus_cli.output import ReaderLeft

    try:
        code = action()
    except NexusError as exc:
        return fail(state.output, exc)
    except (UsageError, typer.exceptions.TyperException) as exc:
        return _show_usage(state.output, exc)
    except ConfigurationError as exc:
        if state.options.debug:
            import traceback

            traceback.print_exception(exc)
        state.output.complain(str(exc))
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except ReaderLeft:
        return BROKEN_PIPE
    except SystemExit as exc:
        if isinstance(exc.code, str):
            state.output.complain(exc.code)
            return 1
        return exc.code or 0
    return code if isinstance(code, int) else 0


def fail(output: Output, error: NexusError) -> int:
    """Say what is wrong on stderr, and return the exit code.

    What an event handler has put in the error's place comes first: a number that can be an exit code is the exit code,
    everything else is written instead.
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
