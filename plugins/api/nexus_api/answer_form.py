"""`AnswerForm`: an answer's JSON Schema as fields of an HTML form, and the answer in what the form sends."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import parse_qsl

from nexus_core import MalformedRequest, jsontext
from nexus_core.schema.report import pointer
from nexus_core.text import escaped

ANSWER = "answer"
"""Name of the field, and of the body's member in JSON. Fields of members are named ``answer.MEMBER``."""

FIELDS = 50
"""Members of an object up to which each has its own field; of more, the object is written as JSON."""

RADIO_BUTTONS = 8
"""Choices up to which all are visible at once."""

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,400})(\.[0-9]{1,400})?([eE][-+]?[0-9]{1,3})?")
_REFERENCE = "#/$defs/"
_STEPS = 20
"""References and alternatives that are followed to find the type of a field."""

_INPUTS = {"email": "email", "date": "date", "uri": "url", "time": "time"}
"""Types of inputs by the format of a text. A browser's ``datetime-local`` sends no offset."""


@dataclass(frozen=True)
class Field:
    """One field of the form.

    Attributes:
        name: Its name in the form.
        pointer: Where its value is in the body of an answer in JSON.
        kind: ``choice``, ``number``, ``text`` or ``json``.
        schema: The schema of its value, without references.
        member: The member of the answer that it is, or None where it is the whole answer.
        is_required: Whether an empty field has a value at all.
        takes_null: Whether that may be null.
        choices: The values to choose from.
    """

    name: str
    pointer: str
    kind: str
    schema: Mapping[str, Any]
    member: str | None = None
    is_required: bool = True
    takes_null: bool = False
    choices: tuple[Any, ...] = field(default=())

    @property
    def label(self) -> str:
        """What a reader knows the field by."""
        title = self.schema.get("title")
        name = title if isinstance(title, str) and title else (self.member or "Answer")
        return f"{name} (JSON)" if self.kind == "json" else name

    def html(self, typed: str | None, error: str | None) -> str:
        """Return the field with its label.

        Args:
            typed: What was typed before; None for the schema's default.
            error: Its error, or None.
        """
        shown = self._default() if typed is None else typed
        control = {"choice": self._choice, "number": self._number, "text": self._text, "json": self._json}[self.kind]
        hint = self.schema.get("description")
        below = f'<p class="hint">{text(hint)}</p>' if isinstance(hint, str) and self.member is not None else ""
        wrong = "" if error is None else f'<p class="error" role="alert">{text(error)}</p>'
        label = text(self.label)
        if self.kind == "choice" and len(self.choices) <= RADIO_BUTTONS:
            return f"<fieldset><legend>{label}</legend>{control(shown)}{below}{wrong}</fieldset>"
        if self.kind == "json":
            schema = text(json.dumps(self.schema, ensure_ascii=False, indent=2))
            below += f"<details><summary>JSON Schema</summary><pre>{schema}</pre></details>"
        return f"<label>{label}{control(shown)}</label>{wrong}{below}"

    def _default(self) -> str:
        default = self.schema.get("default")
        if default is None:
            return ""
        return default if self.kind == "text" and isinstance(default, str) else _json_text(default)

    def _attributes(self, **more: Any) -> str:
        given = {"name": self.name} | more
        required = " required" if self.is_required and not self.takes_null else ""
        return "".join(f' {key}="{escape(str(value))}"' for key, value in given.items() if value is not None) + required

    def _choice(self, shown: str) -> str:
        selected = self._place(shown)
        chosen = [place == selected for place in range(len(self.choices))]
        if len(self.choices) > RADIO_BUTTONS:
            options = (
                f'<option value="{escape(_json_text(value))}"{" selected" if is_chosen else ""}>{choice_label(value)}'
                for value, is_chosen in zip(self.choices, chosen, strict=True)
            )
            return f'<select{self._attributes()}><option value=""></option>{"".join(options)}</select>'
        return "".join(
            f'<label class="choice"><input type="radio"{self._attributes(value=_json_text(value))}'
            f"{' checked' if is_chosen else ''}> {choice_label(value)}</label>"
            for value, is_chosen in zip(self.choices, chosen, strict=True)
        )

    def _number(self, shown: str) -> str:
        low, high = self.schema.get("minimum"), self.schema.get("maximum")
        step = 1 if self.schema.get("type") == "integer" else "any"
        return f"<input{self._attributes(type='number', step=step, min=low, max=high, value=shown)}>"

    def _text(self, shown: str) -> str:
        least, most = self.schema.get("minLength"), self.schema.get("maxLength")
        if isinstance(most, int) and most > 200:
            return f"<textarea{self._attributes(rows=4, maxlength=most)}>\n{escape(shown)}</textarea>"
        kind = _INPUTS.get(str(self.schema.get("format")), "text")
        return f"<input{self._attributes(type=kind, minlength=least, maxlength=most, value=shown)}>"

    def _json(self, shown: str) -> str:
        return f"<textarea{self._attributes(rows=8, spellcheck='false')}>\n{escape(shown)}</textarea>"

    def read(self, typed: str) -> Any:
        """Return the value of what was typed. The schema is not applied to it.

        Raises:
            ValueError: It has no value. The message says why.
        """
        if self.kind == "choice":
            if (place := self._place(typed)) is None:
                raise ValueError("choose one of the options")
            return self.choices[place]
        if self.kind == "text":
            return typed.replace("\r\n", "\n")  # how forms send a line's end
        if self.kind == "number" and not _NUMBER.fullmatch(typed.strip()):
            raise ValueError(f"expected {self.schema.get('type')}")
        try:
            return jsontext.parse(typed.strip().encode(), "text")
        except MalformedRequest as exc:
            raise ValueError(exc.message) from None

    def _place(self, typed: str) -> int | None:
        """Return which choice is meant: by its JSON text, as the page has it, or by the text itself."""
        texts = [_json_text(value) for value in self.choices]
        for meant in (typed, _json_text(typed)):
            if meant in texts:
                return texts.index(meant)
        return None


