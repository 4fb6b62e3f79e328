"""`Output`: JSON for pipes, tables and colour for terminals. Control characters never reach a terminal."""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from nexus_core.text import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from nexus_core.errors import NexusError

_LONGEST_MESSAGE = 2000
"""Maximum length of an error's line, in characters."""


def printable(text: str, limit: int) -> str:
    """See `nexus_core.text.printable`. Imported late: help needs it not."""
    from nexus_core import text as texts

    return texts.printable(text, limit)


class ReaderLeft(Exception):
    """The reader of stdout has closed it, as in ``| head``."""


class Output:
    """Writes results to stdout and everything else to stderr.

    Args:
        stdout: Where results go.
        stderr: Where errors and progress go.
        as_json: Whether to write JSON on a terminal too.
        log_hint: Text after the id of a failed run, about its log.

    Attributes:
        colors: Whether to use colours, on a terminal that supports them.
        bars: Whether to show progress bars, on a terminal.
    """

    colors = True
    bars = True

    def __init__(self, stdout: TextIO, stderr: TextIO, *, as_json: bool = False, log_hint: str = "") -> None:
        self.stdout = stdout
        self.stderr = stderr
        self.as_json = as_json
        self.log_hint = log_hint
        self.on_terminal = stdout.isatty()
        self.pretty = self.on_terminal and not as_json
        self.lively = stderr.isatty() and not as_json

    def with_json(self, as_json: bool) -> Output:
        """Return the same output in JSON or not."""
        return self.alike(Output(self.stdout, self.stderr, as_json=as_json, log_hint=self.log_hint))

    def alike(self, other: Output) -> Output:
        """Return another output, with colours and bars as here."""
        other.colors, other.bars = self.colors, self.bars
        return other

    def console(self, stream: TextIO) -> Console:
        """Return a console for tables, colours and bars. It honours NO_COLOR and TERM."""
        from rich.console import Console

        plain = None if self.colors else True
        return Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=False, no_color=plain)

    def _coloured(self, stream: TextIO) -> bool:
        return self.colors and stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def json(self, text: bytes) -> None:
        """Write one JSON text and a newline, unchanged; on a terminal, control characters are escaped."""
        if self.on_terminal:
            text = self._shown(escaped(text.decode()))
        self._write(text + b"\n")

    def value(self, value: Any, *, indent: int | None = 2) -> None:
        """Write a JSON value for a terminal: coloured, and indented unless ``indent`` is None."""
        import json

        text = escaped(json.dumps(value, ensure_ascii=False, indent=indent), keep="\n")
        if not self._coloured(self.stdout) or len(text) > 100_000:  # colouring large texts is slow
            self.line(text)
            return
        from rich.highlighter import JSONHighlighter
        from rich.text import Text

        self.console(self.stdout).print(JSONHighlighter()(Text(text)), soft_wrap=True)

    def reply(self, text: bytes) -> None:
        """Write a JSON text: unchanged if piped, coloured and indented on a terminal."""
        import msgspec

        if self.pretty:
            self.value(msgspec.json.decode(text))
        else:
            self.json(text)

    def document(self, value: Any) -> None:
        """Write an indented JSON value, also when piped."""
        import json

        self.line(escaped(json.dumps(value, ensure_ascii=False, indent=2), keep="\n"))

    def line(self, text: str) -> None:
        """Write a line of text to stdout."""
        self._write(self._shown(text) + b"\n")

    def _shown(self, text: str) -> bytes:
        """Return text in UTF-8, or in the terminal's encoding with JSON escapes for characters that it lacks."""
        encoding = (self.stdout.encoding or "utf-8") if self.on_terminal else "utf-8"
        try:
            return text.encode(encoding)
        except UnicodeEncodeError:
            return "".join(each if _fits(each, encoding) else json_escape(each) for each in text).encode(encoding)

    def _write(self, text: bytes) -> None:
        try:
            self.stdout.flush()
            self.stdout.buffer.write(text)
            self.stdout.buffer.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stdout.fileno())  # discards the unwritten rest
            raise ReaderLeft from None

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write a table."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold")
        for index, column in enumerate(columns):
            table.add_column(column, style="cyan" if index == 0 else "", overflow="fold", no_wrap=index == 0)
        for row in rows:
            table.add_row(*(Text(escaped(cell)) for cell in row))
        self.console(self.stdout).print(table)

    def note(self, text: str) -> None:
        """Write a note to stderr, on a terminal only."""
        if self.lively:
            self.console(self.stderr).print(escaped(text), style="dim", soft_wrap=True)

    def remark(self, text: str) -> None:
        """Write a note to stderr, on a terminal or not."""
        if self.as_json:
            self.complain_json({"note": text})
        else:
            print(f"nexus: {printable(text, _LONGEST_MESSAGE)}", file=self.stderr, flush=True)

    def entry(self, clock: str, name: str, style: str, text: str) -> None:
        """Write one line of an event log: time, coloured name, text."""
        if not self._coloured(self.stdout):
            self.line(f"{clock} {escaped(name)} {escaped(text)}")
            return
        from rich.text import Text

        words = Text.assemble((clock, "dim"), " ", (escaped(name), style), " ", escaped(text))
        self.console(self.stdout).print(words, soft_wrap=True)

    def complain(self, text: str) -> None:
        """Write one line to stderr: an error of usage or configuration."""
        line = f"nexus: {printable(text, _LONGEST_MESSAGE)}"
        if self.lively and self._coloured(self.stderr):
            from rich.text import Text

            self.console(self.stderr).print(Text.assemble(("nexus:", "bold red"), line[6:]), soft_wrap=True)
        else:
            print(line, file=self.stderr, flush=True)

    def complain_json(self, value: Any) -> None:
        """Write an error as JSON to stderr."""
        import msgspec

        print(escaped(msgspec.json.encode(value).decode()), file=self.stderr, flush=True)

    def error(self, error: NexusError) -> None:
        """Write an error: on one line, or one line a field on a terminal; with ``--json`` as problem details."""
        if self.as_json:
            self.complain_json(error.problem())
        elif self.lively and len(error.errors) > 1:
            self.complain(f"{error.title}:")
            for entry in error.errors:
                where, message = (printable(str(entry.get(name, "")), 300) for name in ("pointer", "message"))
                print(f"  {where or '/'}: {message}", file=self.stderr, flush=True)
        else:
            self.complain(f"{error.message}{_when(error)}{self._run(error)}")

    def _run(self, error: NexusError) -> str:
        """Return the id of a failed run, with a hint at the log if the error hides the reason."""
        if not error.run_id:
            return ""
        hint = self.log_hint if error.code in ("workflow_failed", "internal_error") else ""
        return f" (run {error.run_id}{hint})"


def _when(error: NexusError) -> str:
    """Return when to retry, if that is known."""
    return "" if error.retry_after is None else f" Try again in {max(1, math.ceil(error.retry_after))} s."


def _fits(char: str, encoding: str) -> bool:
    try:
        char.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def json_escape(char: str) -> str:
    r"""Return a character as JSON escapes it: ``\u00e9``, and in two parts beyond U+FFFF."""
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def standard_output(*, as_json: bool = False) -> Output:
    """Return this process's output."""
    return Output(sys.stdout, sys.stderr, as_json=as_json)


def own_stdout() -> TextIO:
    """Return stdout for results alone. Later writes of others, such as a workflow's ``print``, go to stderr."""
    if sys.stdout.isatty():
        return sys.stdout
    sys.stdout.flush()
    mine = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)
    return mine
