"""The caller: read from the HTTP request, or on stdio from the environment of the process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nexus_core import Caller, Invocation
from nexus_core.server.caller import caller_of, idempotency_key_of
from nexus_core.types.addresses import network_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from nexus_core.server.channel import Scope

CALLER = "nexus.caller"
"""Key of the authenticated caller in the scope of a request."""

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


def caller_of_message(request: Request | StdioMessage | None) -> Caller:
    """Return the caller of a message; over HTTP it is authenticated.

    Args:
        request: The request of the message; None where the SDK does not provide it.
    """
    if request is None or isinstance(request, StdioMessage):
        return _of_environment()
    found: Caller = request.scope[CALLER]
    return found


def caller_of_scope(scope: Scope, headers: Mapping[bytes, bytes]) -> Caller:
    """Return the caller of an HTTP request, which is not authenticated yet."""
    return Caller("mcp", **caller_of(scope, headers))


def invocation_of(request: Request | StdioMessage | None, name: str, arguments: dict[str, Any]) -> Invocation:
    """Return the call of a message.

    Args:
        request: The request of the message; None where the SDK does not provide it.
        name: The workflow.
        arguments: Its parameters.
    """
    caller = caller_of_message(request)
    return Invocation.of(caller, name, arguments, idempotency_key_of(caller.headers or {}))


def caller_key(caller: Caller) -> str:
    """Return the key of a caller: its identity, or its network address where authentication is off."""
    if caller.principal is not None:
        return "user " + caller.principal.identity
    return "address " + network_of(caller.client_address) if caller.client_address else ""


def _of_environment() -> Caller:
    """Return the caller on stdio: it started the process, with a credential and a session in the environment."""
    token = os.environ.get("NEXUS_TOKEN")
    credentials = {"authorization": token if " " in token else f"Bearer {token}"} if token else None
    return Caller("mcp", credentials=credentials, session_id=os.environ.get("NEXUS_SESSION"))
