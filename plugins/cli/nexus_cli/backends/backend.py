"""How a command reaches the workflows. Commands are written once, against `Backend`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from nexus_core.errors import MalformedRequest
from nexus_core.text import printable
from nexus_core.types.trace import parse_traceparent

if TYPE_CHECKING:
    from nexus_cli.options import Options
    from nexus_core.types.principal import RateLimit

OnEvent = Callable[[dict[str, Any]], None]
"""Takes each event of a run while a call waits for its reply."""


class Backend(Protocol):
    """Answers requests, one at a time."""

    where: str
    """What answers, for messages."""

    rate_limit: RateLimit | None
    """What is left of the caller's budget after the last call, where calls are limited."""

    def call(self, request: dict[str, Any], options: Options, on_event: OnEvent | None = None) -> bytes:
        """Return the reply to a request as JSON text.

        Raises:
            NexusError: What is wrong.
            KeyboardInterrupt: The user has given up; what the request began has been cancelled.
        """

    def close(self) -> None:
        """Let go of everything."""


class StreamItem(msgspec.Struct):
    """One line of an answer: an event, or the end as a reply or an error, which may have a reply in its place.

    One that has none of these says that the answer goes on.
    """

    event: dict[str, Any] | None = None
    reply: msgspec.Raw = msgspec.Raw()
    error: dict[str, Any] | None = None


encode_request = msgspec.json.Encoder(decimal_format="number").encode
"""Writes a request. Its numbers may be decimals, which no float holds."""

read_item = msgspec.json.Decoder(StreamItem).decode


def credentials(token: str | None) -> dict[str, str] | None:
    """Return a token as the caller's credentials. A token that names no scheme is a bearer token."""
    if not token:
        return None
    return {"authorization": token if " " in token else f"Bearer {token}"}


def trace_of_environment() -> dict[str, str]:
    """Return the trace that the command line is part of, as ``TRACEPARENT`` and ``TRACESTATE`` tell it: or nothing.

    The names are those of OpenTelemetry's environment variables for context propagation.
    """
    given = {name: os.environ.get(name.upper(), "") for name in ("traceparent", "tracestate")}
    if parse_traceparent(given["traceparent"]) is None:
        return {}
    is_fit = given["tracestate"].isascii() and given["tracestate"].isprintable()
    return {name: value for name, value in given.items() if value and (name == "traceparent" or is_fit)}


def request_of(command: str, **members: Any) -> dict[str, Any]:
    """Return a request without the members that are None.

    Raises:
        MalformedRequest: A text is not UTF-8.
    """
    given = {name: value for name, value in members.items() if value is not None}
    for value in given.values():
        if isinstance(value, str):
            utf8(value)
    return {"command": command} | given


def utf8(word: str) -> str:
    """Return a word of the command line, if it is UTF-8.

    Raises:
        MalformedRequest: It is not.
    """
    try:
        word.encode()
    except UnicodeEncodeError:
        raise MalformedRequest(f"The argument {printable(word)!r} is not valid UTF-8.") from None
    return word
