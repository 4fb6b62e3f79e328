"""Completion of commands, workflows and their fields, for bash, zsh, fish and ``nexus shell``.

A shell calls ``nexus __complete WORDS...``, where the last word is the one to complete; bash, which splits words at
``:`` and ``=``, calls ``nexus __complete-line LINE``. Completion never prints an error and never takes longer than
`LIMIT_SECONDS`, or the environment variable ``NEXUS_COMPLETION_TIMEOUT``.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from nexus_cli.commands.completion_scripts import SCRIPTS
from nexus_cli.options import EXECUTE, FLAGS, VALUES, Options, UsageError, from_environment, take
from nexus_cli.terminal import preferences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nexus_cli.context import CliContext

LIMIT_SECONDS = 3.0

_LISTED = 50
"""How many runs or questions are candidates."""

Candidate = tuple[str, str]
"""A possible word, and its description."""


@dataclass(frozen=True, slots=True)
class CompletionSource:
    """Where candidates come from.

    Attributes:
        commands: Returns the built-in commands as a click group.
        plugin_commands: Returns the commands of plugins.
        plugin_command: Returns a command of a plugin as click has it.
        workflows: Returns the workflows.
        schema: Returns the input schema of a workflow.
        runs: Returns the latest runs.
        questions: Returns the open questions to the caller: those of a run by number, or of all runs by run.
    """

    commands: Callable[[], Any]
    plugin_commands: Callable[[], list[Candidate]]
    plugin_command: Callable[[str], Any]
    workflows: Callable[[], list[Candidate]]
    schema: Callable[[str], dict[str, Any]]
    runs: Callable[[], list[Candidate]]
    questions: Callable[[str | None], list[Candidate]]


def candidates(words: list[str], source: CompletionSource) -> list[Candidate]:
    """Return the possible words in place of the last one, given those before it."""
    *before, current = words
    if before and before[-1] in VALUES:
        return []
    _, before = take(before, Options())
    return [each for each in _candidates(before, current, source) if each[0].startswith(current)]


def _candidates(before: list[str], current: str, source: CompletionSource) -> Iterable[Candidate]:
    name = before[0] if before else ""
    command = source.commands()
    if name and name not in command.commands:
        command, before = source.plugin_command(name), before[1:]
    rest = list(before)
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    if name == "execute":
        yield from _of_workflow([word for word in rest if not word.startswith("-")], before[-1], current, source)
    if current.startswith("-"):
        yield from _options(name, command)
    elif name == "describe" and not rest:
        yield from source.workflows()
    elif name in ("runs", "questions") and len(before) > len(rest) + 1:
        yield from _of_runs(name, command, rest, source)
    elif not rest:
        yield from _subcommands(name, command)
        yield from [] if name else source.plugin_commands()


def _of_runs(name: str, command: Any, rest: list[str], source: CompletionSource) -> Iterable[Candidate]:
    """Yield the values of the arguments RUN and NUMBER of a command, if it has them."""
    arguments = [each.name for each in command.params if each.param_type_name == "argument"]
    if len(rest) >= len(arguments) or (rest[-1:] and rest[-1].startswith("-")):
        return
    if name == "questions":
        yield from source.questions(rest[0] if rest else None)
    else:
        yield from source.runs()


def _subcommands(name: str, command: Any) -> Iterable[Candidate]:
    """Yield the commands of a group, or the fixed values of an argument."""
    if name == "plugins":
        from nexus_core.plugins.commands import names

        yield from names()
    elif name == "completion":
        yield from ((shell, "") for shell in SCRIPTS)
    for sub, each in getattr(command, "commands", {}).items():
        yield sub, (each.help or "").partition("\n")[0]


def _options(name: str, command: Any) -> Iterable[Candidate]:
    """Yield the options of a command, then the common ones, which plugins' commands take as well."""
    for each in command.params if name else ():
        yield from ((option, getattr(each, "help", None) or "") for option in each.opts if option.startswith("--"))
    if name == "execute":
        yield from ((option, text) for option, (_, text) in EXECUTE.items())
    yield "--help", "Show the help."
    yield from ((option, text) for option, (_, _, text, _) in VALUES.items())
    yield from ((option, text) for option, (_, text) in FLAGS.items())