class AnswerForm:
    """The form for an answer.

    A boolean is two buttons, an enumeration a choice, a text or a number an input; an object of those has one for each
    of its members. Any other answer is written as JSON.

    Args:
        schema: JSON Schema of the answer.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        plain, takes_null = _resolved(schema, schema)
        self.is_yes_or_no = plain.get("type") == "boolean" and "enum" not in plain and not takes_null
        self._is_object = False
        self.fields: list[Field] = []
        if plain.get("type") == "object" and not takes_null and (members := _members(plain, schema)) is not None:
            self.fields, self._is_object = members, True
        else:
            kind, choices = _kind(plain)
            own = schema if kind == "json" else plain  # which is shown
            self.fields = [
                Field(ANSWER, f"/{ANSWER}", kind, own, takes_null=takes_null and kind != "json", choices=choices)
            ]

    def read(self, sent: Mapping[str, str]) -> tuple[Any, dict[str, str]]:
        """Return the answer, and the errors by the pointers of fields.

        Args:
            sent: The fields as `fields_of` returns them.
        """
        found: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for each in self.fields:
            typed = sent.get(each.name, "")
            if not typed.strip() and not (each.kind == "text" and each.is_required and not each.takes_null):
                if each.takes_null and each.is_required:
                    found[each.name] = None
                elif each.is_required:
                    wrong[each.pointer] = "missing"
                continue
            try:
                found[each.name] = each.read(typed)
            except ValueError as exc:
                wrong[each.pointer] = str(exc)
        if not self._is_object:
            return found.get(ANSWER), wrong
        return {each.member: found[each.name] for each in self.fields if each.name in found}, wrong

    def html(self, sent: Mapping[str, str] | None = None, wrong: Mapping[str, str] | None = None) -> str:
        """Return the fields and the buttons.

        Args:
            sent: What was typed before, or None.
            wrong: The errors, by the pointers of fields.
        """
        wrong = wrong or {}
        known = {each.pointer for each in self.fields}
        general = "".join(
            f'<p class="error" role="alert">{text(f"{where}: {what}" if where else what)}</p>'
            for where, what in wrong.items() if where not in known
        )  # fmt: skip
        if self.is_yes_or_no:
            own = "".join(f'<p class="error" role="alert">{text(wrong[each])}</p>' for each in known & wrong.keys())
            return (
                f'{general}{own}<p class="buttons"><button name="{ANSWER}" value="true">Yes</button> '
                f'<button name="{ANSWER}" value="false">No</button></p>'
            )
        shown = (
            each.html(None if sent is None else sent.get(each.name, ""), wrong.get(each.pointer))
            for each in self.fields
        )
        return f'{general}{"".join(shown)}<p class="buttons"><button>Send</button></p>'


def fields_of(body: bytes) -> dict[str, str]:
    """Return the fields of a form's body (application/x-www-form-urlencoded), each once.

    Raises:
        MalformedRequest: It is no such body, or has a field twice.
    """
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=4 * FIELDS)
    except ValueError:
        raise MalformedRequest("The body is not the UTF-8 text of a form, or has too many fields.") from None
    found = dict(pairs)
    if len(found) < len(pairs):
        raise MalformedRequest("The form has a field twice.")
    return found


def text(value: str) -> str:
    """Return a text for HTML. What would mislead a reader's eye is visible, such as a change of direction."""
    return escape(escaped(value, keep="\n\t"))


