"""`Handshakes`: authenticates WebSocket handshakes before a connection is accepted.

A page can't set headers on a WebSocket. Its credential is its cookie, or comes as a subprotocol:
``new WebSocket(url, ["nexus", "nexus.bearer." + token])``. The response names ``nexus`` alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from nexus_api.translate import caller_of_request
from nexus_core import MalformedRequest, Overloaded
from nexus_core.server.caller import headers_of
from nexus_core.types.addresses import network_of

if TYPE_CHECKING:
    from nexus_core import Platform
    from nexus_core.app.view import CallerView
    from nexus_core.server.channel import Scope

SUBPROTOCOL = "nexus"
BEARER = "nexus.bearer."

HANDSHAKE_SECONDS = 10.0
"""Seconds that a handshake may take, including authentication."""


class Handshakes:
    """Authenticates the callers of WebSocket handshakes.

    Args:
        platform: The platform.
        limit: Concurrent handshakes of one address.
    """

    def __init__(self, platform: Platform, limit: int) -> None:
        self._platform = platform
        self._limit = limit
        self._pending: Counter[str] = Counter()

    async def admit(self, scope: Scope, headers: dict[bytes, bytes]) -> CallerView:
        """Return the view of a caller that may open a WebSocket.

        Args:
            scope: The scope of the handshake.
            headers: Its headers, as `handshake_headers` returns them.

        Raises:
            NexusError: The caller may not; the error is the response.
        """
        client = scope.get("client")
        network = network_of(client[0]) if client else ""
        if self._pending[network] >= self._limit:
            raise Overloaded(
                f"{self._limit} WebSocket handshakes of this address are pending (websocket_handshakes).",
                retry_after=1,
            )
        self._pending[network] += 1
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                return await self._platform.view(caller_of_request(scope, headers))
        except TimeoutError:
            raise Overloaded(f"The handshake timed out after {HANDSHAKE_SECONDS:g} s.", retry_after=1) from None
        finally:
            self._pending[network] -= 1
            if not self._pending[network]:
                del self._pending[network]


def handshake_headers(scope: Scope) -> dict[bytes, bytes]:
    """Return the headers of a handshake, with the credential of a subprotocol as Authorization header.

    Raises:
        MalformedRequest: The handshake has two credentials.
    """
    headers = headers_of(scope)
    offered = scope.get("subprotocols") or ()
    tokens = [each[len(BEARER) :] for each in offered if each.startswith(BEARER)]
    if not tokens:
        return headers
    if len(tokens) > 1 or b"authorization" in headers:
        raise MalformedRequest("More than one credential: send Authorization, or one subprotocol nexus.bearer.")
    others = ", ".join(each for each in offered if not each.startswith(BEARER))
    return headers | {b"authorization": f"Bearer {tokens[0]}".encode(), b"sec-websocket-protocol": others.encode()}


def subprotocol_of(scope: Scope) -> str | None:
    """Return the subprotocol of the connection, if the client has offered it."""
    return SUBPROTOCOL if SUBPROTOCOL in (scope.get("subprotocols") or ()) else None
