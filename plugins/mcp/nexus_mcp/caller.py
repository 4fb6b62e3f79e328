"""The caller: read from the HTTP request, or on stdio from the environment of the process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nexus_core import Invocation
from nexus_core.server.caller import caller_of, headers_of
from nexus_core.types.addresses import network_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from nexus_core.server.channel import Scope

PRINCIPAL = "nexus.principal"
"""Key of the authenticated principal in the scope of a request."""

VALIDITY = "nexus.validity"
"""Key of the validity of its credential."""

RATE_LIMIT = "nexus.rate_limit"
"""Key of the caller's rate limit, if the request was counted."""

BODY = "nexus.body"
"""Key of the body, as text."""

ARGUMENTS = ("params", "arguments")
"""Path of a tool's arguments in a message."""


@dataclass(frozen=True, slots=True)
class StdioMessage:
    """The request of a message over stdio: its text."""

    text: bytes


def source_of(request: Request | StdioMessage | None) -> tuple[bytes, tuple[str, ...]] | None:
    """Return the text that a tool's arguments were read from, and their path in it."""
    if request is None:
        return None
    return request.text if isinstance(request, StdioMessage) else request.scope[BODY], ARGUMENTS


def invocation_of(
    request: Request | StdioMessage | None, name: str = "", arguments: dict[str, Any] | None = None
) -> Invocation:
    """Return the call of a message; without a name, for the view of its caller.

    Args:
        request: The request of the message; None where the SDK does not provide it.
        name: The workflow.
        arguments: Its parameters.
    """
    if request is None or isinstance(request, StdioMessage):
        return Invocation(name, arguments, "mcp", **_from_environment())
    return invocation_of_scope(request.scope, headers_of(request.scope), name, arguments)


def invocation_of_scope(
    scope: Scope, headers: Mapping[bytes, bytes], name: str = "", arguments: dict[str, Any] | None = None
) -> Invocation:
    """Return the call of an HTTP request, which may not be authenticated yet."""
    invocation = Invocation(name, arguments, "mcp", principal=scope.get(PRINCIPAL), **caller_of(scope, headers))
    invocation.rate_limit, invocation.validity = scope.get(RATE_LIMIT), scope.get(VALIDITY)
    return invocation


def caller_key(caller: Invocation) -> str:
    """Return the key of a caller: its identity, or its network address where authentication is off."""
    if caller.principal is not None:
        return "user " + caller.principal.identity
    return "address " + network_of(caller.client_address) if caller.client_address else ""


def _from_environment() -> dict[str, Any]:
    """Return the caller on stdio: it started the process, with a credential and a session in the environment."""
    token = os.environ.get("NEXUS_TOKEN")
    credentials = {"authorization": token if " " in token else f"Bearer {token}"} if token else None
    return {"credentials": credentials, "session_id": os.environ.get("NEXUS_SESSION")}
