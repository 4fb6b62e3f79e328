"""``nexus shell``: an interactive prompt, on one application or one connection."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus_cli.options import INTERRUPTED, as_utf8

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prompt_toolkit import PromptSession
    from prompt_toolkit.document import Document

    from nexus_cli.context import CliContext
    from nexus_cli.settings import CliSettings

_LEAVE = ("exit", "quit")
_SECRETS = ("--token", "--header")


def run(cli: CliContext, commands: Any) -> int:
    """Read commands until the end of input, ``exit`` or ``quit``. Returns the last command's exit code.

    Args:
        cli: The context of all commands.
        commands: The click group, for completion.
    """
    backend = cli.backend()  # errors of the application are reported before the first prompt
    base = cli.options
    code = 0
    if sys.stdin.isatty():
        cli.output.note(f"Commands run on {backend.where}. `list` shows the workflows, `exit` leaves.")
    for line in _lines(cli, commands):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as exc:
            cli.output.complain(f"{exc}.")
            code = 2
            continue
        words = words[1:] if words[:1] == ["nexus"] else words
        if not words:
            continue
        if words[0] in _LEAVE:
            break
        code = cli.run_line(base, words)
        if code == INTERRUPTED:
            cli.output.note("Interrupted.")
    return code


def _lines(cli: CliContext, commands: Any) -> Iterator[str]:
    """Yield lines: from a prompt with history and completion on a terminal, else from stdin as they are."""
    if not sys.stdin.isatty():
        for number, line in enumerate(sys.stdin):
            yield as_utf8(line if number else line.removeprefix("\ufeff").removeprefix("\udcef\udcbb\udcbf"))
        return
    wanted = cli.preferences()
    session = _prompt(cli, wanted, commands)
    while True:
        try:
            yield session.prompt(f"{wanted.cli_name}> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _prompt(cli: CliContext, wanted: CliSettings, commands: Any) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer, Completion
    from prompt_toolkit.history import DummyHistory, FileHistory, History, InMemoryHistory

    from nexus_cli.commands.completion import candidates, source_of, words_of

    source = source_of(cli, lambda: commands)

    class Words(Completer):
        def get_completions(self, document: Document, complete_event: Any) -> Iterable[Completion]:
            text = document.text_before_cursor
            with contextlib.suppress(Exception):
                words = words_of(text)
                for word, help_text in candidates(words[1:] if words[:1] == ["nexus"] else words, source):
                    yield Completion(word, -len(words[-1]), display_meta=help_text[:60])

    class WithoutSecrets(FileHistory):
        is_stored = True

        def store_string(self, string: str) -> None:
            if any(option in string for option in _SECRETS):
                return
            try:
                super().store_string(string)
            except OSError as exc:  # such as a full disk: the shell goes on without a history
                if self.is_stored:
                    cli.output.note(f"The history can't be stored: {exc.strerror}.")
                self.is_stored = False
            else:
                self.is_stored = True

    path = history_file(wanted.history_size) if wanted.enable_history else None
    history: History = WithoutSecrets(str(path)) if path else InMemoryHistory()
    if not wanted.enable_history:
        history = DummyHistory()
    completer = Words() if wanted.enable_shell_completion else None
    return PromptSession(history=history, completer=completer, complete_while_typing=False, enable_history_search=True)


def history_file(size: int) -> Path | None:
    """Return the file of the shell's history, readable by its owner alone; None if it can't be written.

    Args:
        size: Maximum number of entries; the latest are kept.
    """
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    path = Path(base, "nexus", "history")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        path.chmod(0o600)
        _trim(path, size)
    except OSError:
        return None
    return path


def _trim(path: Path, size: int) -> None:
    """Keep the latest entries; each begins with an empty line and a comment with its time."""
    entries = path.read_text(encoding="utf-8", errors="replace").split("\n# ")
    if len(entries) > size:
        path.write_text("\n# " + "\n# ".join(entries[-size:]), encoding="utf-8")
