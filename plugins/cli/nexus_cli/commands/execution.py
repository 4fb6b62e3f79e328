"""``nexus execute`` and ``nexus runs follow``: run a workflow, and follow a run."""

from __future__ import annotations

import codecs
import math
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nexus_cli.backends.backend import request_of
from nexus_cli.commands.fields import Fields
from nexus_cli.commands.following import Following
from nexus_cli.commands.run_questions import RunQuestions
from nexus_cli.options import EXECUTE, UsageError, seconds
from nexus_cli.server.requests import LONGEST_WAIT
from nexus_cli.terminal.run_progress import RunProgress
from nexus_core.errors import NotFound, ValidationError
from nexus_core.jsontext import exactly, parse_object
from nexus_core.server.caller import TEXT_LIMIT
from nexus_core.text import printable

if TYPE_CHECKING:
    from nexus_cli.backends.backend import OnEvent
    from nexus_cli.context import CliContext
    from nexus_cli.terminal.output import Output

_decode = msgspec.json.Decoder().decode


class Arguments:
    """The arguments of ``nexus execute``: its own options, the workflow's name, the fields.

    Raises:
        UsageError: An option is invalid, or the name is missing.
    """

    def __init__(self, words: list[str]) -> None:
        self.name = ""
        self.data: str | None = None
        self.wait: float | None = None
        self.idempotency_key: str | None = None
        self.help = False
        self.fields: list[str] = []
        queue = [word for word in words if word != "--"]
        while queue:
            word = queue.pop(0)
            option, equals, value = word.partition("=")
            if word in ("--help", "-h"):
                self.help = True
            elif option in EXECUTE:
                if not equals:
                    if not queue:
                        raise UsageError(f"Option {option} needs a value.")
                    value = queue.pop(0)
                self._set(option, value)
            elif not self.name and not word.startswith("--"):
                self.name = word
            elif self.name:
                self.fields.append(word)
            else:
                raise UsageError("The workflow's name comes before its parameters: nexus execute NAME --field value.")
        if not self.name and not self.help:
            raise UsageError("No workflow is named: nexus execute NAME [--data JSON | --field value ...]")

    def _set(self, option: str, value: str) -> None:
        if option == "--data":
            self.data = value
        elif option == "--wait":
            self.wait = seconds("--wait", value, 0.0, LONGEST_WAIT)
        elif re.fullmatch(rf"[!-~]{{1,{TEXT_LIMIT}}}", value):
            self.idempotency_key = value
        else:
            raise UsageError(f"Option {option} needs 1 to {TEXT_LIMIT} ASCII characters without spaces.")


def run(cli: CliContext, words: list[str]) -> None:
    """Run ``nexus execute``."""
    arguments = Arguments(words)
    if arguments.help:
        from nexus_cli.commands.workflow_help import execute_help

        schema = describe(cli, arguments.name) if arguments.name else None
        cli.output.line(execute_help(schema))
        return
    if arguments.wait is not None and not cli.options.connect:
        raise UsageError("--wait needs a server, on which the run continues: add --connect URL.")
    backend = cli.backend()
    data, flags = _data(arguments.data), flag_parameters(cli, arguments)
    request = request_of(
        "execute", workflow=arguments.name, params=data | flags, timeout=cli.options.timeout,
        wait=arguments.wait, by_data=(arguments.data is not None and not arguments.fields) or None,
        events=(cli.output.lively or cli.output.pretty) or None,
    )  # fmt: skip
    options = replace(cli.options, idempotency_key=arguments.idempotency_key)
    begin = time.monotonic()
    try:
        with RunQuestions(cli, backend) as questions, RunProgress(cli.output) as live:
            reply = backend.call(request, options, _shown_by(live, questions))
    except ValidationError as exc:
        if not options.json:
            from nexus_cli.commands.field_errors import name_flags

            name_flags(exc, None if arguments.data is None else flags)
        raise
    show_reply(cli.output, reply, live.items, time.monotonic() - begin)
    if options.debug and (left := backend.rate_limit) is not None:
        budget = f"{left.remaining} of {left.limit} calls in {left.window:g} s are left"
        cli.output.note(f"{budget}, more in {math.ceil(left.reset)} s")


