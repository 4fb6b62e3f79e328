"""`CliBackend`: where requests of commands go, and the format of requests and answers."""

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
"""Called with each event of a run while a call waits for its reply."""


class CliBackend(Protocol):
    """Answers requests, one at a time."""

    where: str
    """Name of the backend in messages."""

    rate_limit: RateLimit | None
    """The caller's rate limit after the last call; None where calls are not limited."""

    shares_runs: bool
    """Whether other processes can see the runs, and answer their questions."""

    def another(self) -> CliBackend:
        """Return a backend for requests while a call goes on: the same one, if it takes several at once."""

    def call(self, request: dict[str, Any], options: Options, on_event: OnEvent | None = None) -> bytes:
        """Return the reply to a request as JSON text.

        Raises:
            NexusError: The call failed or was refused.
            KeyboardInterrupt: The user has interrupted it; the run has been cancelled.
        """

    def close(self) -> None:
        """Release all resources."""


class StreamItem(msgspec.Struct):
    """One line of an answer: an event, or at the end a reply or an error.

    An error may have a reply, which an event handler puts in its place. A line without members is a heartbeat.
    """

    event: dict[str, Any] | None = None
    reply: msgspec.Raw = msgspec.Raw()
    error: dict[str, Any] | None = None


encode_request = msgspec.json.Encoder(decimal_format="number").encode
"""Encodes a request. Numbers may be `Decimal`, to keep every digit."""

read_item = msgspec.json.Decoder(StreamItem).decode


def credentials(token: str | None) -> dict[str, str] | None:
    """Return a token as credentials. A token without a scheme is a bearer token."""
    if not token:
        return None
    return {"authorization": token if " " in token else f"Bearer {token}"}


def trace_of_environment() -> dict[str, str]:
    """Return the trace context in ``TRACEPARENT`` and ``TRACESTATE``; empty without a valid one.

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
    """Return a word of the command line that must be UTF-8.

    Raises:
        MalformedRequest: It is not UTF-8.
    """
    try:
        word.encode()
    except UnicodeEncodeError:
        raise MalformedRequest(f"The argument {printable(word)!r} is not valid UTF-8.") from None
    return word