def choice_label(value: Any) -> str:
    """Return what a choice is called, for HTML."""
    if isinstance(value, bool):
        return "Yes" if value else "No"
    return text(value if isinstance(value, str) else _json_text(value))


def _json_text(value: Any) -> str:
    return jsontext.encode(value).decode()


def _members(schema: Mapping[str, Any], root: Mapping[str, Any]) -> list[Field] | None:
    """Return a field for each member of an object, or None where one of them is no single value."""
    properties, required = schema.get("properties"), schema.get("required") or ()
    if not isinstance(properties, Mapping) or not 0 < len(properties) <= FIELDS:
        return None
    found = []
    for name, each in properties.items():
        plain, takes_null = _resolved(each, root)
        kind, choices = _kind(plain)
        if kind == "json" or not name.isprintable():
            return None
        where = pointer([ANSWER, name])
        found.append(Field(f"{ANSWER}.{name}", where, kind, plain, name, name in required, takes_null, choices))
    return found


def _kind(schema: Mapping[str, Any]) -> tuple[str, tuple[Any, ...]]:
    """Return the kind of field for a value, and its choices."""
    if "const" in schema:
        return "choice", (schema["const"],)
    if isinstance(schema.get("enum"), list):
        return "choice", tuple(schema["enum"])
    match schema.get("type"):
        case "boolean":
            return "choice", (True, False)
        case "integer" | "number":
            return "number", ()
        case "string":
            return "text", ()
    return "json", ()


def _resolved(schema: Any, root: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """Return a schema without its references to definitions, and whether null is its only alternative."""
    takes_null = False
    for _ in range(_STEPS):
        if not isinstance(schema, Mapping):
            break
        others = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf", "oneOf", "$defs")}
        reference, alternatives = schema.get("$ref"), schema.get("anyOf") or schema.get("oneOf")
        if isinstance(reference, str):
            if not reference.startswith(_REFERENCE):
                break
            schema = _joined((root.get("$defs") or {}).get(reference.removeprefix(_REFERENCE)), others)
        elif alternatives:
            values = [each for each in alternatives if each != {"type": "null"}]
            if len(values) != 1 or len(values) == len(alternatives):
                break
            takes_null = True
            schema = _joined(values[0], others)
        elif isinstance(kind := schema.get("type"), list):
            values = [each for each in kind if each != "null"]
            if len(values) != 1:
                break
            return {**schema, "type": values[0]}, takes_null or len(values) < len(kind)
        else:
            return schema, takes_null
    return {}, takes_null


def _joined(schema: Any, others: Mapping[str, Any]) -> Any:
    return {**schema, **others} if isinstance(schema, Mapping) else None
