"""``nexus sessions``: begin, show, change, renew and revoke them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from nexus_cli.backends.backend import request_of, utf8
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
    reply = cli.backend().call(request_of("sessions.create"), cli.options)
    if not cli.output.pretty:
        cli.output.json(reply)
        return
    session_id = _decode(reply)["session_id"]
    cli.output.line(session_id)
    cli.output.note(f"nexus --session {session_id} execute ..., or NEXUS_SESSION={session_id}")


def show(cli: CliContext, command: str, session_id: str) -> None:
    """Run a command about one session, and show what it answers."""
    request = request_of(command, session_id=named(cli, session_id))
    _show(cli, cli.backend().call(request, cli.options))


def change(cli: CliContext, words: list[str], data: str | None, version: int | None) -> None:
    """Run ``nexus sessions set``.

    Args:
        cli: What the command line keeps.
        words: ``NAME=VALUE`` each; the first may be the session.
        data: What ``--data`` says.
        version: The version that the session must have.

    Raises:
        UsageError: A word is neither.
    """
    given = words.pop(0) if words and "=" not in words[0] else ""
    changes = parse_object(read_data(data), "value of --data") if data is not None else {}
    for word in words:
        name, equals, value = utf8(word).partition("=")
        if not equals or not name:
            raise UsageError(f"{printable(word)!r} is not NAME=VALUE.")
        changes[name] = _value(value)
    if not changes and data is None:
        raise UsageError("What is to change? nexus sessions set [ID] NAME=VALUE ... [--data JSON]")
    request = request_of("sessions.set", session_id=named(cli, given), state=changes, version=version)
    _show(cli, cli.backend().call(request, cli.options))


def named(cli: CliContext, given: str) -> str:
    """Return the session that a command is about.

    Raises:
        UsageError: Neither the command nor ``--session`` names one.
    """
    session_id = given or cli.options.session
    if not session_id:
        raise UsageError("Which session? Give its ID, or --session (NEXUS_SESSION).")
    return session_id


def _show(cli: CliContext, reply: bytes) -> None:
    if cli.output.pretty:
        cli.output.value(_decode(reply))
    else:
        cli.output.json(reply)


def _value(text: str) -> Any:
    """Return what a word means: JSON if it is some, else text; nothing is null, which takes a member away."""
    return Fields({}).value(text, None) if text else None
