"""Shows what a run asks while its command waits for it, and asks its user right there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec

from nexus_cli.backends.backend import request_of
from nexus_core.errors import NexusError
from nexus_core.events.event import WORKFLOW_QUESTION
from nexus_core.text import printable

if TYPE_CHECKING:
    from nexus_cli.backends.backend import CliBackend
    from nexus_cli.context import CliContext
    from nexus_cli.options import Options

_LONGEST_TEXT = 300
"""Maximum length of a question on one line, in characters."""


class RunQuestions:
    """Takes the events of runs. As a context manager, it closes its connection at the end.

    Args:
        cli: The command line's context.
        backend: The backend whose call brings the events.
        writes_events: Whether the command writes the events themselves.
    """

    def __init__(self, cli: CliContext, backend: CliBackend, *, writes_events: bool = False) -> None:
        self._cli = cli
        self._backend = backend
        self._writes_events = writes_events
        self._own: CliBackend | None = None

    def __enter__(self) -> RunQuestions:
        """Connect when there is a question."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        if self._own is not None and self._own is not self._backend:
            self._own.close()

    @staticmethod
    def is_question(event: dict[str, Any]) -> bool:
        """Whether an event says that a run asks something."""
        return event.get("type") == WORKFLOW_QUESTION

    def show(self, event: dict[str, Any]) -> None:
        """Show a question, and ask it if the user may answer it and is at a terminal.

        Raises:
            KeyboardInterrupt: The user has left.
        """
        output = self._cli.output
        if output.as_json:
            if not self._writes_events:  # stdout has the result alone
                output.complain_json(event)
            return
        question = self._current(event)
        if question["status"] != "open":  # one of the past: the events of a run are shown from its beginning
            return
        if question["may_answer"] and can_ask(self._cli) and self._is_answered(question):
            return
        output.remark(self._line(question))

    def _current(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return the question as it is now; as the event has it, if the server does not tell."""
        run_id, number = event["run_id"], event["data"]["number"]
        try:
            reply = self._connected().call(
                request_of("questions.show", run_id=run_id, number=number), self._cli.options
            )
        except NexusError:
            known = {"run_id": run_id, "workflow": event.get("workflow", ""), "status": "open", "may_answer": False}
            return {**known, **event["data"]}
        found: dict[str, Any] = msgspec.json.decode(reply)
        return found

    def _connected(self) -> CliBackend:
        if self._own is None:
            self._own = self._backend.another()
        return self._own

    def _is_answered(self, question: dict[str, Any]) -> bool:
        """Ask the user. Returns whether nothing more is to be said about the question."""
        from nexus_cli.commands.question_form import QuestionForm

        form = QuestionForm(self._cli.output, question)
        try:
            form.answer(lambda value: send(self._connected(), self._cli.options, question, value))
        except EOFError:
            return False
        except NexusError as exc:
            self._cli.output.error(exc)
            return exc.code == "question_closed"
        return True

    def _line(self, question: dict[str, Any]) -> str:
        asked = printable(" ".join(question["question"].split()), _LONGEST_TEXT)
        text = f"{question['workflow']} waits for an answer by {question['to']}: {asked}"
        if self._backend.shares_runs:
            return f"{text} Answer with: {answer_command(self._cli.options, question)}"
        return f"{text} It can be answered in this process alone, on a terminal: set run_store, or use --connect."


def can_ask(cli: CliContext) -> bool:
    """Whether there is a terminal to ask questions on: stdin and stderr, whatever stdout is."""
    return sys.stdin.isatty() and cli.output.stderr.isatty()


def send(backend: CliBackend, options: Options, question: dict[str, Any], value: Any) -> bytes:
    """Send an answer, and return the reply: the question as it is then."""
    request = request_of("questions.answer", run_id=question["run_id"], number=question["number"])
    return backend.call(request | {"answer": value}, options)


def answer_command(options: Options, question: dict[str, Any]) -> str:
    """Return the command that answers a question, with the server that the command line names."""
    where = f" --connect {options.connect}" if options.connect else f" --app {options.app}" if options.app else ""
    return f"nexus{where} questions answer {question['run_id']} {question['number']}"
