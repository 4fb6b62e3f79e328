"""Completion: of commands, workflows and their fields, for bash, zsh, fish and Nexus's own shell.

A shell calls ``nexus __complete WORDS...``, where the last word is the one to complete; bash, which splits words at
``:`` and ``=``, calls ``nexus __complete-line LINE``. It must never print an error
and never take long: after `LIMIT_SECONDS`, or what ``NEXUS_COMPLETION_TIMEOUT`` says, it has nothing to say.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nexus_cli import preferences
from nexus_cli.options import EXECUTE, FLAGS, VALUES, Options, UsageError, from_environment, take

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nexus_cli.state import State

LIMIT_SECONDS = 3.0

Candidate = tuple[str, str]
"""What a word may become, and a description."""

COMMANDS: dict[str, str] = {
    "serve": "Serve an application on its ports",
    "execute": "Run a workflow",
    "list": "List the workflows",
    "describe": "Show what a workflow takes and returns",
    "runs": "See, follow and cancel runs",
    "sessions": "Begin, show, change, follow and end sessions",
    "events": "Follow what happens",
    "config": "See what options there are and what they are set to",
    "shell": "Type commands with history and completion",
    "plugins": "See, check and switch plugins",
    "mcp-config": "Print the configuration for MCP clients",
    "completion": "Print a completion script",
    "version": "Print versions",
}
_SUBCOMMANDS = {
    "runs": ("list", "show", "cancel", "follow"),
    "sessions": ("create", "show", "set", "renew", "revoke", "follow"),
    "events": ("follow",),
    "plugins": ("list", "check", "info", "disable", "enable", "new"),
    "completion": ("bash", "zsh", "fish"),
    "config": ("show", "schema"),
}
_OPTIONS = {
    "execute": (*EXECUTE, "--help"),
    "serve": ("--stdio", "--help"),
    "runs": ("--workflow", "--status", "--limit", "--retry", "--help"),
    "events": ("--after", "--retry", "--help"),
    "sessions": ("--data", "--version", "--retry", "--help"),
    "mcp-config": ("--name", "--help"),
    "config": ("--changed", "--config", "--help"),
}

SCRIPTS = {
    "bash": r"""
