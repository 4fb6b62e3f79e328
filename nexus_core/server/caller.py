"""The caller's credentials, session and trace, read from HTTP headers for every channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core.errors import MalformedRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_core.server.channel import Scope

TEXT_LIMIT = 255
"""Characters of what names something of the caller's: a session, an idempotency key."""


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """Return a request's headers by name, in lower case. Repeated headers are one list (RFC 9110, 5.3)."""
    headers = dict(scope["headers"])
    if len(headers) == len(scope["headers"]):
        return headers
    every: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        every.setdefault(name, []).append(value)
    return {name: (b"; " if name == b"cookie" else b", ").join(values) for name, values in every.items()}


def caller_of(scope: Scope, headers: Mapping[bytes, bytes]) -> dict[str, Any]:
    """Return the members of a `Caller`, but for the channel.

    ``credentials`` (from Authorization), ``session_id`` (X-Nexus-Session), ``trace`` (traceparent, tracestate),
    ``client_address``; each None where it is not there; all ``headers``; and
    the address's ``query``.

    Args:
        scope: The request's scope.
        headers: Its headers, names in lower case.

    Raises:
        MalformedRequest: A header is longer than `TEXT_LIMIT`, or there are two credentials.
    """
    authorization = headers.get(b"authorization")
    if authorization is not None and [name for name, _ in scope["headers"]].count(b"authorization") > 1:
        raise MalformedRequest("There is more than one Authorization header.")  # whoever is in front may read the other
    client = scope.get("client")
    return {
        "credentials": None if authorization is None else {"authorization": authorization.decode("latin-1")},
        "session_id": _short(headers, b"x-nexus-session"),
        "trace": _trace(headers) if b"traceparent" in headers else None,
        "client_address": client[0] if client else None,
        "headers": headers,
        "query": scope.get("query_string", b""),
    }


def idempotency_key_of(headers: Mapping[bytes, bytes]) -> str | None:
    """Return the key of a request that may be repeated (Idempotency-Key).

    Raises:
        MalformedRequest: It is longer than `TEXT_LIMIT`.
    """
    return _short(headers, b"idempotency-key")


def check_length(name: str, value: str) -> str:
    """Return a value of the caller's, if it is not too long.

    Raises:
        MalformedRequest: It is longer than `TEXT_LIMIT`.
    """
    if len(value) > TEXT_LIMIT:
        raise MalformedRequest(f"{name} is longer than {TEXT_LIMIT} characters.")
    return value


def _short(headers: Mapping[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else check_length(name.decode(), value.decode("latin-1"))


def _trace(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    names = (b"traceparent", b"tracestate")
    return {name.decode(): headers[name].decode("latin-1") for name in names if name in headers}