def show_reply(output: Output, reply: bytes, items: int, duration: float) -> None:
    """Write a reply: unchanged if piped, the result alone on a terminal."""
    if not output.pretty:
        output.json(reply)
        return
    members = _decode(reply)
    if members.get("status") == "completed":
        output.line(f"Run {members['run_id']} has completed. Its result was returned to its caller and is not stored.")
        return
    if members.get("status") == "waiting":
        output.line(f"Run {members['run_id']} waits for an answer.")
        output.note(f"nexus questions show {members['run_id']}")
        return
    if "status" in members:
        output.line(f"Run {members['run_id']} is still running.")
        output.note(f"nexus runs follow {members['run_id']}")
        return
    if not items:
        output.value(members["result"])
    elif items != len(members["result"]):
        output.note(f"{items} items were shown as they arrived; the complete result has {len(members['result'])}")
        output.value(members["result"])
    flags = "".join(f", {flag}" for flag in ("cached", "replayed") if members.get(flag))
    count = f"{items} items, " if items else ""
    output.note(f"run {members['run_id']} ({count}{duration:.2f} s{flags})")


def flag_parameters(cli: CliContext, arguments: Arguments) -> dict[str, Any]:
    """Return the parameters given as flags; they come before members of the same name in ``--data``."""
    if not arguments.fields:
        return {}
    try:
        schema = describe(cli, arguments.name)["input_schema"]
    except NotFound:
        schema = {}  # the call itself reports it
    return Fields(schema).read(arguments.fields)


def _data(given: str | None) -> dict[str, Any]:
    if given is None:
        return {}
    text = read_data(given)
    params = parse_object(text, "value of --data")
    return exactly(text) if params else params


def describe(cli: CliContext, name: str) -> dict[str, Any]:
    """Return the description of a workflow.

    Raises:
        WorkflowNotFound: The workflow does not exist.
    """
    found: dict[str, Any] = _decode(cli.call("describe", workflow=name))
    return found


def read_data(text: str, option: str = "--data") -> bytes:
    """Return the JSON text of an option such as ``--data``: ``-`` reads stdin, ``@name`` reads a file."""
    if text == "-":
        return _without_bom(sys.stdin.buffer.read())
    if text.startswith("@"):
        try:
            return _without_bom(Path(text[1:]).read_bytes())
        except OSError as exc:
            raise UsageError(f"{option}: {printable(text[1:], 200)} can't be read: {exc.strerror}.") from None
    return text.encode("utf-8", "surrogateescape")


def _without_bom(text: bytes) -> bytes:
    """Return a text as UTF-8 without a byte order mark."""
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return text.decode("utf-16").encode()
        except UnicodeError:
            return text
    return text.removeprefix(codecs.BOM_UTF8)


def follow(cli: CliContext, run_id: str, retry: float) -> None:
    """Run ``nexus runs follow``."""
    backend = cli.backend()
    output = cli.output  # only now: a backend in this process redirects stdout
    begin = time.monotonic()
    request = request_of("runs.follow", run_id=run_id)
    if output.pretty:
        with RunQuestions(cli, backend) as questions, RunProgress(output) as live:
            reply = Following(cli, request, "number", _shown_by(live, questions), retry).run(backend)
        show_reply(output, reply, live.items, time.monotonic() - begin)
        return

    def write(event: dict[str, Any]) -> None:
        output.json(msgspec.json.encode(event))
        if questions.is_question(event):
            questions.show(event)

    with RunQuestions(cli, backend, writes_events=True) as questions:
        output.json(Following(cli, request, "number", write, retry).run(backend))


def _shown_by(live: RunProgress, questions: RunQuestions) -> OnEvent:
    """Return what shows the events of a run: its questions are asked while the progress bar is hidden."""

    def show(event: dict[str, Any]) -> None:
        if questions.is_question(event):
            live.between(lambda: questions.show(event))
        else:
            live.show(event)

    return show