_nexus_complete() {
    local word line="${COMP_LINE:0:COMP_POINT}"
    local current="${line##*[[:space:]]}"
    # Bash splits words at these characters and replaces only what follows the last of them.
    local before="${current%"${current##*[:=]}"}"
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        [ -n "$word" ] && COMPREPLY+=("${word#"$before"}")
    done < <("${COMP_WORDS[0]}" __complete-line "$line" 2>/dev/null)
    [ ${#COMPREPLY[@]} -eq 1 ] && [[ "${COMPREPLY[0]}" == *= ]] && compopt -o nospace
    return 0
}
complete -o default -F _nexus_complete nexus
""",
    "zsh": r"""
#compdef nexus
_nexus() {
    local -a candidates
    local word text
    while IFS=$'\t' read -r word text; do
        [[ -n "$word" ]] && candidates+=("${word//:/\\:}:${text}")
    done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( ${#candidates} )); then
        _describe -V nexus candidates
    else
        _files
    fi
}
if [[ "${funcstack[1]}" == "_nexus" ]]; then
    _nexus "$@"
else
    compdef _nexus nexus
fi
""",
    "fish": r"""
function __nexus_complete
    set -l words (commandline -opc)
    $words[1] __complete $words[2..-1] (commandline -ct) 2>/dev/null
end
complete -c nexus -f -a '(__nexus_complete)'
complete -c nexus -n 'test -z (__nexus_complete | string collect)' -F
""",
}


@dataclass(frozen=True, slots=True)
class Known:
    """What completion may ask for.

    Attributes:
        names: Returns the workflows.
        schema: Returns the input schema of one.
        contributed: Returns the commands of plugins.
        command: Returns a command of a plugin as typer has it, or None.
    """

    names: Callable[[], list[Candidate]]
    schema: Callable[[str], dict[str, Any]]
    contributed: Callable[[], list[Candidate]]
    command: Callable[[str], Any]


def candidates(words: list[str], known: Known) -> list[Candidate]:
    """Return what the last word may become, given those before it."""
    *before, current = words
    _, before = take([word for word in _without_dangling(before)], Options())
    if words[-2:-1] and words[-2] in VALUES:
        return []
    return [each for each in _every(before, current, known) if each[0].startswith(current)]


def _without_dangling(words: list[str]) -> list[str]:
    return words[:-1] if words and words[-1] in VALUES else words


def _every(before: list[str], current: str, known: Known) -> Iterable[Candidate]:
    command = before[0] if before else None
    if command is None:
        yield from [*COMMANDS.items(), *known.contributed()] if not current.startswith("-") else ()
    elif command not in COMMANDS:
        yield from _of_plugin(known.command(command), before[1:], current)
    elif command in _SUBCOMMANDS and len(before) == 1 and not current.startswith("-"):
        yield from ((each, "") for each in _SUBCOMMANDS[command])
    elif command in ("execute", "describe"):
        names = [word for word in before[1:] if not word.startswith("-")]
        if not names and not current.startswith("-"):
            yield from known.names()
        elif names and command == "execute":
            yield from _fields(known.schema(names[0]), before[-1], current)
    if current.startswith("-"):
        yield from ((name, "") for name in _OPTIONS.get(command or "", ("--help",)))
        yield from ((name, each[2]) for name, each in VALUES.items())
        yield from ((name, each[1]) for name, each in FLAGS.items())


def _of_plugin(command: Any, words: list[str], current: str) -> Iterable[Candidate]:
    """Return what a command of a plugin takes: the commands below it, or its options."""
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    if current.startswith("-"):
        for each in getattr(command, "params", ()):
            yield from ((option, getattr(each, "help", None) or "") for option in each.opts if option.startswith("--"))
    else:
        yield from ((name, each.get_short_help_str()) for name, each in getattr(command, "commands", {}).items())


def _fields(schema: dict[str, Any], previous: str, current: str) -> Iterable[Candidate]:
    from nexus_cli.fields import Fields
    from nexus_cli.workflow_help import choices

    fields = Fields(schema)
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


def answer(words: list[str]) -> int:
    """Print the candidates for a shell, one a line with its description behind a tab. Always returns 0."""
    stdout = os.dup(1)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)  # whatever the application prints
    os.dup2(quiet, 2)
    found: list[Candidate] = []
    worker = threading.Thread(target=_collect, args=(words or [""], found), daemon=True)
    worker.start()
    worker.join(_limit())
    lines = [f"{word}\t{' '.join(text.split())}" for word, text in [*found] if word.isprintable()]
    with contextlib.suppress(OSError):
        os.write(stdout, "".join(f"{line}\n" for line in lines).encode())
    os._exit(0)  # an application that still loads, or never stops, is left behind


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


def _collect(words: list[str], found: list[Candidate]) -> None:
    from nexus_cli.output import standard_output
    from nexus_cli.state import State

    with contextlib.suppress(BaseException):
        options, _ = take(_without_dangling(words[:-1]), from_environment())
        state = State(options, standard_output())
        if not preferences.are_set() or state.preferences().enable_shell_completion:
            found += candidates(words, known_to(state))


def known_to(state: State) -> Known:
    """Return what a state's backend has to say."""
    import msgspec

    from nexus_cli.backend import request_of
    from nexus_cli.stored import stored_token

    def ask(command: str, **members: Any) -> Any:
        options = state.options
        if options.connect and not options.token:  # a key pressed is no time to renew a login
            options = replace(options, token=stored_token(options.connect, renew=False))
        backend = state.backend()  # with the application, its preferences are known
        if not state.preferences().enable_shell_completion:
            raise UsageError("enable_shell_completion is off.")
        return msgspec.json.decode(backend.call(request_of(command, **members), options))

    def names() -> list[Candidate]:
        return [(each["name"], each["description"].partition("\n")[0]) for each in ask("list")["workflows"]]

    def command(name: str) -> Any:
        import typer

        from nexus_cli.contributed import add_command

        app = typer.Typer()
        app.callback()(lambda: None)  # a group, with one command too
        add_command(app, state, name, [])
        return typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]

    def contributed() -> list[Candidate]:
        from nexus_cli.contributed import listed

        return [*listed(state).items()]

    return Known(names, lambda name: ask("describe", workflow=name)["input_schema"], contributed, command)
