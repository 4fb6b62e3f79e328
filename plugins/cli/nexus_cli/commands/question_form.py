"""`QuestionForm`: asks for the answer to a question on a terminal, field by field, by the schema of the answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nexus_cli.commands.field_errors import path_in_answer, path_of
from nexus_cli.commands.fields import Fields
from nexus_cli.terminal.question_view import show_question
from nexus_core.errors import ConfigurationError, MalformedRequest, ValidationError
from nexus_core.jsontext import parse
from nexus_core.schema.validation import Validator
from nexus_core.text import escaped, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from prompt_toolkit import PromptSession

    from nexus_cli.terminal.output import Output

OMITTED: Any = object()
"""In the place of a member that the answer does without."""

_YES, _NO = ("y", "yes", "true"), ("n", "no", "false")
_BRIEF = 60
"""Longest default that is shown, in characters."""


class WrongText(Exception):
    """What was typed is no value of its field; the message says why."""


class QuestionForm:
    """A form on stderr and stdin. Ctrl-C raises `KeyboardInterrupt`, the end of input `EOFError`.

    Args:
        output: The command line's output.
        question: The question, as the server shows it.
    """

    def __init__(self, output: Output, question: dict[str, Any]) -> None:
        self._output = output
        self._question = question
        self._fields = Fields(question["schema"])
        self._schema = self._fields.whole
        try:
            self._validator: Validator | None = Validator(question["schema"])
        except ConfigurationError:  # a server of another version has accepted it, and will check the answer
            self._validator = None
        self._prompt: PromptSession[str] | None = None

    def answer(self, send: Callable[[Any], bytes]) -> bytes:
        """Show the question, ask for its answer until it is accepted, and return the reply.

        Args:
            send: Sends an answer.

        Raises:
            EOFError: The input has ended.
            NexusError: The question takes no answer any more.
        """
        show_question(self._output, self._output.stderr, self._question)
        while True:
            value = self._object() if self._is_form() else self._value([], self._schema, "Answer", is_required=True)
            try:
                return send(value)
            except ValidationError as exc:
                if not exc.errors:
                    raise
                for entry in exc.errors:
                    self._complain(entry, path_in_answer(entry) or [])

    def _is_form(self) -> bool:
        return self._fields.types(self._schema) == ["object"] and bool(self._fields.properties)

    def _object(self) -> dict[str, Any]:
        """Ask for the members of an object, one after the other."""
        required = self._schema.get("required") or ()
        members: dict[str, Any] = {}
        while True:
            for name, schema in self._fields.properties.items():
                resolved = self._fields.resolve(schema)
                if description := str(resolved.get("description") or ""):
                    self._write(escaped(" ".join(description.split())), style="dim")
                value = self._value([name], resolved, escaped(name), is_required=name in required, members=members)
                if value is OMITTED:
                    members.pop(name, None)
                else:
                    members[name] = value
            wrong = self._errors(members)
            for entry in wrong:
                self._complain(entry, path_of(entry))
            if not wrong:
                return members

    def _value(
        self, path: list[str], schema: dict[str, Any], label: str, *, is_required: bool,
        members: dict[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        """Ask for one value until it fits its schema.

        Args:
            path: Where it is in the answer.
            schema: Its schema, resolved.
            label: What it is called.
            is_required: Whether it can't be left out.
            members: The other members of the object that it belongs to.
        """
        options = _options(self._fields, schema)
        for number, option in enumerate(options, 1):
            self._write(f"  {number}) {_shown(option)}")
        hint = _hint(self._fields, schema, options)
        default, types = schema.get("default", OMITTED), self._fields.types(schema)
        while True:
            text = self._read(f"{label}{hint}: ")
            if not text.strip() and (default is not OMITTED or not is_required):
                return default
            if not text.strip() and _takes_nothing(types):
                return None
            try:
                value = _read(self._fields, schema, options, text)
            except WrongText as exc:
                self._output.complain(str(exc))
                continue
            wrong = self._errors(value if members is None else members | {path[0]: value})
            wrong = [entry for entry in wrong if path_of(entry)[: len(path)] == path]
            if not wrong:
                return value
            for entry in wrong:
                self._complain(entry, path_of(entry)[len(path) :])

    def _errors(self, value: Any) -> list[dict[str, Any]]:
        return [] if self._validator is None else self._validator.errors(value)

    def _complain(self, entry: dict[str, Any], path: list[str]) -> None:
        where = f"{'.'.join(path)}: " if path else ""
        self._output.complain(f"{where}{entry['message']}")

    def _read(self, label: str) -> str:
        """Return a line that is typed after a label."""
        if self._prompt is None:
            from prompt_toolkit import PromptSession
            from prompt_toolkit.history import DummyHistory
            from prompt_toolkit.output import create_output

            self._prompt = PromptSession(history=DummyHistory(), output=create_output(self._output.stderr))
        return self._prompt.prompt(label)

    def _write(self, text: str, style: str | None = None) -> None:
        self._output.console(self._output.stderr).print(text, style=style)


def _is_boolean(types: list[str]) -> bool:
    return "boolean" in types and {*types} <= {"boolean", "null"}


def _takes_nothing(types: list[str]) -> bool:
    """Whether nothing typed is null, rather than an empty text."""
    return "null" in types and "string" not in types


def _options(fields: Fields, schema: dict[str, Any]) -> list[Any]:
    """Return the values that a field allows, if they are enumerated."""
    found: list[Any] = []
    for part in (schema, *(fields.resolve(each) for name in ("anyOf", "oneOf") for each in schema.get(name) or ())):
        found += part.get("enum") or ()
        found += [part["const"]] if "const" in part else []
        if part is not schema and part.get("type") == "null":
            found.append(None)
    return found if any(each is not None for each in found) else []


def _hint(fields: Fields, schema: dict[str, Any], options: list[Any]) -> str:
    """Return what may be typed, and the default."""
    types = fields.types(schema)
    kind = ""
    if options:
        kind = f" (1 to {len(options)})" if len(options) > 1 else " (1)"
    elif _is_boolean(types):
        kind = " (yes or no)"
    elif "string" not in types:
        kind = f" ({' or '.join(types)})" if types and not {"array", "object"} & {*types} else " (JSON)"
    if "default" not in schema:
        return kind
    return f"{kind} [{_shown(schema['default'])}]"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return printable(text, _BRIEF)


def _read(fields: Fields, schema: dict[str, Any], options: list[Any], text: str) -> Any:
    """Return the value that was typed.

    Raises:
        WrongText: It is none.
    """
    types = fields.types(schema)
    word = text.strip()
    if options:
        return _option(options, word)
    if _is_boolean(types):
        if word.lower() in _YES or word.lower() in _NO:
            return word.lower() in _YES
        raise WrongText("Answer yes or no.")
    if "string" in types:
        return fields.value(text, schema)
    if {*types} <= {"integer", "number", "null"} and types:
        return fields.value(word, schema)  # what is no number stays text, and the schema refuses it
    try:
        return parse(text.encode("utf-8", "surrogateescape"), "answer")
    except MalformedRequest as exc:
        raise WrongText(exc.message) from None


def _option(options: list[Any], word: str) -> Any:
    if word.isascii() and word.isdigit() and len(word) < 9 and 1 <= int(word) <= len(options):
        return options[int(word) - 1]
    for option in options:
        if word and word == _shown(option):
            return option
    raise WrongText(f"Choose a number from 1 to {len(options)}.")