def _of_workflow(names: list[str], previous: str, current: str, source: CompletionSource) -> Iterable[Candidate]:
    """Yield the workflows for ``nexus execute``, or the options and values of the fields of one."""
    if not names:
        yield from source.workflows() if not current.startswith("-") else ()
        return
    from nexus_cli.commands.fields import Fields
    from nexus_cli.commands.workflow_help import choices

    fields = Fields(source.schema(names[0]))
    if previous.startswith("--") and not current.startswith("-"):
        name = fields.find(previous[2:])
        item = fields.items(fields.properties.get(name)) if fields.is_list(name) else fields.properties.get(name)
        yield from ((each, "") for each in choices(fields, item))
    elif current.startswith("-"):
        for name, given in fields.properties.items():
            text = " ".join(str(fields.resolve(given).get("description", "")).split())
            yield f"--{name}", text
            if fields.is_flag(name):
                yield f"--no-{name}", text


def answer(words: list[str], commands: Callable[[], Any]) -> int:
    """Print the candidates for a shell, one a line with its description after a tab. Always returns 0.

    Args:
        words: The words of the command line.
        commands: Returns the built-in commands as a click group.
    """
    stdout = os.dup(1)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)  # the application may print
    os.dup2(quiet, 2)
    found: list[Candidate] = []
    worker = threading.Thread(target=_collect, args=(words or [""], commands, found), daemon=True)
    worker.start()
    worker.join(_limit())
    lines = [f"{word}\t{' '.join(text.split())}" for word, text in [*found] if word.isprintable()]
    with contextlib.suppress(OSError):
        os.write(stdout, "".join(f"{line}\n" for line in lines).encode())
    os._exit(0)  # does not wait for an application that still loads, or never stops


def _limit() -> float:
    try:
        return min(max(0.0, float(os.environ["NEXUS_COMPLETION_TIMEOUT"])), threading.TIMEOUT_MAX)
    except (KeyError, ValueError):
        return LIMIT_SECONDS


def words_of(line: str) -> list[str]:
    """Return the words of a command line that is being typed; the last is the one to complete, which may be empty."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words += lexer
    except ValueError:  # a quotation that is still open
        return [*words, lexer.token.lstrip("'\"")]
    return words if words and not line[-1:].isspace() else [*words, ""]


def _collect(words: list[str], commands: Callable[[], Any], found: list[Candidate]) -> None:
    from nexus_cli.context import CliContext
    from nexus_cli.terminal.output import standard_output

    with contextlib.suppress(BaseException):
        options, _ = take(words[:-2] if words[-2:-1] and words[-2] in VALUES else words[:-1], from_environment())
        cli = CliContext(options, standard_output())
        if not preferences.are_set() or cli.preferences().enable_shell_completion:
            found += candidates(words, source_of(cli, commands))


def source_of(cli: CliContext, commands: Callable[[], Any]) -> CompletionSource:
    """Return the candidates of a context: its backend's workflows, and the commands of plugins."""
    import msgspec

    from nexus_cli.backends.backend import request_of
    from nexus_cli.backends.login import stored_token

    def ask(command: str, **members: Any) -> Any:
        options = cli.options
        if options.connect and not options.token:  # completion must be quick: a login is not renewed here
            options = replace(options, token=stored_token(options.connect, renew=False))
        backend = cli.backend()  # loads the application, and with it its preferences
        if not cli.preferences().enable_shell_completion:
            raise UsageError("Completion is disabled: enable_shell_completion is off.")
        return msgspec.json.decode(backend.call(request_of(command, **members), options))

    def workflows() -> list[Candidate]:
        return [(each["name"], each["description"].partition("\n")[0]) for each in ask("list")["workflows"]]

    def plugin_command(name: str) -> Any:
        import typer

        from nexus_cli.commands.plugin_commands import add_command

        app = typer.Typer()
        app.callback()(lambda: None)  # makes a group, even with a single command
        add_command(app, cli, name, [])
        return typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]

    def plugin_commands() -> list[Candidate]:
        from nexus_cli.commands.plugin_commands import listed

        return [*listed(cli).items()]

    def schema(name: str) -> dict[str, Any]:
        found: dict[str, Any] = ask("describe", workflow=name)["input_schema"]
        return found

    return CompletionSource(
        commands, plugin_commands, plugin_command, workflows, schema, partial(_runs, ask), partial(_questions, ask)
    )


def _runs(ask: Callable[..., Any]) -> list[Candidate]:
    found = ask("runs.list", limit=_LISTED)["runs"]
    return [(each["run_id"], f"{each['workflow']}, {each['status']}") for each in found]


def _questions(ask: Callable[..., Any], run_id: str | None) -> list[Candidate]:
    from nexus_core.text import printable

    if run_id is None:
        found = ask("questions.list", limit=_LISTED)["questions"]
        return [(each["run_id"], f"{each['workflow']}: {printable(each['question'])}") for each in found]
    found = [each for each in ask("questions.of_run", run_id=run_id)["questions"] if each["status"] == "open"]
    return [(str(each["number"]), printable(each["question"])) for each in found]
