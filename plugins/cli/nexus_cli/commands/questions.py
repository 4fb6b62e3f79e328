"""``nexus questions``: list, show and answer the questions of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from nexus_cli.commands.execution import read_data
from nexus_cli.commands.fields import Fields
from nexus_cli.commands.listing import show_table
from nexus_cli.commands.run_questions import answer_command, can_ask, send
from nexus_cli.options import UsageError
from nexus_cli.terminal.question_view import left, show_question
from nexus_core.errors import MalformedRequest, PermissionDenied, QuestionClosed, QuestionNotFound, ValidationError
from nexus_core.jsontext import parse
from nexus_core.text import printable

if TYPE_CHECKING:
    from nexus_cli.backends.backend import CliBackend
    from nexus_cli.context import CliContext

_decode = msgspec.json.Decoder().decode


def listed(cli: CliContext, **filters: Any) -> None:
    """Show open questions, the oldest first."""
    reply = cli.call("questions.list", **filters)
    show_table(
        cli, reply, "questions", "No open questions.",
        {"RUN": lambda each: each["run_id"], "": lambda each: str(each["number"]), "QUESTION": _in_a_line,
         "TO": lambda each: each["to"], "EXPIRES": lambda each: left(each.get("expires_at"))},
    )  # fmt: skip
    if cli.output.pretty and (following := _decode(reply).get("next")):
        cli.output.line(f"Further questions: --after {following}")


def _in_a_line(question: dict[str, Any]) -> str:
    return printable(f"{question['workflow']}: {' '.join(question['question'].split())}")


def show(cli: CliContext, run_id: str, number: int | None) -> None:
    """Show a question of a run; without a number, all of them."""
    if number is None:
        reply = cli.call("questions.of_run", run_id=run_id)
        found = _decode(reply)["questions"]
    else:
        reply = cli.call("questions.show", run_id=run_id, number=number)
        found = [_decode(reply)]
    if not cli.output.pretty:
        cli.output.json(reply)
        return
    for index, question in enumerate(found):
        if index:
            cli.output.line("")
        show_question(cli.output, cli.output.stdout, question)
    if not found:
        cli.output.line("The run has asked nothing.")
    for question in found:
        if question["may_answer"]:
            cli.output.note(answer_command(cli.options, question))


def answer(cli: CliContext, run_id: str, number: int | None, text: str | None, fields: list[str]) -> None:
    """Answer a question: with ``--answer``, with ``--field``, or on a terminal with a form.

    Raises:
        UsageError: No answer is given, and there is no terminal to ask on.
        NexusError: There is no such question, or it does not take the answer.
    """
    if text is not None and fields:
        raise UsageError("--answer and --field exclude each other.")
    asks = text is None and not fields
    if asks and not can_ask(cli):
        raise UsageError("No answer is given: add --answer JSON, or --field NAME=VALUE for each member of an object.")
    given = None if text is None else read_data(text, "--answer")
    backend = cli.backend()
    question = _named(cli, run_id, number)
    if asks:
        reply = _ask(cli, backend, question)
    else:
        schema = Fields(question["schema"])
        value = _of_fields(schema, fields) if given is None else _of_text(schema, given)
        try:
            reply = send(backend, cli.options, question, value)
        except ValidationError as exc:
            if not cli.options.json:
                from nexus_cli.commands.field_errors import name_answer

                name_answer(exc, by_fields=given is None)
            raise
    if cli.output.pretty:
        cli.output.line(f"Question {question['number']} of run {question['run_id']} is answered.")
    else:
        cli.output.json(reply)


def _named(cli: CliContext, run_id: str, number: int | None) -> dict[str, Any]:
    """Return the question that a command names; without a number, the open one of the run."""
    if number is not None:
        found: dict[str, Any] = _decode(cli.call("questions.show", run_id=run_id, number=number))
        return found
    every = _decode(cli.call("questions.of_run", run_id=run_id))["questions"]
    opened = [question for question in every if question["status"] == "open"]
    opened = [question for question in opened if question["may_answer"]] or opened
    if not opened:
        raise QuestionNotFound(f"Run {printable(run_id)} has no open question.")
    if len(opened) > 1:
        numbers = ", ".join(str(question["number"]) for question in opened[:20])
        raise UsageError(f"The run has several open questions: add the NUMBER of one, {numbers}.")
    return dict(opened[0])


def _ask(cli: CliContext, backend: CliBackend, question: dict[str, Any]) -> bytes:
    """Ask on the terminal until the answer is taken, and return the reply."""
    from nexus_cli.commands.question_form import QuestionForm

    if question["status"] != "open":
        details = {"question_status": question["status"]}
        raise QuestionClosed(f"The question is no longer open: {question['status']}.", details=details)
    if not question["may_answer"]:
        raise PermissionDenied(f"This question is for {question['to']} to answer, and not for you.")
    form = QuestionForm(cli.output, question)
    try:
        return form.answer(lambda value: send(backend, cli.options, question, value))
    except EOFError:
        raise KeyboardInterrupt from None


def _of_text(schema: Fields, given: bytes) -> Any:
    """Return the value of ``--answer``: JSON; for a question that takes text, the text itself too."""
    types = schema.types(schema.whole)
    try:
        value = parse(given, "value of --answer")
    except MalformedRequest:
        if types and "string" not in types:
            raise
        return _text(given)
    return _text(given) if set(types) == {"string"} and not isinstance(value, str) else value


def _text(given: bytes) -> str:
    try:
        return given.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise MalformedRequest("The value of --answer is not valid UTF-8.") from None


def _of_fields(schema: Fields, fields: list[str]) -> dict[str, Any]:
    """Return the object of ``--field NAME=VALUE`` options.

    Raises:
        UsageError: One has no name, or the question does not take an object.
    """
    types = schema.types(schema.whole)
    if types and "object" not in types:
        raise UsageError(f"--field is for answers that are objects; this is {' or '.join(types)}: use --answer.")
    for field in fields:
        name, equals, _ = field.partition("=")
        if not equals or not name:
            raise UsageError(f"--field {printable(field)!r} is not NAME=VALUE.")
    return schema.read([f"--{field}" for field in fields])
