"""``nexus shell``: commands without ``nexus`` in front, on one application or connection for the whole time."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus_cli.options import UsageError, as_utf8, take

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prompt_toolkit import PromptSession
    from prompt_toolkit.document import Document

    from nexus_cli.settings import CliSettings
    from nexus_cli.state import State

_LEAVE = ("exit", "quit")
_SECRET = "--token"  # noqa: S105  (the option's name, not a token)


def run(state: State) -> int:
    """Read commands until the end of input, ``exit`` or ``quit``. Returns the last command's exit code."""
    backend = state.backend()  # what is wrong with the application is said before the first prompt
    base = state.options
    code = 0
    if sys.stdin.isatty():
        state.output.note(f"Commands go to {backend.where}. `list` shows the workflows, `exit` leaves.")
    for line in _lines(state):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as exc:
            state.output.complain(f"{exc}.")
            code = 2
            continue
        if words[:1] == ["nexus"]:
            words = words[1:]
        if not words:
            continue
        if words[0] in _LEAVE:
            break
        code = _command(state, base, words)
    return code


def _command(state: State, base: Any, words: list[str]) -> int:
    from nexus_cli.main import attempt, dispatch

    def act() -> int:
        options, rest = take(words, base)
        state.use(options)
        if rest[:1] in (["shell"], ["serve"]):
            raise UsageError(f"{rest[0]} does not work inside the shell.")
        return dispatch(state, rest)

    code = attempt(state, act)
    if code == 130:
        state.output.note("Interrupted.")
    return code


def _lines(state: State) -> Iterator[str]:
    """Yield lines: from a prompt with history and completion on a terminal, else from stdin as they are."""
    if not sys.stdin.isatty():
        for number, line in enumerate(sys.stdin):
            yield as_utf8(line if number else line.removeprefix("\ufeff").removeprefix("\udcef\udcbb\udcbf"))
        return
    wanted = state.preferences()
    session = _prompt(state, wanted)
    while True:
        try:
            yield session.prompt(f"{wanted.cli_name}> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def _prompt(state: State, wanted: CliSettings) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer, Completion
    from prompt_toolkit.history import DummyHistory, FileHistory, History, InMemoryHistory

    from nexus_cli.completion import candidates, known_to, words_of

    known = known_to(state)

    class Words(Completer):
        def get_completions(self, document: Document, complete_event: Any) -> Iterable[Completion]:
            text = document.text_before_cursor
            with contextlib.suppress(Exception):
                words = words_of(text)
                if words[:1] == ["nexus"]:
                    words = words[1:]
                for word, help_text in candidates(words, known):
                    yield Completion(word, -len(words[-1]), display_meta=help_text[:60])

    class WithoutSecrets(FileHistory):
        is_stored = True

        def store_string(self, string: str) -> None:
            if _SECRET in string:
                return
            try:
                super().store_string(string)
            except OSError as exc:  # a full disk, perhaps: the shell works without
                if self.is_stored:
                    state.output.note(f"The history can't be stored: {exc.strerror}.")
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
    """Return the file that keeps the shell's history, readable by its owner alone; None if none can be.

    Args:
        size: Entries that are kept; the latest stay.
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
