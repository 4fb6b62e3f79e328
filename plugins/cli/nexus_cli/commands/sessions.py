"""``nexus sessions``: create, show, update, renew and delete sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from nexus_cli.backends.backend import utf8
from nexus_cli.commands.execution import read_data
from nexus_cli.commands.fields import Fields
from nexus_cli.options import UsageError
from nexus_core.jsontext import parse_object
from nexus_core.text import printable

if TYPE_CHECKING:
    from nexus_cli.context import CliContext

_decode = msgspec.json.Decoder().decode


def create(cli: CliContext) -> None:
    """Run ``nexus sessions create``."""
    reply = cli.call("sessions.create")
    if not cli.output.pretty:
        cli.output.json(reply)
        return
    session_id = _decode(reply)["session_id"]
    cli.output.line(session_id)
    cli.output.note(f"nexus --session {session_id} execute ..., or NEXUS_SESSION={session_id}")


def change(cli: CliContext, words: list[str], data: str | None, version: int | None) -> None:
    """Run ``nexus sessions set``.

    Args:
        cli: The command line's context.
        words: ``NAME=VALUE`` arguments; the first may be the session's id.
        data: The value of ``--data``.
        version: The version that the session must have.

    Raises:
        UsageError: An argument is invalid.
    """
    given = words.pop(0) if words and "=" not in words[0] else ""
    changes = parse_object(read_data(data), "value of --data") if data is not None else {}
    for word in words:
        name, equals, value = utf8(word).partition("=")
        if not equals or not name:
            raise UsageError(f"{printable(word)!r} is not NAME=VALUE.")
        changes[name] = _value(value)
    if not changes and data is None:
        raise UsageError("No changes are given: nexus sessions set [ID] NAME=VALUE ... [--data JSON]")
    cli.show("sessions.set", session_id=named(cli, given), state=changes, version=version)


def named(cli: CliContext, given: str) -> str:
    """Return the id of a command's session.

    Raises:
        UsageError: Neither the command nor ``--session`` names one.
    """
    session_id = given or cli.options.session
    if not session_id:
        raise UsageError("No session is named. Add its ID, or set --session (NEXUS_SESSION).")
    return session_id


def _value(text: str) -> Any:
    """Return a value: JSON if it parses, else text; an empty one is null, which removes the member."""
    return Fields({}).value(text, None) if text else None
